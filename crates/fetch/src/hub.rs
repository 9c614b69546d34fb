//! Files of the Hugging Face hub, in the cache that Python's `huggingface_hub` uses too.
//!
//! `hf-hub` gives the addresses, the cache's layout and the user's token. The bytes come through
//! [`HttpClient`]. The download of `hf-hub` is not used, because it takes neither time-outs nor checks. It
//! was tested against a hostile server: it waits for ever on a stalled connection, accepts a flipped byte
//! or an error page as the file, and lets the server's ETag name a path outside the cache.
//!
//! Environment variables:
//! - `HF_ENDPOINT`: a mirror
//! - `HF_HOME` or `HF_HUB_CACHE`: the cache
//! - `HF_TOKEN`, or else the token file of `HF_HOME`: the token
//! - `HF_HUB_OFFLINE=1`: use only the cache

mod cache;

use std::path::PathBuf;
use std::time::Duration;

use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo, RepoType};
use ureq::Agent;
use ureq::http::header::{self, HeaderMap};

use crate::checksum::{FileSpec, Sha256Sum};
use crate::disk;
use crate::error::{Attempt, AttemptKind, Error, Result};
use crate::event::Progress;
use crate::http::{Cause, Download, HttpClient, HttpOptions, agent, content_range};
use crate::lock::Lock;
use crate::safetensors_header::check_safetensors_header;
use cache::RepoCache;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// Redirects on the hub's own host (a renamed repository) before the one to the storage host.
const MAX_RELATIVE_REDIRECTS: usize = 5;
/// How long to wait for another process that downloads the same file.
const LOCK_PATIENCE: Duration = Duration::from_secs(1800);

/// The address of the hub and the place of its cache.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// The hub or a mirror of it. The default is `https://huggingface.co`.
    pub endpoint: String,
    /// The folder that holds the `models--OWNER--NAME` folders. `None` if no home folder is known.
    pub cache_dir: Option<PathBuf>,
    /// Access token. Only private files need one.
    pub token: Option<String>,
    /// Use only what the cache holds.
    pub offline: bool,
}

impl HubOptions {
    /// The options that the environment variables named above ask for.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok(), std::env::home_dir())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let by_home = || home.map(|home| home.join(".cache/huggingface"));
        let hugging_face = variable("HF_HOME").map(PathBuf::from).or_else(by_home);
        let cache_dir = variable("HF_HUB_CACHE")
            .map(PathBuf::from)
            .or_else(|| hugging_face.clone().map(|folder| folder.join("hub")));
        // `hf-hub` reads the token beside the default place of the cache.
        let token_file = || Cache::new(hugging_face?.join("hub")).token();
        Self {
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()),
            cache_dir,
            token: variable("HF_TOKEN").or_else(token_file),
            offline: variable("HF_HUB_OFFLINE").is_some_and(|value| is_on(&value)),
        }
    }
}

fn is_on(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
}

/// One file of a model repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// `OWNER/NAME`.
    pub repo: String,
    /// The commit, 40 hexadecimal digits. A branch works too, but its file may change.
    pub revision: String,
    /// The path in the repository and the facts known about the file. The header is checked as well if the
    /// name ends in `.safetensors`.
    pub spec: FileSpec,
}

/// A client of the hub.
#[derive(Debug, Clone)]
pub struct Hub {
    http: HttpClient,
    /// Follows no redirect: the hub's own answer carries the sum, but the storage host's answer does not.
    metadata_agent: Agent,
    options: HubOptions,
}

/// The facts that the hub gives about a file before sending it.
struct Metadata {
    commit: String,
    etag: String,
    bytes: Option<u64>,
}

impl Hub {
    /// A client with these options. Nothing is sent yet.
    pub fn new(http: HttpOptions, options: HubOptions) -> Self {
        Self { metadata_agent: agent(&http, 0), http: HttpClient::new(http), options }
    }

