//! One request and the bytes that it brings.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Instant;

use ureq::http::header::{self, HeaderMap};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::{Download, HttpOptions};
use crate::error::{AttemptKind, Error};
use crate::event::{Event, Progress};

const CHUNK: usize = 1 << 16;

/// Why a transfer did not bring the whole file.
pub(super) enum Failure {
    /// The disk or the file system failed. No other address would help.
    Local(Error),
    /// Asking this address again would give the same result.
    Final(Cause),
    /// The same address is worth another try.
    Interrupted { cause: Cause, new_bytes: u64 },
}

/// Why an address failed.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    pub(crate) kind: AttemptKind,
    pub(crate) text: String,
}

impl Cause {
    pub(crate) fn new(kind: AttemptKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// The server does not give the file.
    pub(crate) fn no_file(text: impl Into<String>) -> Self {
        Self::new(AttemptKind::NoFile, text)
    }

    /// The cause that the HTTP client gives for a request without an answer.
    pub(crate) fn of(error: &ureq::Error) -> Self {
        let kind = match error {
            ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::ConnectProxyFailed(_)
            | ureq::Error::InvalidProxyUrl
            | ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => {
                AttemptKind::NoConnection
            }
            ureq::Error::Io(io) if is_unreachable(io.kind()) => AttemptKind::NoConnection,
            _ => AttemptKind::NoFile,
        };
        Self::new(kind, error.to_string())
    }
}

fn is_unreachable(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable,
    };
    [AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable]
        .contains(&kind)
}

impl Failure {
    /// A failure that may pass, with no bytes gained.
    pub(super) fn passing(cause: Cause) -> Self {
        Self::Interrupted { cause, new_bytes: 0 }
    }
}

