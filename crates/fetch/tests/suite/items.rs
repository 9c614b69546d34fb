//! Whole items into a data folder: from the network, from a local folder, twice, at once, offline.

use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use candle_vision_fetch::{
    ArchiveKind, Content, Error, FetchOptions, Fetched, FolderCount, HubFile, HubOptions, Item,
    Layout, Limits, Origin, Result, Source, catalog, fetch, find, is_present,
};

use crate::support::{Reply, Server, names, noise, quick, safetensors, soon, spec, sum_of};

pub(crate) fn options(data_dir: &Path) -> FetchOptions<'static> {
    FetchOptions {
        http: quick(),
        hub: HubOptions {
            endpoint: "http://127.0.0.1:9".to_owned(),
            cache_dir: Some(data_dir.with_file_name("hub")),
            token: None,
            offline: false,
        },
        lock_patience: Duration::from_secs(10),
        ..FetchOptions::new(data_dir)
    }
}

pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn other(&self) -> PathBuf {
        let other = self.folder.path().join("other");
        std::fs::create_dir_all(&other).unwrap();
        other
    }

    pub(crate) fn fetch(&self, item: &Item) -> Result<Fetched> {
        soon(|| fetch(item, &options(&self.data())))
    }

    pub(crate) fn fetch_from(&self, item: &Item, from: &Path) -> Result<Fetched> {
        let options = FetchOptions { from: Some(from.to_path_buf()), ..options(&self.data()) };
        soon(|| fetch(item, &options))
    }

    pub(crate) fn fetch_offline(&self, item: &Item) -> Result<Fetched> {
        let options = FetchOptions { offline: true, ..options(&self.data()) };
        soon(|| fetch(item, &options))
    }
}

