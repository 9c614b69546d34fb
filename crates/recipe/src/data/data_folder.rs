//! Where data sets lie and how they are opened.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_vision::data::{
    DataSetEntry, Dataset, DecodedImages, Error as DataError, OpenRequest, ReadAt, ReadOptions,
    Remote, Result as DataResult, Split,
};
use candle_vision_fetch::{HttpOptions, RangeFile, RangeFiles};

use super::Remarks;
use crate::error::At;
use crate::fetching::fetch_command;
use crate::recorded::near;
use crate::{DataSettings, Error, Registry, Result};

/// Is told how many images of a split are decoded, and how many there are.
type OnDecoded<'a> = &'a (dyn Fn(Split, usize, usize) + Sync);

/// The folder of data sets and weights, and the parts that can be opened there.
#[derive(Clone)]
pub struct DataFolder<'a> {
    registry: &'a Registry,
    path: &'a Path,
    read: ReadOptions,
    on_decoded: Option<OnDecoded<'a>>,
    /// All splits read files on servers through one cache.
    remote: Remote,
}

impl<'a> DataFolder<'a> {
    /// The folder `path`, with the parts of `registry`.
    pub fn new(registry: &'a Registry, path: &'a (impl AsRef<Path> + ?Sized)) -> Self {
        let read = ReadOptions::default();
        Self { registry, path: path.as_ref(), read, on_decoded: None, remote: remote() }
    }

    /// Whether the network may not be used. Data on servers are then refused.
    pub fn offline(self, offline: bool) -> Self {
        if offline { Self { remote: switched_off(), ..self } } else { self }
    }

    /// How image files are read where the settings do not say it.
    pub fn read_options(self, read: ReadOptions) -> Self {
        Self { read, ..self }
    }

    /// What is told of the progress while images are decoded for `data.decoded`.
    pub fn on_decoded(self, told: OnDecoded<'a>) -> Self {
        Self { on_decoded: Some(told), ..self }
    }

