//! Downloads that end in a verified file or in an error, and never hang.
//!
//! A file is received under the name `TARGET.part`. An interrupted transfer is resumed there with a `Range`
//! request. Length, checksum and form are verified there too, and only then does the file get its final
//! name. Mirrors are tried in turn. Proxies are taken from the environment (`HTTPS_PROXY`, `ALL_PROXY`,
//! `NO_PROXY`).

mod transfer;

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use ureq::Agent;
use ureq::config::RedirectAuthHeaders;

use crate::checksum::FileSpec;
use crate::disk;
use crate::error::{Attempt, Error, Result};
use crate::event::{Event, Progress};
pub(crate) use transfer::{Cause, content_range};
use transfer::{Failure, Transfer};

/// Largest number of requests to one address for one file, even if each request makes progress. A server
/// that cuts every transfer after a few bytes must come to an end too.
const MAX_REQUESTS: usize = 50;

/// Time-outs and limits of a transfer.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Time limit for finding the server's address, and the same limit again for connecting.
    pub connect_timeout: Duration,
    /// Time without a single byte after which a transfer counts as stalled.
    pub stall_timeout: Duration,
    /// A transfer below this rate over [`HttpOptions::slow_window`] is given up as too slow.
    pub min_bytes_per_second: u64,
    /// The time span over which the rate is measured.
    pub slow_window: Duration,
    /// How often one address is asked again after a failure that may pass. Such failures are a server
    /// error, a transfer that broke off without a new byte, and a file that failed its check.
    pub retries: usize,
    /// Pause before asking again; it doubles each time.
    pub retry_pause: Duration,
    /// The longest file accepted when its length is not known beforehand, in bytes.
    pub max_bytes: u64,
    /// Whether proxies are taken from the environment.
    pub proxy_from_env: bool,
}

impl Default for HttpOptions {
    /// The defaults: 10 s to connect, 30 s without a byte, 1 KiB/s over 30 s, one retry after 1 s, and 4
    /// GiB.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            min_bytes_per_second: 1024,
            slow_window: Duration::from_secs(30),
            retries: 1,
            retry_pause: Duration::from_secs(1),
            max_bytes: 4 << 30,
            proxy_from_env: true,
        }
    }
}

/// One file to download.
#[derive(Debug, Clone)]
pub struct Download<'a> {
    /// The final path. Its folder is made if needed. An existing file is replaced only by a verified one.
    pub target: &'a Path,
    /// Full addresses of the file, best first.
    pub urls: &'a [String],
    /// The facts known about the file. Messages use its name.
    pub spec: &'a FileSpec,
    /// A further check of the received file before it gets its name.
    pub check: Option<fn(&Path) -> Result<()>>,
    /// Token that is sent to the addressed host, but not to hosts it redirects to.
    pub bearer_token: Option<&'a str>,
}

impl Download<'_> {
    fn part(&self) -> PathBuf {
        disk::with_suffix(self.target, ".part")
    }

    fn verify(&self, path: &Path) -> Result<()> {
        self.spec.verify(path)?;
        match self.check {
            Some(check) => check(path),
            None => Ok(()),
        }
    }
}

/// Downloads files within the limits of its [`HttpOptions`].
#[derive(Debug, Clone)]
pub struct HttpClient {
    agent: Agent,
    options: HttpOptions,
}

impl HttpClient {
    /// A client with these options. Nothing is sent yet.
    pub fn new(options: HttpOptions) -> Self {
        Self { agent: agent(&options, 10), options }
    }

    /// Brings one file to `download.target`.
    ///
    /// Bytes that an earlier attempt left in `TARGET.part` are used again if the checksum is known. Without
    /// a checksum nothing could tell whether they belong to the same file. Two callers must not download to
    /// the same target at the same time. [`fetch`](crate::fetch()) prevents this with a lock.
    ///
    /// # Errors
    /// [`Error::Download`] with each address and why it failed, or [`Error::Io`] if the disk is the
    /// problem, because no other mirror would solve that.
    pub fn download(&self, download: &Download<'_>, progress: &Progress<'_>) -> Result<()> {
        let part = download.part();
        if let Some(parent) = part.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk::create_folder(parent)?;
        }
        if !download.spec.has_sum() {
            disk::remove_file(&part)?;
        }
        let file = download.spec.name.as_str();
        let mut attempts = Vec::new();
        for url in download.urls {
            if self.try_address(url, download, &part, progress, &mut attempts)? {
                disk::publish(&part, download.target)?;
                progress(Event::Finished { file });
                return Ok(());
            }
        }
        Err(Error::Download { file: file.to_owned(), attempts })
    }

    /// Whether this address gave a verified file. It is asked as often as that may help.
    fn try_address(
        &self,
        url: &str,
        download: &Download<'_>,
        part: &Path,
        progress: &Progress<'_>,
        attempts: &mut Vec<Attempt>,
    ) -> Result<bool> {
        let mut transfer = Transfer::new(&self.agent, &self.options, url, download, part);
        let mut retries = 0;
        for request in 1.. {
            let failure = match transfer.run(progress) {
                Ok(()) => match download.verify(part) {
                    Ok(()) => return Ok(true),
                    Err(error @ Error::Io { .. }) => return Err(error),
                    Err(error) => {
                        disk::remove_file(part)?;
                        Failure::passing(Cause::new(error.attempt_kind(), cause_of(&error)))
                    }
                },
                Err(failure) => failure,
            };
            let (cause, again) = match failure {
                Failure::Local(error) => return Err(error),
                Failure::Final(cause) => (cause, false),
                Failure::Interrupted { cause, .. } if request >= MAX_REQUESTS => (cause, false),
                Failure::Interrupted { cause, new_bytes } if new_bytes > 0 => {
                    retries = 0;
                    (cause, true)
                }
                Failure::Interrupted { cause, .. } => (cause, retries < self.options.retries),
            };
            progress(Event::Failed { file: &download.spec.name, url, cause: &cause.text });
            if !again {
                let Cause { kind, text: cause } = cause;
                attempts.push(Attempt { url: url.to_owned(), cause, kind });
                break;
            }
            sleep(self.options.retry_pause * 2_u32.saturating_pow(retries as u32));
            retries += 1;
        }
        Ok(false)
    }
}

/// What is wrong with a received file, without the name of its temporary part.
fn cause_of(error: &Error) -> String {
    match error {
        Error::Mismatch { what, expected, found, .. } => {
            format!("the {what} is {found}, expected {expected}")
        }
        Error::NotSafetensors { reason, .. } => format!("not a safetensors file: {reason}"),
        other => other.to_string(),
    }
}

/// An agent with the time-outs of `options`.
pub(crate) fn agent(options: &HttpOptions, max_redirects: u32) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(max_redirects)
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        // Lengths, ranges and sums refer to the file itself, not to a compressed form of it.
        .accept_encoding("identity")
        .user_agent(concat!("candle-vision/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(options.connect_timeout))
        .timeout_connect(Some(options.connect_timeout))
        .timeout_send_request(Some(options.stall_timeout))
        .timeout_recv_response(Some(options.stall_timeout))
        .timeout_per_read(Some(options.stall_timeout));
    if options.proxy_from_env {
        config.build().new_agent()
    } else {
        config.proxy(None).build().new_agent()
    }
}