    /// The path of `file` in the cache. The file is downloaded if needed.
    ///
    /// It is verified in either case: the length, the sum, and the safetensors header of weights. The sum
    /// is the given one, or else the one by which the hub stores the file. A cached file that fails is
    /// removed and downloaded again.
    ///
    /// # Errors
    /// - [`Error::Offline`] if it is not cached and the network may not be used
    /// - [`Error::Download`] if the hub does not give a verified file
    /// - [`Error::NoHubCache`] or [`Error::Io`] if there is no place to put it
    pub fn get(&self, file: &HubFile, progress: &Progress<'_>) -> Result<PathBuf> {
        let folder = self.options.cache_dir.clone().ok_or(Error::NoHubCache)?;
        let cache = RepoCache::new(Cache::new(folder), repo(file), file);
        if let Some(path) = cache.verified()? {
            return Ok(path);
        }
        if self.options.offline {
            return Err(Error::Offline {
                what: format!("{}/{}", file.repo, file.spec.name),
                folder: cache.folder(),
            });
        }
        let url = self.url(file)?;
        let metadata = self.metadata(&url, file).map_err(|cause| Error::Download {
            file: file.spec.name.clone(),
            attempts: vec![Attempt { url: url.clone(), cause: cause.text, kind: cause.kind }],
        })?;
        let blob = cache.blob(&metadata.etag);
        disk::create_folder(&cache.blobs())?;
        let lock = disk::with_suffix(&blob, ".lock");
        let _lock = Lock::acquire(&lock, LOCK_PATIENCE, progress)?;
        if let Some(path) = cache.verified()? {
            return Ok(path); // another process was faster
        }
        self.http.download(
            &Download {
                target: &blob,
                urls: &[url],
                spec: &expected(file, &metadata),
                check: is_safetensors(file).then_some(check_safetensors_header),
                bearer_token: self.options.token.as_deref(),
            },
            progress,
        )?;
        cache.link(&metadata.etag, &metadata.commit)
    }

    /// Whether the cache holds anything of the file's repository.
    pub(crate) fn has_cached(options: &HubOptions, file: &HubFile) -> bool {
        let folder = |cache: &PathBuf| cache.join(repo(file).folder_name());
        options.cache_dir.as_ref().map(folder).is_some_and(|folder| folder.is_dir())
    }

    /// The address of the file, as `hf-hub` builds it.
    fn url(&self, file: &HubFile) -> Result<String> {
        let unused = Cache::new(PathBuf::new());
        let api = ApiBuilder::from_cache(unused)
            .with_endpoint(self.options.endpoint.trim_end_matches('/').to_owned())
            .with_token(None)
            .build()
            .map_err(|error| Error::Download {
                file: file.spec.name.clone(),
                attempts: vec![Attempt {
                    url: self.options.endpoint.clone(),
                    cause: error.to_string(),
                    kind: AttemptKind::NoFile,
                }],
            })?;
        Ok(api.repo(repo(file)).url(&file.spec.name))
    }

    /// Commit, ETag and length of the file. Each is checked, because they become paths in the cache.
    fn metadata(&self, url: &str, file: &HubFile) -> std::result::Result<Metadata, Cause> {
        let mut url = url.to_owned();
        let mut hops = 0;
        let response = loop {
            let response = self.ask(&url)?;
            let location = text(response.headers(), "location").unwrap_or_default();
            let is_relative = location.starts_with('/') && !location.starts_with("//");
            let is_answer = response.headers().contains_key("x-linked-etag");
            if !response.status().is_redirection() || !is_relative || is_answer {
                break response;
            }
            hops += 1;
            if hops > MAX_RELATIVE_REDIRECTS {
                return Err(Cause::no_file("the hub redirects in a circle"));
            }
            url = format!("{}{location}", origin(&url));
        };
        let status = response.status();
        if !status.is_success() && !status.is_redirection() {
            return Err(Cause::no_file(format!("the hub answered {status}")));
        }
        read_metadata(response.headers(), file).map_err(Cause::no_file)
    }

    fn ask(&self, url: &str) -> std::result::Result<ureq::http::Response<ureq::Body>, Cause> {
        let mut request = self.metadata_agent.get(url).header(header::RANGE, "bytes=0-0");
        if let Some(token) = &self.options.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.call().map_err(|error| Cause::of(&error))
    }
}