    /// The parts that can be named.
    pub fn registry(&self) -> &'a Registry {
        self.registry
    }

    /// The folder itself.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// Opens one split of the data set that `settings` name; what is to be said of it goes to `remarks`.
    ///
    /// # Errors
    /// If it is not registered, not there or not sound; the message says how to get it.
    pub fn open(
        &self,
        settings: &DataSettings,
        split: Split,
        seed: u64,
        remarks: &mut Remarks,
    ) -> Result<Arc<dyn Dataset>> {
        let entry = self.entry(settings)?;
        let request = self.request(settings, split).seed(seed);
        let opened = entry.open(&request).map_err(Error::from).map_err(|error| {
            match (entry.catalog_item(), error.cause()) {
                (
                    Some(item),
                    Error::Data(
                        DataError::NotFound { .. }
                        | DataError::FileSize { .. }
                        | DataError::Invalid { .. },
                    ),
                ) => Error::invalid(format!("{} ({})", error.one_line(), fetch_command(item))),
                (_, Error::Data(DataError::InvalidSetting { setting, reason })) => {
                    Error::invalid(format!("`data.{setting}` {reason}"))
                }
                _ => error,
            }
        });
        let opened =
            opened.at(|| format!("the {} images of `{}`", split.name(), settings.source))?;
        remarks.note(&opened);
        Ok(opened.dataset)
    }

    /// The data set with its decoded images in a file, if the settings say so.
    pub(crate) fn decoded(
        &self,
        set: Arc<dyn Dataset>,
        settings: &DataSettings,
        split: Split,
        remarks: &mut Remarks,
    ) -> Result<Arc<dyn Dataset>> {
        let Some(folder) = settings.decoded.as_deref().filter(|_| !set.in_memory()) else {
            return Ok(set);
        };
        // All that changes the images.
        let reading = format!("{:?}", self.request(settings, split).read);
        let told = &mut |done, all| {
            if let Some(told) = self.on_decoded {
                told(split, done, all);
            }
        };
        let (name, threads) = (split.name(), settings.workers);
        let decoded = DecodedImages::open(near(folder), name, &reading, set, threads, told);
        let decoded = decoded.map_err(|error| match error {
            DataError::InvalidSetting { setting, reason } => {
                Error::invalid(format!("`data.{setting}` {reason}"))
            }
            error => error.into(),
        })?;
        let left_out = match decoded.left_out() {
            0 => String::new(),
            count => format!("; {count} that cannot be read are not in it"),
        };
        remarks.add(format!(
            "decoded {name} images: `{}` ({:.1} MiB){left_out}",
            decoded.path().display(),
            decoded.bytes() as f64 / f64::from(1 << 20)
        ));
        Ok(Arc::new(decoded))
    }

    /// Whether there are images for a test after training.
    ///
    /// # Errors
    /// If an image folder has no layout that is understood.
    pub fn has_test(&self, settings: &DataSettings) -> Result<bool> {
        Ok(self.entry(settings)?.has_test(&self.request(settings, Split::Test))?)
    }

    /// How an image folder is split, in one line.
    ///
    /// # Errors
    /// As [`DataFolder::has_test`].
    pub fn layout_notes(&self, settings: &DataSettings) -> Result<Vec<String>> {
        let request = self.request(settings, Split::Train);
        let Some(layout) = self.entry(settings)?.layout(&request)? else { return Ok(Vec::new()) };
        let kept = format!("{} % of", 100.0 * settings.val_fraction);
        let mut line = format!("splits of {layout}");
        if !layout.is_split() {
            line += &format!("; {kept} each are kept for validation");
        } else if layout.split(Split::Val).is_none() {
            line += &format!("; {kept} the images to train on are kept for validation");
        }
        if layout.split(Split::Test).is_some() {
            line += "; the test images are measured once, after training";
        }
        Ok(vec![line])
    }

    /// Where the data set lies, and whether that is a place of the user's own; `None` if it is drawn.
    ///
    /// # Errors
    /// If the settings lack the path.
    pub fn location(&self, settings: &DataSettings) -> Result<Option<(PathBuf, bool)>> {
        let place = self.entry(settings)?.place(&self.request(settings, Split::Train));
        match place {
            // The user's own place as it was given: a path that is seen from here may hide what is missing.
            Ok(place) => Ok(place.map(|place| match &settings.path {
                Some(path) if place.is_own => (path.clone(), true),
                _ => (place.path, place.is_own),
            })),
            Err(_) if settings.path.is_none() => Err(Error::invalid(format!(
                "`data.source = \"{}\"` needs `data.path`: give the place in the recipe, or with `--set \
                 data.path=DIR`",
                settings.source
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the data set is there.
    pub(crate) fn is_there(&self, settings: &DataSettings) -> Result<bool> {
        if self.location(settings)?.is_none() {
            return Ok(true);
        }
        let place = self.entry(settings)?.place(&self.request(settings, Split::Train))?;
        Ok(place.is_none_or(|place| place.exists()))
    }

    /// Fails if a folder of the user's own cannot be trained on.
    pub(crate) fn check(&self, settings: &DataSettings) -> Result<()> {
        if let Some((_, true)) = self.location(settings)? {
            self.entry(settings)?.layout(&self.request(settings, Split::Train))?;
        }
        Ok(())
    }

    fn entry(&self, settings: &DataSettings) -> Result<&'a DataSetEntry> {
        Ok(self.registry.data_sets.get(&settings.source)?)
    }

    fn request(&self, settings: &DataSettings, split: Split) -> OpenRequest {
        let mut read = self.read.with_exif_orientation(settings.exif_orientation);
        if let Some(most) = settings.max_pixels {
            read = read.with_max_pixels(most);
        }
        read = read.with_reduce_to(settings.reduce_to.map(NonZeroUsize::get));
        let mut request = OpenRequest::new(self.path, split)
            .read(read)
            .val_fraction(settings.val_fraction)
            .drawings(settings.train_images, settings.val_images, settings.image_size);
        if let Some(path) = &settings.path {
            request = request.path(near(path));
        }
        if let Some(list) = &settings.val_list {
            request = request.val_list(near(list));
        }
        request.options.clone_from(&settings.options);
        request.remote(self.remote.clone())
    }
}

impl fmt::Debug for DataFolder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataFolder")
            .field("path", &self.path)
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

/// Memory for parts of shards that lie on servers.
const REMOTE_CACHE_BYTES: u64 = 512 << 20;

/// Opens shards on servers.
fn remote() -> Remote {
    // A single server error must not end a run of days.
    let files =
        RangeFiles::new(HttpOptions { retries: 5, ..HttpOptions::default() }, REMOTE_CACHE_BYTES);
    Remote::new(move |url| {
        let file = files.open(url).map_err(DataError::other)?;
        Ok(Arc::new(RemoteFile(file)) as Arc<dyn ReadAt>)
    })
}

/// Refuses shards on servers.
fn switched_off() -> Remote {
    Remote::new(|url| {
        Err(DataError::NotFound {
            path: url.into(),
            expected: "it lies on a server, and the network is switched off".to_owned(),
            remedy:
                "name shards on this machine, or leave `--offline` and `CANDLE_VISION_OFFLINE` out"
                    .to_owned(),
        })
    })
}

/// A file on a server as the data sets read it.
struct RemoteFile(RangeFile);

impl ReadAt for RemoteFile {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> DataResult<()> {
        self.0.read_at(offset, buffer).map_err(DataError::other)
    }
}
