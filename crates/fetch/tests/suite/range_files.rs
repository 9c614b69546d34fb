//! Files on a server that are read in places.

use candle_vision_fetch::{Error, HttpOptions, RangeFiles};

use crate::support::{Reply, Request, Server, noise, quick, soon};

const BLOCK: usize = 4 << 20;

/// The part of `file` that is asked for.
fn part(request: &Request, file: &[u8]) -> Reply {
    let range = request.header("range").unwrap().strip_prefix("bytes=").unwrap();
    let (start, end) = range.split_once('-').unwrap();
    let start: usize = start.parse().unwrap();
    let end = (end.parse::<usize>().unwrap() + 1).min(file.len());
    let range = format!("bytes {start}-{}/{}", end - 1, file.len());
    Reply::new("206 Partial Content", &file[start..end]).header("Content-Range", range)
}

fn options() -> HttpOptions {
    HttpOptions { retries: 3, ..quick() }
}

#[test]
fn places_are_read_through_a_bounded_cache() {
    let bytes = noise(2 * BLOCK + 1000);
    let file = bytes.clone();
    let server = Server::start(move |request| part(request, &file));
    let files = RangeFiles::new(options(), 0);
    let remote = soon(|| files.open(&server.at("x.tar"))).unwrap();
    assert_eq!(remote.size(), bytes.len() as u64);
    // Over the border of two blocks, and the end.
    for (at, count) in [(10, 5), (BLOCK - 3, 7), (2 * BLOCK, 1000), (5, 0)] {
        let mut buffer = vec![0; count];
        remote.read_at(at as u64, &mut buffer).unwrap();
        assert_eq!(buffer, bytes[at..at + count]);
    }
    assert_eq!(server.requests().len(), 3);
    // The length is known from then on.
    assert_eq!(files.open(&server.at("x.tar")).unwrap().size(), remote.size());
    assert_eq!(server.requests().len(), 3);
    // Only two blocks are kept, so the first has to come again.
    remote.read_at(0, &mut [0]).unwrap();
    assert_eq!(server.requests().len(), 4);
    let error = remote.read_at(bytes.len() as u64 - 1, &mut [0, 0]).unwrap_err().to_string();
    assert!(error.contains("x.tar") && error.contains("more were asked for"), "{error}");
}

#[test]
fn failures_that_pass_are_asked_again_and_others_are_errors() {
    let bytes = noise(5000);
    let file = bytes.clone();
    let server = Server::start(move |request| match request.number {
        1 => Reply::new("503 Service Unavailable", ""),
        2 => Reply { cut_after: Some(100), ..part(request, &file) },
        _ => part(request, &file),
    });
    let open = |path: &str| soon(|| RangeFiles::new(options(), 0).open(&server.at(path)));
    open("a").unwrap();
    let mut buffer = vec![0; 5000];
    open("b").unwrap().read_at(0, &mut buffer).unwrap();
    assert_eq!(buffer, bytes);
    assert_eq!(server.requests().len(), 4);

    let whole = Server::start(|_| Reply::ok("all of it"));
    let missing = Server::start(|_| Reply::page("404 Not Found"));
    let down = Server::start(|_| Reply::new("500 Internal Server Error", ""));
    for (server, text, requests) in
        [(whole, "only whole files", 1), (missing, "404", 1), (down, "500", 4)]
    {
        let error = soon(|| RangeFiles::new(options(), 0).open(&server.at("x.tar"))).unwrap_err();
        assert!(
            matches!(error, Error::Download { .. }) && error.to_string().contains(text),
            "{error}"
        );
        assert_eq!(server.requests().len(), requests);
    }
}

#[test]
fn a_file_that_changes_is_an_error() {
    let server = Server::start(|request| {
        let file = noise(BLOCK + if request.number == 0 { 100 } else { 200 });
        part(request, &file).header("ETag", format!("\"{}\"", request.number))
    });
    let file = RangeFiles::new(options(), 0).open(&server.at("x.tar")).unwrap();
    let error = file.read_at(BLOCK as u64, &mut [0]).unwrap_err().to_string();
    assert!(error.contains("has changed on the server"), "{error}");
}
