//! The hub behind its checks: the faults that `hf-hub` lets through end in a verified file or an
//! error here.

use std::path::{Path, PathBuf};

use candle_vision_fetch::{Error, Hub, HubFile, HubOptions, Result};
use tempfile::TempDir;

use crate::support::{Reply, Request, Server, quick, safetensors, soon, spec, sum_of, unknown};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const FILE: &str = "model.safetensors";

/// The hub's answer to a request for metadata, which redirects to the storage.
fn metadata(etag: &str, commit: &str, bytes: usize) -> Reply {
    Reply::redirect("/storage")
        .header("X-Repo-Commit", commit)
        .header("X-Linked-Etag", format!("\"{etag}\""))
        .header("X-Linked-Size", bytes.to_string())
}

/// A hub with one file, whose storage answers through `storage`.
fn hub_with(
    file: &[u8],
    storage: impl Fn(&Request, &[u8]) -> Reply + Send + Sync + 'static,
) -> Server {
    let (etag, file) = (sum_of(file), file.to_vec());
    Server::start(move |request| match request.path.as_str() {
        "/storage" => storage(request, &file),
        path if path == format!("/owner/net/resolve/{COMMIT}/{FILE}") => {
            metadata(&etag, COMMIT, file.len())
        }
        _ => Reply::page("404 Not Found"),
    })
}

struct Client {
    cache: TempDir,
    endpoint: String,
}

impl Client {
    fn of(server: &Server) -> Self {
        Self { cache: tempfile::tempdir().unwrap(), endpoint: server.url.clone() }
    }

    fn repo(&self) -> PathBuf {
        self.cache.path().join("hub/models--owner--net")
    }

    fn get_as(&self, file: &HubFile, offline: bool) -> Result<PathBuf> {
        let options = HubOptions {
            endpoint: self.endpoint.clone(),
            cache_dir: Some(self.cache.path().join("hub")),
            token: None,
            offline,
        };
        soon(|| Hub::new(quick(), options).get(file, &|_| {}))
    }

    fn get(&self) -> Result<PathBuf> {
        self.get_as(&wanted(), false)
    }

    #[track_caller]
    fn succeeds(&self, file: &[u8]) -> PathBuf {
        let path = self.get().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), file);
        path
    }

    #[track_caller]
    fn fails(&self, cause: &str) {
        let error = self.get().unwrap_err();
        assert!(matches!(error, Error::Download { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(FILE) && text.contains(cause), "{text}");
        // Nothing in the cache passes for the file.
        assert!(self.get_as(&wanted(), true).is_err());
    }
}

fn wanted() -> HubFile {
    HubFile { repo: "owner/net".to_owned(), revision: COMMIT.to_owned(), spec: unknown(FILE) }
}

fn files_under(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap();
    let count = |path: PathBuf| if path.is_dir() { files_under(&path) } else { 1 };
    entries.map(|entry| count(entry.unwrap().path())).sum()
}

#[test]
fn a_file_lands_in_the_cache_as_python_lays_it_out() {
    let file = safetensors(1000);
    let server = hub_with(&file, Reply::file);
    let client = Client::of(&server);
    let path = client.succeeds(&file);
    let repo = client.repo();
    assert_eq!(path, repo.join("snapshots").join(COMMIT).join(FILE));
    assert_eq!(std::fs::read(repo.join("blobs").join(sum_of(&file))).unwrap(), file);
    assert_eq!(std::fs::read_to_string(repo.join("refs").join(COMMIT)).unwrap(), COMMIT);
    // hf-hub itself finds it there.
    let cache = hf_hub::Cache::new(client.cache.path().join("hub"));
    let found = cache.repo(hf_hub::Repo::with_revision(
        "owner/net".to_owned(),
        hf_hub::RepoType::Model,
        COMMIT.to_owned(),
    ));
    assert_eq!(found.get(FILE), Some(path));
}

#[test]
fn a_cached_file_needs_no_request_and_works_offline() {
    let file = safetensors(10);
    let server = hub_with(&file, Reply::file);
    let client = Client::of(&server);
    client.succeeds(&file);
    let asked = server.requests().len();
    client.succeeds(&file);
    client.get_as(&wanted(), true).unwrap();
    assert_eq!(server.requests().len(), asked);
}

#[test]
fn python_s_cache_without_refs_is_used() {
    let file = safetensors(10);
    let client = Client::of(&hub_with(&file, Reply::file));
    client.succeeds(&file);
    std::fs::remove_dir_all(client.repo().join("refs")).unwrap();
    client.get_as(&wanted(), true).unwrap();
}

#[test]
fn offline_without_the_file_names_the_remedy() {
    let server = hub_with(&safetensors(10), Reply::file);
    let error = Client::of(&server).get_as(&wanted(), true).unwrap_err().to_string();
    assert!(
        error.contains("owner/net/model.safetensors") && error.contains("from another machine"),
        "{error}"
    );
    assert!(server.requests().is_empty());
}

#[test]
fn a_branch_is_resolved_to_its_commit() {
    let file = safetensors(10);
    let (etag, served) = (sum_of(&file), file.clone());
    let server = Server::start(move |request| match request.path.as_str() {
        "/storage" => Reply::file(request, &served),
        "/owner/net/resolve/main/model.safetensors" => metadata(&etag, COMMIT, served.len()),
        _ => Reply::page("404 Not Found"),
    });
    let client = Client::of(&server);
    let mut main = wanted();
    main.revision = "main".to_owned();
    let path = client.get_as(&main, false).unwrap();
    assert!(path.ends_with(format!("snapshots/{COMMIT}/{FILE}")));
    client.get_as(&main, true).unwrap();
}

#[test]
fn a_renamed_repository_is_followed() {
    let file = safetensors(10);
    let (etag, served) = (sum_of(&file), file.clone());
    let server = Server::start(move |request| match request.path.as_str() {
        "/storage" => Reply::file(request, &served),
        "/new" => metadata(&etag, COMMIT, served.len()),
        _ => Reply::redirect("/new"),
    });
    // The body's request is redirected twice: by the hub, then to the storage.
    Client::of(&server).succeeds(&file);
    let asked: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(asked[1], "/new");
    assert_eq!(asked.last().map(String::as_str), Some("/storage"));
}

#[test]
fn an_etag_cannot_lead_out_of_the_cache() {
    for etag in ["../../../../evil", "/tmp/evil", "", "12345", &"g".repeat(64)] {
        let etag = etag.to_owned();
        let server = Server::start(move |request| match request.path.as_str() {
            "/storage" => Reply::ok(safetensors(10)),
            _ => metadata(&etag, COMMIT, 100),
        });
        let client = Client::of(&server);
        client.fails("ETag");
        assert_eq!(files_under(client.cache.path()), 0);
    }
}

#[test]
fn a_commit_must_be_the_pinned_one() {
    let etag = "0".repeat(64);
    for commit in ["89abcdef0123456789abcdef0123456789abcdef", "../evil", ""] {
        let (etag, commit) = (etag.clone(), commit.to_owned());
        let server = Server::start(move |_| metadata(&etag, &commit, 100));
        Client::of(&server).fails("commit");
    }
}

#[test]
fn a_flipped_byte_is_found_by_the_hub_s_own_sum() {
    let file = safetensors(1000);
    let flip = |file: &[u8]| {
        let mut flipped = file.to_vec();
        flipped[2000] ^= 1;
        flipped
    };
    let first = std::sync::atomic::AtomicBool::new(true);
    let server = hub_with(&file, move |request, file| {
        match first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            true => Reply::ok(flip(file)),
            false => Reply::file(request, file),
        }
    });
    Client::of(&server).succeeds(&file);

    let server = hub_with(&file, move |_, file| Reply::ok(flip(file)));
    Client::of(&server).fails("sha256");
}

