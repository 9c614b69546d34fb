//! Files on a server that are read in places, with a bounded cache of blocks in memory.

use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::sleep;

use ureq::Agent;
use ureq::http::{HeaderMap, StatusCode, header};

use crate::error::{Attempt, Error, Result};
use crate::http::{Cause, HttpOptions, agent, content_range};

/// Bytes of a block, which one request brings.
const BLOCK: u64 = 4 << 20;

type Block = Arc<OnceLock<Vec<u8>>>;

/// The bytes of a block, the length of the whole file and its ETag.
type Fetched = (Vec<u8>, u64, Option<String>);

/// Opens files on servers. All of them share one cache of blocks.
///
/// ```no_run
/// use candle_vision_fetch::{HttpOptions, RangeFiles};
///
/// # fn main() -> candle_vision_fetch::Result<()> {
/// let files = RangeFiles::new(HttpOptions::default(), 256 << 20);
/// let shard = files.open("https://example.org/train-000000.tar")?;
/// let mut header = [0; 512];
/// shard.read_at(0, &mut header)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RangeFiles(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    agent: Agent,
    options: HttpOptions,
    most_blocks: usize,
    /// The length and the ETag of the files that were opened. Each is asked for once.
    opened: Mutex<HashMap<String, (u64, Option<String>)>>,
    /// By address and number. The last used comes first.
    blocks: Mutex<VecDeque<((String, u64), Block)>>,
}

impl RangeFiles {
    /// A cache of at most `cache_bytes`, but at least two blocks of 4 MiB. Nothing is sent yet.
    pub fn new(options: HttpOptions, cache_bytes: u64) -> Self {
        let most_blocks = usize::try_from(cache_bytes / BLOCK).unwrap_or(usize::MAX).max(2);
        let agent = agent(&options, 10);
        let (opened, blocks) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Shared { agent, options, most_blocks, opened, blocks }))
    }

    /// Opens a file and finds its length, with one request for all times that it is opened.
    ///
    /// # Errors
    /// [`Error::Download`] if the server does not give the file, or gives no parts of files.
    pub fn open(&self, url: &str) -> Result<RangeFile> {
        let lock = || self.0.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let file = |(bytes, etag): (u64, Option<String>)| RangeFile {
            shared: Arc::clone(&self.0),
            url: url.to_owned(),
            bytes,
            etag,
        };
        let known = lock().get(url).cloned();
        if let Some(known) = known {
            return Ok(file(known));
        }
        let (first, bytes, etag) = self.0.fetch(url, 0, None)?;
        let block = Block::default();
        let _ = block.set(first);
        self.0.keep((url.to_owned(), 0), block);
        lock().insert(url.to_owned(), (bytes, etag.clone()));
        Ok(file((bytes, etag)))
    }
}

/// A file on a server that is read in places.
#[derive(Clone, Debug)]
pub struct RangeFile {
    shared: Arc<Shared>,
    url: String,
    bytes: u64,
    etag: Option<String>,
}

impl RangeFile {
    /// The length in bytes.
    pub fn size(&self) -> u64 {
        self.bytes
    }

    /// Fills `buffer` with the bytes from `offset` on. A request that fails is repeated as [`HttpOptions`] say.
    ///
    /// # Errors
    /// [`Error::Download`] if the file ends before the buffer is full, has changed since it was opened, or does not
    /// come.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.bytes);
        if end.is_none() {
            let text = format!(
                "it has {} bytes, and byte {offset} and {} more were asked for",
                self.bytes,
                buffer.len()
            );
            return Err(failed(&self.url, Cause::no_file(text)));
        }
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            let block = self.shared.block(self, at / BLOCK)?;
            let bytes = block.get().map(Vec::as_slice).unwrap_or_default();
            let from = &bytes[(at % BLOCK) as usize..];
            let count = from.len().min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&from[..count]);
            filled += count;
        }
        Ok(())
    }
}

impl Shared {
    /// A block of a file, which is fetched if it is not kept. Two threads may fetch the same block at once.
    fn block(&self, file: &RangeFile, number: u64) -> Result<Block> {
        let key = (file.url.clone(), number);
        {
            let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = blocks.iter().position(|(of, _)| *of == key)
                && let Some(found) = blocks.remove(place)
            {
                let block = Arc::clone(&found.1);
                blocks.push_front(found);
                return Ok(block);
            }
        }
        let (bytes, total, etag) = self.fetch(&file.url, number, file.etag.as_deref())?;
        if total != file.bytes || (file.etag.is_some() && etag != file.etag) {
            let text = "it has changed on the server since it was opened; start again";
            return Err(failed(&file.url, Cause::no_file(text)));
        }
        let block = Block::default();
        let _ = block.set(bytes);
        self.keep(key, Arc::clone(&block));
        Ok(block)
    }

    fn keep(&self, key: (String, u64), block: Block) {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.retain(|(of, _)| *of != key);
        blocks.push_front((key, block));
        blocks.truncate(self.most_blocks);
    }

    /// A block, the length of the whole file and its ETag.
    fn fetch(&self, url: &str, number: u64, etag: Option<&str>) -> Result<Fetched> {
        let mut pause = self.options.retry_pause;
        for retry in 0.. {
            match self.request(url, number, etag) {
                Ok(block) => return Ok(block),
                Err((cause, may_pass)) if !may_pass || retry >= self.options.retries => {
                    return Err(failed(url, cause));
                }
                Err(_) => {
                    sleep(pause);
                    pause = pause.saturating_mul(2);
                }
            }
        }
        unreachable!("the loop ends with a result")
    }

    /// A block, or why it did not come and whether that may pass.
    fn request(
        &self,
        url: &str,
        number: u64,
        etag: Option<&str>,
    ) -> std::result::Result<Fetched, (Cause, bool)> {
        let start = number * BLOCK;
        let mut request = self.agent.get(url);
        request = request.header(header::RANGE, format!("bytes={start}-{}", start + BLOCK - 1));
        if let Some(etag) = etag {
            request = request.header(header::IF_RANGE, etag);
        }
        let response = request.call().map_err(|error| (Cause::of(&error), true))?;
        let status = response.status();
        if status == StatusCode::OK {
            let text =
                "the server sends only whole files, or the file has changed; download the shards";
            return Err((Cause::no_file(text), false));
        }
        if status != StatusCode::PARTIAL_CONTENT {
            let may_pass = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            return Err((Cause::no_file(format!("the server answered {status}")), may_pass));
        }
        let range = content_range(response.headers()).filter(|(from, _)| *from == start);
        let Some((_, total)) = range else {
            let text = "the server sent another range than asked for";
            return Err((Cause::no_file(text), true));
        };
        let etag = strong_etag(response.headers());
        let expected = BLOCK.min(total.saturating_sub(start));
        let mut bytes = Vec::new();
        let body = response.into_body().into_reader();
        let read = body.take(expected + 1).read_to_end(&mut bytes);
        read.map_err(|error| (Cause::no_file(error.to_string()), true))?;
        if bytes.len() as u64 != expected {
            let text = format!("{} of {expected} bytes came", bytes.len());
            return Err((Cause::no_file(text), true));
        }
        Ok((bytes, total, etag))
    }
}

fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get(header::ETAG)?.to_str().ok()?;
    etag.starts_with('"').then(|| etag.to_owned())
}

fn failed(url: &str, cause: Cause) -> Error {
    let file = url.rsplit('/').next().unwrap_or(url).to_owned();
    let Cause { kind, text: cause } = cause;
    Error::Download { file, attempts: vec![Attempt { url: url.to_owned(), cause, kind }] }
}