fn digits() -> [(&'static str, Vec<u8>); 2] {
    [("images.gz", noise(50_000)), ("labels.gz", noise(300))]
}

/// Two files, as MNIST has four.
fn files_item(mirrors: &[String]) -> Item {
    let files: Vec<_> = digits().iter().map(|(name, bytes)| spec(name, bytes)).collect();
    Item {
        name: "digits".to_owned(),
        about: "two files".to_owned(),
        layouts: vec![Layout {
            folder: "digits".to_owned(),
            content: Content::Files(files.clone()),
        }],
        sources: vec![Source::Files {
            folder: "digits".to_owned(),
            files,
            mirrors: mirrors.iter().map(|mirror| format!("{mirror}/")).collect(),
        }],
    }
}

fn file_server() -> Server {
    Server::start(|request| {
        let name = request.path.trim_start_matches('/');
        match digits().iter().find(|(known, _)| *known == name) {
            Some((_, bytes)) => Reply::file(request, bytes),
            None => Reply::page("404 Not Found"),
        }
    })
}

fn write_digits(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, bytes) in digits() {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

/// A zip with `images/train/{ants,bees}/*.jpg`, and the item it belongs to.
pub(crate) fn tree_item(mirror: &str) -> (Item, Vec<u8>) {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in ["train/ants/1.jpg", "train/ants/2.JPEG", "train/bees/1.jpg", "train/bees/x.gif"] {
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file(format!("images/{name}"), options).unwrap();
        zip.write_all(name.as_bytes()).unwrap();
    }
    let archive = zip.finish().unwrap().into_inner();
    let count = |folder: &str, files| FolderCount { folder: folder.to_owned(), files };
    let item = Item {
        name: "insects".to_owned(),
        about: "a tree".to_owned(),
        layouts: vec![Layout {
            folder: "insects".to_owned(),
            content: Content::Tree {
                extensions: vec!["jpg".to_owned(), "jpeg".to_owned()],
                folders: vec![count("train/ants", 2), count("train/bees", 1)],
            },
        }],
        sources: vec![Source::Archive {
            file: spec("images.zip", &archive),
            kind: ArchiveKind::Zip,
            mirrors: vec![format!("{mirror}/")],
            root: "images".to_owned(),
            folder: "insects".to_owned(),
            limits: Limits::default(),
        }],
    };
    (item, archive)
}

fn weights_item(hub: Option<HubFile>, pickle: &[u8], mirror: &str) -> Item {
    let to = "weights/net.safetensors".to_owned();
    let on_hub = hub.map(|file| Source::Hub { file, to: to.clone() });
    let pth =
        Source::Pth { file: spec("net-0123.pth", pickle), mirrors: vec![format!("{mirror}/")], to };
    Item {
        name: "net".to_owned(),
        about: "weights".to_owned(),
        layouts: vec![Layout {
            folder: "weights".to_owned(),
            content: Content::Weights {
                name: "net.safetensors".to_owned(),
                known: vec![spec("net.safetensors", &safetensors(100))],
            },
        }],
        sources: on_hub.into_iter().chain([pth]).collect(),
    }
}

#[test]
fn files_are_fetched_once_and_again_only_if_damaged() {
    let server = file_server();
    let item = files_item(std::slice::from_ref(&server.url));
    let place = Place::new();
    assert!(!is_present(&item, &place.data()));
    let fetched = place.fetch(&item).unwrap();
    assert_eq!(fetched.origin, Origin::Network);
    let expected = [place.data().join("digits/images.gz"), place.data().join("digits/labels.gz")];
    assert_eq!(fetched.files, expected);
    assert!(is_present(&item, &place.data()));

    assert_eq!(place.fetch(&item).unwrap().origin, Origin::AlreadyPresent);
    assert_eq!(server.requests().len(), 2);

    // Same length, other bytes: only this file is fetched again.
    std::fs::write(&expected[1], &noise(301)[1..]).unwrap();
    assert_eq!(place.fetch(&item).unwrap().origin, Origin::Network);
    assert_eq!(server.requests().len(), 3);
    assert_eq!(names(&place.data().join("digits")), ["images.gz", "labels.gz"]);
}

#[test]
fn damage_is_told_before_it_is_mended() {
    let server = file_server();
    let item = files_item(std::slice::from_ref(&server.url));
    let place = Place::new();
    write_digits(&place.data().join("digits"));
    std::fs::write(place.data().join("digits/labels.gz"), "cut").unwrap();
    let told = RefCell::new(Vec::new());
    let progress = |event: candle_vision_fetch::Event<'_>| {
        if let candle_vision_fetch::Event::Incomplete { cause, .. } = event {
            told.borrow_mut().push(cause.to_owned());
        }
    };
    let options = FetchOptions { progress: &progress, ..options(&place.data()) };
    fetch(&item, &options).unwrap();
    let told = told.into_inner();
    assert!(told[0].contains("labels.gz") && told[0].contains("3 bytes"), "{told:?}");
}

#[test]
fn two_writers_fetch_once() {
    let server = Server::start(|request| {
        let name = request.path.trim_start_matches('/');
        let (_, bytes) = digits().into_iter().find(|(known, _)| *known == name).unwrap();
        let mut reply = Reply::file(request, &bytes);
        reply.drip = Some((5000, Duration::from_millis(10)));
        reply
    });
    let item = files_item(std::slice::from_ref(&server.url));
    let place = Place::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| place.fetch(&item).unwrap())).collect();
        let origins: Vec<Origin> =
            threads.into_iter().map(|thread| thread.join().unwrap().origin).collect();
        let fetched = origins.iter().filter(|&&origin| origin == Origin::Network);
        assert_eq!(fetched.count(), 1, "{origins:?}");
    });
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_held_folder_is_an_error_after_the_patience() {
    let place = Place::new();
    std::fs::create_dir(place.data()).unwrap();
    let lock = std::fs::File::create(place.data().join(".candle-vision-fetch.lock")).unwrap();
    lock.lock().unwrap();
    let options =
        FetchOptions { lock_patience: Duration::from_millis(100), ..options(&place.data()) };
    let error = soon(|| fetch(&files_item(&[]), &options)).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error:?}");
}

#[test]
fn offline_uses_what_is_there_and_names_the_remedy_otherwise() {
    let server = file_server();
    let item = files_item(std::slice::from_ref(&server.url));
    let place = Place::new();
    let error = place.fetch_offline(&item).unwrap_err().to_string();
    assert!(error.contains("`digits`") && error.contains("from another machine"), "{error}");
    write_digits(&place.data().join("digits"));
    assert_eq!(place.fetch_offline(&item).unwrap().origin, Origin::AlreadyPresent);
    assert!(server.requests().is_empty());
}

#[test]
fn leftovers_of_a_killed_process_are_cleared() {
    let server = file_server();
    let item = files_item(std::slice::from_ref(&server.url));
    let place = Place::new();
    std::fs::create_dir_all(place.data().join("digits")).unwrap();
    std::fs::create_dir(place.data().join(".candle-vision-tmp-abc")).unwrap();
    std::fs::write(place.data().join("digits/.candle-vision-tmp-def"), "x").unwrap();
    place.fetch(&item).unwrap();
    assert_eq!(names(&place.data()), [".candle-vision-fetch.lock", "digits"]);
    assert_eq!(names(&place.data().join("digits")), ["images.gz", "labels.gz"]);
}

