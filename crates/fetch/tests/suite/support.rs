//! A small HTTP server on 127.0.0.1 that answers as badly as a test asks it to.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use candle_vision_fetch::{FileSpec, HttpOptions, Sha256Sum, sha256_of_file};

/// One request as the server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// How many requests came before it.
    pub(crate) number: usize,
    pub(crate) path: String,
    /// Header names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The first byte asked for.
    pub(crate) fn start(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.split('-').next()?.parse().ok()
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: &'static str,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The length to declare; that of the body if none, no header at all if `Some(None)`.
    pub(crate) declared: Option<Option<usize>>,
    /// Close the connection after so many bytes of the body.
    pub(crate) cut_after: Option<usize>,
    /// Fall silent, with the connection open, after so many bytes of the body.
    pub(crate) stall_after: Option<usize>,
    /// Send the body in pieces of so many bytes with a pause between them.
    pub(crate) drip: Option<(usize, Duration)>,
    /// Fall silent before the first byte of the answer.
    pub(crate) mute: bool,
}

impl Reply {
    pub(crate) fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            declared: None,
            cut_after: None,
            stall_after: None,
            drip: None,
            mute: false,
        }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new("200 OK", body)
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// `file`, or the part of it that is asked for.
    pub(crate) fn file(request: &Request, file: &[u8]) -> Self {
        match request.start() {
            Some(start) if start >= file.len() => Self::new("416 Range Not Satisfiable", ""),
            Some(start) => Self::new("206 Partial Content", &file[start..]).header(
                "Content-Range",
                format!("bytes {start}-{}/{}", file.len() - 1, file.len()),
            ),
            None => Self::ok(file),
        }
    }

    pub(crate) fn page(status: &'static str) -> Self {
        Self::new(status, "<html><body>Please log in</body></html>")
            .header("Content-Type", "text/html; charset=utf-8")
    }

    pub(crate) fn redirect(to: impl Into<String>) -> Self {
        Self::new("302 Found", "").header("Location", to)
    }
}

/// The server; it ends with the test.
pub(crate) struct Server {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    sent: Arc<Mutex<usize>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let sent: Arc<Mutex<usize>> = Arc::default();
        let answer = Arc::new(answer);
        let (log, count) = (requests.clone(), sent.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log, count) = (answer.clone(), log.clone(), count.clone());
                thread::spawn(move || serve(stream, &*answer, &log, &count));
            }
        });
        Self { url, requests, sent }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Bytes of bodies sent so far.
    pub(crate) fn sent(&self) -> usize {
        *self.sent.lock().unwrap()
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.url)
    }
}

fn serve(
    mut stream: TcpStream,
    answer: &(dyn Fn(&Request) -> Reply + Send + Sync),
    log: &Mutex<Vec<Request>>,
    sent: &Mutex<usize>,
) {
    let Some(mut request) = read_request(&stream) else {
        return;
    };
    {
        let mut log = log.lock().unwrap();
        request.number = log.len();
        log.push(request.clone());
    }
    let reply = answer(&request);
    if reply.mute {
        return wait_until_closed(&mut stream);
    }
    let mut head = format!("HTTP/1.1 {}\r\nConnection: close\r\n", reply.status);
    match reply.declared {
        Some(None) => {}
        Some(Some(length)) => head += &format!("Content-Length: {length}\r\n"),
        None => head += &format!("Content-Length: {}\r\n", reply.body.len()),
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if stream.write_all(format!("{head}\r\n").as_bytes()).is_err() {
        return;
    }
    let until = reply.cut_after.or(reply.stall_after).unwrap_or(reply.body.len());
    let body = &reply.body[..until.min(reply.body.len())];
    let (piece, pause) = reply.drip.unwrap_or((1 << 16, Duration::ZERO));
    for piece in body.chunks(piece) {
        if stream.write_all(piece).is_err() {
            return;
        }
        *sent.lock().unwrap() += piece.len();
        thread::sleep(pause);
    }
    if reply.stall_after.is_some() {
        wait_until_closed(&mut stream);
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    Some(Request { number: 0, path, headers })
}

fn wait_until_closed(stream: &mut TcpStream) {
    let _ = std::io::copy(stream, &mut std::io::sink());
}

/// Time-outs short enough for tests and long enough for a busy machine.
pub(crate) fn quick() -> HttpOptions {
    HttpOptions {
        connect_timeout: Duration::from_secs(2),
        stall_timeout: Duration::from_secs(1),
        min_bytes_per_second: 1,
        slow_window: Duration::from_millis(400),
        retries: 1,
        retry_pause: Duration::from_millis(1),
        max_bytes: 1 << 20,
        proxy_from_env: false,
    }
}

/// Runs `work` and checks that it ended within a few seconds.
#[track_caller]
pub(crate) fn soon<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(20), "took {elapsed:?}");
    result
}

/// Bytes without a pattern that a shifted or repeated part could hide in.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(step).collect()
}

pub(crate) fn sum_of(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    sha256_of_file(file.path()).unwrap()
}

/// Everything known of a file with these bytes.
pub(crate) fn spec(name: &str, bytes: &[u8]) -> FileSpec {
    FileSpec {
        bytes: Some(bytes.len() as u64),
        sha256: Some(Sha256Sum::new(&sum_of(bytes)).unwrap()),
        ..FileSpec::named(name)
    }
}

pub(crate) fn unknown(name: &str) -> FileSpec {
    FileSpec::named(name)
}

/// Names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A safetensors file with one tensor of that many `f32`s.
pub(crate) fn safetensors(values: usize) -> Vec<u8> {
    let header = format!(
        r#"{{"fc.bias":{{"dtype":"F32","shape":[{values}],"data_offsets":[0,{}]}}}}"#,
        4 * values
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&noise(4 * values));
    bytes
}