/// Fills `part` from one address and survives interruptions.
pub(super) struct Transfer<'a> {
    agent: &'a Agent,
    options: &'a HttpOptions,
    url: &'a str,
    download: &'a Download<'a>,
    part: &'a Path,
    /// The strong ETag of the bytes received so far. Bytes of a changed file must not be mixed with them.
    etag: Option<String>,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(
        agent: &'a Agent,
        options: &'a HttpOptions,
        url: &'a str,
        download: &'a Download<'a>,
        part: &'a Path,
    ) -> Self {
        Self { agent, options, url, download, part, etag: None }
    }

    /// Requests what `part` still lacks and appends it.
    pub(super) fn run(&mut self, progress: &Progress<'_>) -> Result<(), Failure> {
        let mut offset = self.received()?;
        match self.download.spec.bytes {
            Some(bytes) if offset == bytes => return Ok(()),
            // Without a sum or an ETag nothing would show that both halves belong to one file.
            _ if !self.download.spec.has_sum() && self.etag.is_none() => offset = 0,
            Some(bytes) if offset > bytes => offset = 0,
            _ => {}
        }
        let response = self.request(offset)?;
        let (start, total) = self.accept(&response, offset)?;
        self.etag = strong_etag(response.headers());
        progress(Event::Started {
            file: &self.download.spec.name,
            from: self.url,
            resumed: start,
            total,
        });
        let file = self.open_part(start)?;
        self.receive(response, file, start, total, progress)
    }

    fn received(&self) -> Result<u64, Failure> {
        match std::fs::metadata(self.part) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(self.local("read", error)),
        }
    }

    fn request(&self, offset: u64) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(self.url);
        if let Some(token) = self.download.bearer_token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if offset > 0 {
            request = request.header(header::RANGE, format!("bytes={offset}-"));
            if let Some(etag) = &self.etag {
                request = request.header(header::IF_RANGE, etag);
            }
        }
        request.call().map_err(|error| match error {
            // Waiting and asking again helps only with servers that exist.
            ureq::Error::HostNotFound
            | ureq::Error::BadUri(_)
            | ureq::Error::TooManyRedirects
            | ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => {
                Failure::Final(Cause::of(&error))
            }
            ureq::Error::Io(ref io) if io.kind() == io::ErrorKind::ConnectionRefused => {
                Failure::Final(Cause::new(AttemptKind::NoConnection, io.to_string()))
            }
            error => Failure::passing(Cause::of(&error)),
        })
    }

    /// The offset in the file where the answer's bytes begin, and the length of the whole file.
    fn accept(
        &self,
        response: &Response<Body>,
        offset: u64,
    ) -> Result<(u64, Option<u64>), Failure> {
        let status = response.status();
        let (start, total) = match status {
            StatusCode::OK => (0, content_length(response.headers())),
            StatusCode::PARTIAL_CONTENT => match content_range(response.headers()) {
                Some((start, total)) if start == offset => (start, Some(total)),
                _ => return Err(self.restart("the server sent another range than asked for")?),
            },
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(self.restart("the server has fewer bytes than were received before")?);
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Failure::passing(Cause::no_file(format!(
                    "the server answered {status}"
                ))));
            }
            status => {
                let cause = Cause::no_file(format!("the server answered {status}"));
                return Err(Failure::Final(cause));
            }
        };
        if is_web_page(response.headers()) {
            let cause = "the server sent a web page instead of the file (a login or error page?)";
            return Err(Failure::Final(Cause::no_file(cause)));
        }
        match (total, self.download.spec.bytes) {
            (Some(total), Some(bytes)) if total != bytes => {
                let text = format!("the server offers {total} bytes, expected {bytes}");
                Err(Failure::Final(Cause::new(AttemptKind::OtherFile, text)))
            }
            (Some(total), None) if total > self.options.max_bytes => Err(self.too_long(total)),
            (total, bytes) => Ok((start, bytes.or(total))),
        }
    }

    /// Drops the bytes received so far.
    fn restart(&self, cause: &str) -> Result<Failure, Failure> {
        self.open_part(0)?;
        Ok(Failure::passing(Cause::no_file(cause)))
    }

    fn too_long(&self, bytes: u64) -> Failure {
        let limit = self.options.max_bytes;
        let text = format!("the file has {bytes} bytes, the limit is {limit}");
        Failure::Final(Cause::new(AttemptKind::OtherFile, text))
    }

    /// Opens `part` for writing at `start` and cuts off the bytes behind it.
    fn open_part(&self, start: u64) -> Result<File, Failure> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(start == 0)
            .append(start > 0)
            .write(true)
            .open(self.part);
        file.map_err(|error| self.local("write", error))
    }

    fn receive(
        &self,
        response: Response<Body>,
        mut file: File,
        start: u64,
        total: Option<u64>,
        progress: &Progress<'_>,
    ) -> Result<(), Failure> {
        let end = total.unwrap_or(self.options.max_bytes);
        let mut reader = response.into_body().into_reader();
        let mut buffer = vec![0; CHUNK];
        let mut done = start;
        let mut pace = Pace::new(self.options);
        loop {
            let interrupted = |cause: String| Failure::Interrupted {
                cause: Cause::no_file(format!(
                    "{cause} after {done} of {} bytes",
                    length_text(total)
                )),
                new_bytes: done - start,
            };
            let read = match reader.read(&mut buffer) {
                Ok(0) => {
                    return match total {
                        Some(total) if done < total => {
                            Err(interrupted("the connection was cut".to_owned()))
                        }
                        _ => Ok(()),
                    };
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(interrupted(error.to_string())),
            };
            if done + read as u64 > end {
                let cause = match total {
                    Some(total) => format!("the server sent more than the {total} bytes expected"),
                    None => format!("the file is longer than the limit of {end} bytes"),
                };
                return Err(Failure::Final(Cause::new(AttemptKind::OtherFile, cause)));
            }
            file.write_all(&buffer[..read]).map_err(|error| self.local("write", error))?;
            done += read as u64;
            progress(Event::Advanced { file: &self.download.spec.name, done, total });
            if let Some(cause) = pace.too_slow(read as u64) {
                return Err(Failure::Final(Cause::no_file(cause)));
            }
        }
    }

    fn local(&self, action: &'static str, error: io::Error) -> Failure {
        Failure::Local(Error::io(action, self.part)(error))
    }
}

/// Detects a server that sends just enough bytes not to count as stalled.
struct Pace {
    since: Instant,
    bytes: u64,
    window: std::time::Duration,
    min_bytes_per_second: u64,
}

impl Pace {
    fn new(options: &HttpOptions) -> Self {
        Self {
            since: Instant::now(),
            bytes: 0,
            window: options.slow_window,
            min_bytes_per_second: options.min_bytes_per_second,
        }
    }

    fn too_slow(&mut self, read: u64) -> Option<String> {
        self.bytes += read;
        let elapsed = self.since.elapsed();
        if elapsed < self.window {
            return None;
        }
        let rate = (self.bytes as f64 / elapsed.as_secs_f64()) as u64;
        self.since = Instant::now();
        self.bytes = 0;
        (rate < self.min_bytes_per_second).then(|| {
            let least = self.min_bytes_per_second;
            format!("too slow: {rate} bytes a second, the least accepted is {least}")
        })
    }
}

fn length_text(total: Option<u64>) -> String {
    total.map_or_else(|| "an unknown number of".to_owned(), |total| total.to_string())
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, header::CONTENT_LENGTH)?.trim().parse().ok()
}

/// The start and the total of `Content-Range: bytes START-END/TOTAL`.
pub(crate) fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let range = text(headers, header::CONTENT_RANGE)?.strip_prefix("bytes ")?;
    let (span, total) = range.split_once('/')?;
    let (start, _) = span.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()?))
}

fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let etag = text(headers, header::ETAG)?;
    etag.starts_with('"').then(|| etag.to_owned())
}

fn is_web_page(headers: &HeaderMap) -> bool {
    text(headers, header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