#[test]
fn local_folders_are_taken_in_either_form() {
    let item = files_item(&[]);
    for below in ["digits", ""] {
        let place = Place::new();
        write_digits(&place.other().join(below));
        let fetched = place.fetch_from(&item, &place.other()).unwrap();
        assert_eq!(fetched.origin, Origin::Local);
        assert!(is_present(&item, &place.data()));
        let again = place.fetch_from(&item, &place.other()).unwrap();
        assert_eq!(again.origin, Origin::AlreadyPresent);
    }
}

#[test]
fn a_local_folder_without_the_item_is_told_what_was_looked_for() {
    let place = Place::new();
    let error = place.fetch_from(&files_item(&[]), &place.other()).unwrap_err().to_string();
    assert!(error.contains("other") && error.contains("images.gz, labels.gz"), "{error}");
    let missing = place.fetch_from(&files_item(&[]), Path::new("/no/such/folder")).unwrap_err();
    assert!(missing.to_string().contains("/no/such/folder"), "{missing}");
}

#[test]
fn damaged_local_files_are_refused_by_name() {
    let place = Place::new();
    write_digits(&place.other());
    std::fs::write(place.other().join("labels.gz"), &noise(301)[1..]).unwrap();
    let error = place.fetch_from(&files_item(&[]), &place.other()).unwrap_err().to_string();
    assert!(error.contains("other/labels.gz") && error.contains("sha256"), "{error}");
    assert!(!is_present(&files_item(&[]), &place.data()));

    std::fs::remove_file(place.other().join("labels.gz")).unwrap();
    let error = place.fetch_from(&files_item(&[]), &place.other()).unwrap_err().to_string();
    assert!(error.contains("labels.gz"), "{error}");
}

#[test]
fn without_a_network_a_folder_that_cannot_be_written_is_left_alone() {
    let place = Place::new();
    let error = place.fetch_offline(&tree_item("").0).unwrap_err();
    assert!(error.is_not_available() && error.is_no_network(), "{error}");
    assert!(!place.data().exists());
}

/// What a program may do without, and what it must not pass over.
#[test]
fn causes_are_told_apart() {
    let check = |answer: fn(&crate::support::Request) -> Reply, expected: (bool, bool)| {
        let server = Server::start(answer);
        let error = Place::new().fetch(&files_item(std::slice::from_ref(&server.url))).unwrap_err();
        let found = (error.is_not_available(), error.is_no_network());
        assert_eq!(found, expected, "{error}");
    };
    check(|_| Reply::new("404 Not Found", ""), (true, false));
    check(|_| Reply::new("403 Forbidden", ""), (true, false));
    check(|_| Reply::new("503 Service Unavailable", ""), (true, false));
    check(|_| Reply::page("200 OK"), (true, false));
    check(|_| Reply::ok(noise(50_001)[1..].to_vec()), (false, false));
    check(|_| Reply::ok("short"), (false, false));
    let nobody = files_item(&["http://127.0.0.1:9".to_owned()]);
    let error = Place::new().fetch(&nobody).unwrap_err();
    assert!(error.is_not_available() && error.is_no_network(), "{error}");

    let place = Place::new();
    std::fs::write(place.data(), "a file where the folder should be").unwrap();
    let error = place.fetch(&nobody).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && !error.is_not_available(), "{error}");
    assert!(!find("nothing").unwrap_err().is_not_available());
    let broken = Place::new();
    let (mut item, _) = tree_item("");
    let zip = b"no archive at all".to_vec();
    if let Source::Archive { file, .. } = &mut item.sources[0] {
        *file = spec("images.zip", &zip);
    }
    std::fs::write(broken.other().join("images.zip"), zip).unwrap();
    let error = broken.fetch_from(&item, &broken.other()).unwrap_err();
    assert!(matches!(error, Error::Archive { .. }) && !error.is_not_available(), "{error}");
}

