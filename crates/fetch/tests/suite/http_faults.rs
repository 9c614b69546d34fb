//! Downloads from servers that fail in every way seen in the wild: each ends within seconds in a
//! verified file, or in an error that names the file and the cause and leaves the old file alone.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::{Reply, Request, Server, names, noise, quick, soon, spec, unknown};
use candle_vision_fetch::{Download, Error, FileSpec, HttpClient, HttpOptions, Result};
use tempfile::TempDir;

const LENGTH: usize = 200_000;

struct Place {
    folder: TempDir,
    options: HttpOptions,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), options: quick() }
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("file.bin")
    }

    fn part(&self) -> PathBuf {
        self.folder.path().join("file.bin.part")
    }

    fn get(&self, urls: &[String], spec: &FileSpec) -> Result<()> {
        let target = self.target();
        let download = Download { target: &target, urls, spec, check: None, bearer_token: None };
        soon(|| HttpClient::new(self.options.clone()).download(&download, &|_| {}))
    }

    /// The server gives the file, if not at once.
    #[track_caller]
    fn succeeds(&self, server: &Server, file: &[u8]) {
        let spec = spec("file.bin", file);
        self.get(&[server.at("file.bin")], &spec).unwrap();
        assert_eq!(std::fs::read(self.target()).unwrap(), file);
        assert_eq!(names(self.folder.path()), ["file.bin"]);
    }

    /// The server does not give the file, and the one that was there before stays.
    #[track_caller]
    fn fails(&self, server: &Server, spec: &FileSpec, cause: &str) {
        std::fs::write(self.target(), "old").unwrap();
        let error = self.get(&[server.at("file.bin")], spec).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Download { .. }), "{error:?}");
        assert!(text.contains("file.bin") && text.contains(cause), "{text}");
        assert!(text.contains("from another machine"), "{text}");
        assert_eq!(std::fs::read(self.target()).unwrap(), b"old");
    }
}

/// The first request is answered by `first`, all others properly.
fn once(file: &[u8], first: impl Fn(&[u8]) -> Reply + Send + Sync + 'static) -> Server {
    let file = file.to_vec();
    Server::start(move |request| match request.number {
        0 => first(&file),
        _ => Reply::file(request, &file),
    })
}

fn always(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(reply)
}

#[test]
fn a_good_server_gives_the_file_in_one_request() {
    let file = noise(LENGTH);
    let served = file.clone();
    let server = always(move |request| Reply::file(request, &served));
    Place::new().succeeds(&server, &file);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_cut_body_is_resumed_where_it_broke_off() {
    let file = noise(LENGTH);
    let server = once(&file, |file| {
        let mut reply = Reply::ok(file);
        reply.cut_after = Some(LENGTH * 9 / 10);
        reply
    });
    Place::new().succeeds(&server, &file);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].start(), Some(LENGTH * 9 / 10));
    assert_eq!(server.sent(), LENGTH);
}

#[test]
fn a_part_of_an_earlier_run_is_resumed() {
    let file = noise(LENGTH);
    let served = file.clone();
    let server = always(move |request| Reply::file(request, &served));
    let place = Place::new();
    std::fs::write(place.part(), &file[..LENGTH / 2]).unwrap();
    place.succeeds(&server, &file);
    assert_eq!(server.sent(), LENGTH / 2);
}

#[test]
fn a_whole_part_of_an_earlier_run_needs_no_request() {
    let file = noise(LENGTH);
    let server = always(|_| Reply::new("500 Internal Server Error", ""));
    let place = Place::new();
    std::fs::write(place.part(), &file).unwrap();
    place.succeeds(&server, &file);
    assert!(server.requests().is_empty());
}