#[test]
fn an_error_page_is_never_the_model() {
    let server = hub_with(&safetensors(10), |_, _| Reply::page("403 Forbidden"));
    Client::of(&server).fails("403");

    // The same page with a plausible status, type and length, and an ETag that says nothing.
    let page = b"<html>please log in</html>";
    let server = Server::start(move |request| match request.path.as_str() {
        "/storage" => Reply::ok(&page[..]),
        _ => metadata(&"0".repeat(40), COMMIT, page.len()),
    });
    Client::of(&server).fails("safetensors");
}

#[test]
fn a_missing_file_and_a_broken_hub_are_named() {
    let server = Server::start(|_| Reply::page("404 Not Found"));
    Client::of(&server).fails("404");
    let server = Server::start(|_| Reply::ok("hello"));
    Client::of(&server).fails("no commit");
    let server = Server::start(|_| Reply::redirect("/again"));
    Client::of(&server).fails("circle");
}

#[test]
fn a_stalled_hub_or_storage_is_given_up() {
    let mute = || {
        let mut reply = Reply::ok("");
        reply.mute = true;
        reply
    };
    let server = Server::start(move |_| mute());
    Client::of(&server).fails("timeout");
    let server = hub_with(&safetensors(10), move |_, _| mute());
    Client::of(&server).fails("timeout");
}

#[test]
fn a_cut_transfer_is_resumed() {
    let file = safetensors(10_000);
    let server = hub_with(&file, |request, file| {
        let mut reply = Reply::file(request, file);
        reply.cut_after = request.start().is_none().then_some(30_000);
        reply
    });
    Client::of(&server).succeeds(&file);
    assert_eq!(server.sent(), file.len());
}

#[test]
fn a_damaged_cache_is_repaired() {
    let file = safetensors(1000);
    let client = Client::of(&hub_with(&file, Reply::file));
    let path = client.succeeds(&file);
    let mut damaged = file.clone();
    damaged[3000] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    client.succeeds(&file);
    std::fs::write(&path, &file[..1000]).unwrap();
    assert!(matches!(client.get_as(&wanted(), true), Err(Error::Offline { .. })));
    client.succeeds(&file);
}

#[test]
fn our_own_sum_outweighs_the_hub_s() {
    let file = safetensors(10);
    let client = Client::of(&hub_with(&file, Reply::file));
    let mut pinned = wanted();
    pinned.spec = spec(FILE, &safetensors(11));
    let error = client.get_as(&pinned, false).unwrap_err().to_string();
    assert!(error.contains("expected"), "{error}");
}

#[test]
fn two_at_a_time_download_once() {
    let file = safetensors(10_000);
    let server = hub_with(&file, |request, file| {
        let mut reply = Reply::file(request, file);
        reply.drip = Some((4000, std::time::Duration::from_millis(10)));
        reply
    });
    let client = Client::of(&server);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| client.get().unwrap())).collect();
        for thread in threads {
            assert_eq!(std::fs::read(thread.join().unwrap()).unwrap(), file);
        }
    });
    assert_eq!(server.sent(), file.len());
}

#[test]
fn the_token_goes_to_the_hub() {
    let file = safetensors(10);
    let server = hub_with(&file, Reply::file);
    let cache = tempfile::tempdir().unwrap();
    let options = HubOptions {
        endpoint: format!("{}/", server.url),
        cache_dir: Some(cache.path().to_path_buf()),
        token: Some("secret".to_owned()),
        offline: false,
    };
    Hub::new(quick(), options).get(&wanted(), &|_| {}).unwrap();
    let token = Some("Bearer secret");
    assert!(server.requests().iter().all(|request| request.header("authorization") == token));
}