#[test]
fn weights_come_from_the_hub_and_else_as_a_pickle_to_convert() {
    let (weights, pickle) = (safetensors(100), noise(1000));
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let (etag, served, served_pickle) = (sum_of(&weights), weights.clone(), pickle.clone());
    let server = Server::start(move |request| match request.path.as_str() {
        "/net-0123.pth" => Reply::file(request, &served_pickle),
        "/owner/net/resolve/0123456789abcdef0123456789abcdef01234567/model.safetensors" => {
            let etag = format!("\"{etag}\"");
            Reply::file(request, &served).header("X-Repo-Commit", commit).header("ETag", etag)
        }
        _ => Reply::page("404 Not Found"),
    });
    let file = HubFile {
        repo: "owner/net".to_owned(),
        revision: commit.to_owned(),
        spec: spec("model.safetensors", &weights),
    };
    let item = weights_item(Some(file), &pickle, &server.url);

    let place = Place::new();
    let mut on_hub = options(&place.data());
    on_hub.hub.endpoint = server.url.clone();
    let fetched = fetch(&item, &on_hub).unwrap();
    assert_eq!(fetched.files, [place.data().join("weights/net.safetensors")]);
    assert_eq!(fetched.conversion, None);
    assert_eq!(std::fs::read(&fetched.files[0]).unwrap(), weights);

    // A hub without a place for its cache is passed over.
    let place = Place::new();
    let mut homeless = options(&place.data());
    homeless.hub.cache_dir = None;
    assert!(fetch(&item, &homeless).unwrap().conversion.is_some());

    // `options` names a hub where no one listens.
    let place = Place::new();
    let fetched = place.fetch(&item).unwrap();
    let conversion = fetched.conversion.unwrap();
    assert_eq!(conversion.pickle, place.data().join("weights/net-0123.pth"));
    assert_eq!(conversion.safetensors, place.data().join("weights/net.safetensors"));
    assert!(!is_present(&item, &place.data()));
    // The pickle is not fetched twice, and once converted nothing is left to do.
    let asked = server.requests().len();
    assert_eq!(place.fetch_offline(&item).unwrap().conversion, Some(conversion.clone()));
    assert_eq!(server.requests().len(), asked);
    std::fs::write(&conversion.safetensors, &weights).unwrap();
    assert_eq!(place.fetch(&item).unwrap().origin, Origin::AlreadyPresent);
}

#[test]
fn local_weights_are_checked_by_sum_where_known_and_by_header_otherwise() {
    let item = weights_item(None, &noise(10), "");
    for (weights, accepted) in [
        (safetensors(100), true),
        (safetensors(99), true), // of another length: someone's own export
        (noise(500), false),
        (safetensors(100)[..300].to_vec(), false),
    ] {
        let place = Place::new();
        std::fs::create_dir(place.other().join("weights")).unwrap();
        std::fs::write(place.other().join("weights/net.safetensors"), &weights).unwrap();
        let result = place.fetch_from(&item, &place.other());
        assert_eq!(result.is_ok(), accepted, "{result:?}");
        assert_eq!(is_present(&item, &place.data()), accepted);
    }
    let mut flipped = safetensors(100);
    *flipped.last_mut().unwrap() ^= 1;
    let place = Place::new();
    std::fs::write(place.other().join("net.safetensors"), &flipped).unwrap();
    let error = place.fetch_from(&item, &place.other()).unwrap_err().to_string();
    assert!(error.contains("net.safetensors") && error.contains("sha256"), "{error}");
}

#[test]
fn without_a_network_each_address_and_its_cause_is_listed() {
    let place = Place::new();
    let item = weights_item(None, &noise(10), "http://127.0.0.1:9");
    let error = place.fetch(&item).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Download { .. }), "{error:?}");
    assert!(text.contains("http://127.0.0.1:9/net-0123.pth"), "{text}");
}

#[test]
fn unknown_items_list_the_known_ones() {
    let error = find("minst").unwrap_err().to_string();
    assert!(error.contains("`minst`") && error.contains("mnist, fashion_mnist, kmnist"), "{error}");
}

/// The catalog's sums against real files, where a data folder with them is named.
#[test]
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn the_catalog_agrees_with_real_files() {
    let Some(real) = std::env::var_os("CANDLE_VISION_DATA").map(PathBuf::from) else {
        println!("skipped: CANDLE_VISION_DATA is not set");
        return;
    };
    for item in catalog() {
        if !is_present(item, &real) {
            println!("skipped: {} is not in {}", item.name, real.display());
            continue;
        }
        let place = Place::new();
        let options = FetchOptions { from: Some(real.clone()), ..options(&place.data()) };
        let fetched = fetch(item, &options).unwrap();
        assert_eq!(fetched.origin, Origin::Local, "{}", item.name);
        assert!(is_present(item, &place.data()), "{}", item.name);
    }
}