#[test]
fn a_part_of_another_file_is_found_out() {
    let file = noise(LENGTH);
    let served = file.clone();
    let server = always(move |request| Reply::file(request, &served));
    let place = Place::new();
    std::fs::write(place.part(), vec![0; LENGTH / 2]).unwrap();
    place.succeeds(&server, &file);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_part_is_not_trusted_where_no_sum_could_find_it_out() {
    let file = noise(LENGTH);
    let served = file.clone();
    let server = always(move |request| Reply::file(request, &served));
    let place = Place::new();
    std::fs::write(place.part(), vec![0; LENGTH / 2]).unwrap();
    place.get(&[server.at("file.bin")], &unknown("file.bin")).unwrap();
    assert_eq!(std::fs::read(place.target()).unwrap(), file);
}

#[test]
fn a_part_longer_than_the_file_is_dropped() {
    let file = noise(LENGTH);
    let served = file.clone();
    let server = always(move |request| Reply::file(request, &served));
    let place = Place::new();
    std::fs::write(place.part(), noise(LENGTH + 1)).unwrap();
    place.succeeds(&server, &file);
}

#[test]
fn a_range_beyond_the_server_s_file_starts_over() {
    let file = noise(LENGTH);
    let served = file.clone();
    let server = always(move |request| match request.start() {
        Some(_) => Reply::new("416 Range Not Satisfiable", ""),
        None => Reply::ok(&served[..]),
    });
    let place = Place::new();
    std::fs::write(place.part(), &file[..LENGTH / 2]).unwrap();
    place.succeeds(&server, &file);
}

#[test]
fn a_server_that_ignores_ranges_starts_over() {
    let file = noise(LENGTH);
    let served = file.clone();
    let server = always(move |request| {
        let mut reply = Reply::ok(&served[..]);
        reply.cut_after = (request.number == 0).then_some(1000);
        reply
    });
    Place::new().succeeds(&server, &file);
}

#[test]
fn another_range_than_asked_for_is_not_appended() {
    let file = noise(LENGTH);
    let served = file.clone();
    let server = always(move |request| match request.number {
        0 => Reply::new("206 Partial Content", &served[500..])
            .header("Content-Range", format!("bytes 500-{}/{LENGTH}", LENGTH - 1)),
        _ => Reply::file(request, &served),
    });
    let place = Place::new();
    std::fs::write(place.part(), &file[..1000]).unwrap();
    place.succeeds(&server, &file);
}

#[test]
fn a_file_that_changed_in_between_is_not_mixed() {
    // No sum is known; the ETag alone tells the two versions apart.
    let (old, new) = (noise(LENGTH), vec![7; LENGTH]);
    let served = new.clone();
    let server = always(move |request| match request.number {
        0 => {
            let mut reply = Reply::ok(&old[..]).header("ETag", "\"old\"");
            reply.cut_after = Some(LENGTH / 2);
            reply
        }
        _ if request.header("if-range") == Some("\"old\"") => Reply::ok(&served[..]),
        _ => Reply::file(request, &served),
    });
    let place = Place::new();
    place.get(&[server.at("file.bin")], &unknown("file.bin")).unwrap();
    assert_eq!(std::fs::read(place.target()).unwrap(), new);
    assert_eq!(server.requests()[1].start(), Some(LENGTH / 2));
}

#[test]
fn one_flipped_byte_is_found_and_the_file_fetched_again() {
    let file = noise(LENGTH);
    let server = once(&file, |file| {
        let mut flipped = file.to_vec();
        flipped[LENGTH / 3] ^= 1;
        Reply::ok(flipped)
    });
    Place::new().succeeds(&server, &file);
}

#[test]
fn a_file_that_stays_wrong_is_an_error_with_both_sums() {
    let file = noise(LENGTH);
    let wrong = noise(LENGTH + 1)[1..].to_vec();
    let found = crate::support::sum_of(&wrong);
    let server = always(move |request| Reply::file(request, &wrong));
    let place = Place::new();
    let spec = spec("file.bin", &file);
    place.fails(&server, &spec, &found);
    place.fails(&server, &spec, &spec.sha256.as_ref().unwrap().to_string());
    assert_eq!(server.requests().len(), 4);
    assert_eq!(names(place.folder.path()), ["file.bin"]);
}

#[test]
fn an_html_error_page_is_never_the_file() {
    let file = noise(100);
    for status in ["403 Forbidden", "404 Not Found", "200 OK"] {
        let server = always(move |_| Reply::page(status));
        let cause = match status {
            "200 OK" => "web page",
            other => other,
        };
        Place::new().fails(&server, &spec("file.bin", &file), cause);
        Place::new().fails(&server, &unknown("file.bin"), cause);
        assert_eq!(server.requests().len(), 2, "asking again would not help");
    }
}

#[test]
fn a_server_error_is_asked_again_once() {
    let file = noise(LENGTH);
    let server = once(&file, |_| Reply::new("500 Internal Server Error", "oops"));
    Place::new().succeeds(&server, &file);

    let server = always(|_| Reply::new("503 Service Unavailable", ""));
    Place::new().fails(&server, &spec("file.bin", &file), "503");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_silent_server_is_given_up() {
    let server = always(|_| {
        let mut reply = Reply::ok("");
        reply.mute = true;
        reply
    });
    Place::new().fails(&server, &unknown("file.bin"), "timeout");
}

#[test]
fn a_stall_in_the_body_is_given_up_and_resumed() {
    let file = noise(LENGTH);
    let server = once(&file, |file| {
        let mut reply = Reply::ok(file);
        reply.stall_after = Some(LENGTH / 2);
        reply
    });
    Place::new().succeeds(&server, &file);
    assert_eq!(server.sent(), LENGTH);
}

#[test]
fn a_server_that_stalls_each_time_comes_to_an_end() {
    let file = noise(LENGTH);
    let server = always(move |request| {
        let mut reply = Reply::file(request, &noise(LENGTH));
        reply.stall_after = Some(if request.number == 0 { 1000 } else { 0 });
        reply
    });
    Place::new().fails(&server, &spec("file.bin", &file), "after 1000 of 200000 bytes");
}

#[test]
fn a_server_that_cuts_after_each_byte_comes_to_an_end() {
    let file = noise(LENGTH);
    let server = always(move |request| {
        let mut reply = Reply::file(request, &noise(LENGTH));
        reply.cut_after = Some(1);
        reply
    });
    Place::new().fails(&server, &spec("file.bin", &file), "bytes");
    assert_eq!(server.requests().len(), 50);
}

#[test]
fn redirects_are_followed_and_loops_are_not() {
    let file = noise(LENGTH);
    let served = file.clone();
    let server = always(move |request| match request.path.as_str() {
        "/file.bin" => Reply::redirect("/elsewhere"),
        _ => Reply::file(request, &served),
    });
    Place::new().succeeds(&server, &file);

    let server = always(|_| Reply::redirect("/file.bin"));
    Place::new().fails(&server, &spec("file.bin", &file), "redirect");
}

#[test]
fn a_wrong_length_is_refused_before_the_body() {
    let file = noise(LENGTH);
    for length in [LENGTH - 1, LENGTH + 1] {
        let server = always(move |_| Reply::ok(noise(length)));
        let cause = format!("offers {length} bytes, expected {LENGTH}");
        Place::new().fails(&server, &spec("file.bin", &file), &cause);
    }
}

#[test]
fn a_length_that_promises_more_than_comes_is_a_cut() {
    let file = noise(LENGTH);
    let server = always(move |request| {
        let mut reply = Reply::ok(noise(LENGTH / 2));
        reply.declared = Some(Some(LENGTH));
        if request.start().is_some() {
            reply = Reply::new("500 Internal Server Error", "");
        }
        reply
    });
    let place = Place::new();
    place.fails(&server, &spec("file.bin", &file), "500");
    // What came is kept for the next attempt.
    assert_eq!(std::fs::metadata(place.part()).unwrap().len() as usize, LENGTH / 2);
}

#[test]
fn a_body_without_a_length_is_held_to_what_is_known() {
    let file = noise(LENGTH);
    let served = file.clone();
    let server = always(move |request| {
        let mut reply = Reply::ok(&served[..]);
        reply.declared = Some(None);
        if request.path == "/long" {
            reply.body.push(0);
        }
        reply
    });
    Place::new().succeeds(&server, &file);
    let error = Place::new().get(&[server.at("long")], &spec("file.bin", &file)).unwrap_err();
    assert!(error.to_string().contains("more than the 200000 bytes"), "{error}");
}

#[test]
fn a_file_of_unknown_length_stops_at_the_limit() {
    let mut place = Place::new();
    place.options.max_bytes = 1000;
    let server = always(|_| Reply::ok(noise(1001)));
    place.fails(&server, &unknown("file.bin"), "the limit is 1000");
    let server = always(|_| {
        let mut reply = Reply::ok(noise(1001));
        reply.declared = Some(None);
        reply
    });
    place.fails(&server, &unknown("file.bin"), "limit of 1000 bytes");
}

#[test]
fn a_slow_server_is_waited_for_and_a_crawling_one_is_not() {
    let file = noise(2000);
    let drip = |bytes| Some((bytes, Duration::from_millis(50)));
    let served = file.clone();
    let server = always(move |request| {
        let mut reply = Reply::file(request, &served);
        reply.drip = drip(200);
        reply
    });
    Place::new().succeeds(&server, &file);

    let served = file.clone();
    let server = always(move |request| {
        let mut reply = Reply::file(request, &served);
        reply.drip = drip(1);
        reply
    });
    let mut place = Place::new();
    place.options.min_bytes_per_second = 1000;
    place.fails(&server, &spec("file.bin", &file), "too slow");
}

#[test]
fn a_closed_port_and_a_dropped_connection_are_named() {
    let url = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/file.bin", listener.local_addr().unwrap())
    };
    let error = Place::new().get(std::slice::from_ref(&url), &unknown("file.bin")).unwrap_err();
    assert!(error.to_string().contains(&url), "{error}");
    assert!(error.to_string().to_lowercase().contains("refused"), "{error}");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/file.bin", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let error = Place::new().get(std::slice::from_ref(&url), &unknown("file.bin")).unwrap_err();
    assert!(error.to_string().contains(&url), "{error}");
}

#[test]
fn mirrors_are_tried_in_turn_and_share_what_was_received() {
    let file = noise(LENGTH);
    let broken = once(&file, |file| {
        let mut reply = Reply::ok(file);
        reply.stall_after = Some(LENGTH / 2);
        reply
    });
    let forbidden = always(|_| Reply::page("403 Forbidden"));
    let served = file.clone();
    let good = always(move |request| Reply::file(request, &served));
    let place = Place::new();
    let urls = [forbidden.at("a"), broken.at("b"), good.at("c")];
    place.get(&urls, &spec("file.bin", &file)).unwrap();
    assert_eq!(std::fs::read(place.target()).unwrap(), file);

    let error = place.get(&[forbidden.at("a"), forbidden.at("b")], &unknown("x")).unwrap_err();
    let Error::Download { attempts, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(attempts.len(), 2);
}

#[test]
fn progress_counts_up_to_the_length() {
    let file = noise(LENGTH);
    let served = file.clone();
    let server = always(move |request| Reply::file(request, &served));
    let place = Place::new();
    let target = place.target();
    let seen = std::cell::RefCell::new(Vec::new());
    let progress = |event: candle_vision_fetch::Event<'_>| {
        if let candle_vision_fetch::Event::Advanced { done, total, .. } = event {
            seen.borrow_mut().push((done, total));
        }
    };
    let download = Download {
        target: &target,
        urls: &[server.at("file.bin")],
        spec: &spec("file.bin", &file),
        check: None,
        bearer_token: None,
    };
    HttpClient::new(quick()).download(&download, &progress).unwrap();
    let seen = seen.into_inner();
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!(seen.last(), Some(&(LENGTH as u64, Some(LENGTH as u64))));
}

/// Every write to `/dev/full` fails as on a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_at_once_and_says_so() {
    let file = noise(LENGTH);
    let served = file.clone();
    let server = always(move |request| Reply::file(request, &served));
    let place = Place::new();
    std::fs::write(place.target(), "old").unwrap();
    std::os::unix::fs::symlink("/dev/full", place.part()).unwrap();
    let urls = [server.at("a"), server.at("b")];
    let error = place.get(&urls, &spec("file.bin", &file)).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("file.bin.part") && text.contains("disk is full"), "{text}");
    assert_eq!(server.requests().len(), 1, "no mirror has a larger disk");
    assert_eq!(std::fs::read(place.target()).unwrap(), b"old");
}