fn read_metadata(headers: &HeaderMap, file: &HubFile) -> std::result::Result<Metadata, String> {
    let commit = text(headers, "x-repo-commit").ok_or("the hub named no commit")?;
    if !is_hex(commit, &[40]) {
        return Err(format!("the hub named `{}` as commit", commit.escape_debug()));
    }
    if is_hex(&file.revision, &[40]) && !file.revision.eq_ignore_ascii_case(commit) {
        return Err(format!("the hub offers commit {commit}, expected {}", file.revision));
    }
    let etag = text(headers, "x-linked-etag")
        .or_else(|| text(headers, "etag"))
        .ok_or("the hub named no ETag")?;
    let etag = etag.trim_start_matches("W/").trim_matches('"');
    if !is_hex(etag, &[40, 64]) {
        let shown = etag.escape_debug();
        return Err(format!("the hub named `{shown}` as ETag, which is no checksum"));
    }
    let linked = text(headers, "x-linked-size").and_then(|size| size.trim().parse().ok());
    Ok(Metadata {
        commit: commit.to_ascii_lowercase(),
        etag: etag.to_ascii_lowercase(),
        bytes: linked.or_else(|| content_range(headers).map(|(_, total)| total)),
    })
}

/// The file as it must arrive: the facts known here, completed by the hub's. The ETag of a large file is
/// its sha256. The ETag of a small file is git's sha1, which is of no use here.
fn expected(file: &HubFile, metadata: &Metadata) -> FileSpec {
    let by_etag = || match metadata.etag.len() {
        64 => Sha256Sum::new(&metadata.etag).ok(),
        _ => None,
    };
    FileSpec {
        name: file.spec.name.clone(),
        bytes: file.spec.bytes.or(metadata.bytes),
        sha256: file.spec.sha256.clone().or_else(by_etag),
        md5: None,
    }
}

fn is_safetensors(file: &HubFile) -> bool {
    file.spec.name.ends_with(".safetensors")
}

fn repo(file: &HubFile) -> Repo {
    Repo::with_revision(file.repo.clone(), RepoType::Model, file.revision.clone())
}

/// Scheme and host of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    match url[host..].find('/') {
        Some(end) => &url[..host + end],
        None => url,
    }
}

fn is_hex(text: &str, lengths: &[usize]) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(variables: &[(&str, &str)], home: Option<&str>) -> HubOptions {
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        HubOptions::from_variables(variable, home.map(PathBuf::from))
    }

    #[test]
    fn the_environment_is_heard() {
        let plain = options(&[], Some("/home/ada"));
        assert_eq!(plain.endpoint, "https://huggingface.co");
        assert_eq!(plain.cache_dir, Some("/home/ada/.cache/huggingface/hub".into()));
        assert!(!plain.offline && plain.token.is_none());

        let set = options(
            &[
                ("HF_ENDPOINT", "https://mirror.example"),
                ("HF_HOME", "/big/hf"),
                ("HF_TOKEN", "secret"),
                ("HF_HUB_OFFLINE", "1"),
            ],
            None,
        );
        assert_eq!(set.endpoint, "https://mirror.example");
        assert_eq!(set.cache_dir, Some("/big/hf/hub".into()));
        assert_eq!(set.token.as_deref(), Some("secret"));
        assert!(set.offline);

        let cache = options(&[("HF_HOME", "/big/hf"), ("HF_HUB_CACHE", "/fast")], None);
        assert_eq!(cache.cache_dir, Some("/fast".into()));
        assert_eq!(options(&[("HF_HOME", "")], None).cache_dir, None);
    }

    #[test]
    fn the_token_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "from-file\n").unwrap();
        let home = folder.path().to_str().unwrap();
        assert_eq!(options(&[("HF_HOME", home)], None).token.as_deref(), Some("from-file"));
    }

    #[test]
    fn origins() {
        assert_eq!(origin("https://hub.example/a/b"), "https://hub.example");
        assert_eq!(origin("http://127.0.0.1:80"), "http://127.0.0.1:80");
    }

    #[test]
    fn offline_is_what_python_reads_as_true() {
        for on in ["1", "ON", "Yes", "true"] {
            assert!(is_on(on), "{on}");
        }
        for off in ["0", "off", "no", "false", "2"] {
            assert!(!is_on(off), "{off}");
        }
    }
}
