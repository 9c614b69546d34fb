//! A folder to run the program in, and what came of a run.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_vision::data::{Dataset, Insects, InsectsConfig, Split};
use candle_vision::train::Checkpoint;
use tempfile::TempDir;

/// A network that trains in a moment: 32 drawings of 32x32.
const RECIPE: &str = r#"
[data]
source = "insects"
batch_size = 8
train_images = 32
val_images = 16
image_size = 32
train = [{ op = "random_horizontal_flip" }, { op = "to_tensor" }]
eval = [{ op = "to_tensor" }]

[model]
architecture = "gap_cnn"
image_size = 32

[training]
epochs = 2
optimizer = { name = "adam", lr = 0.003 }
"#;

/// Recipes that come with the program. A test of the workspace holds them to those in `xtask/experiments`.
pub(crate) fn experiments() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/recipes")
}

/// A temporary folder with a recipe `small.toml`, in which the program runs.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        place.write("small.toml", RECIPE);
        place
    }

    /// A place where `small.toml` was run once, and that run's checkpoint.
    pub(crate) fn trained() -> (Self, String) {
        let place = Self::new();
        place.small(&[]).succeeds();
        (place, "runs/small/001/best.safetensors".to_owned())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file can be written");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Cuts a file to its first bytes.
    pub(crate) fn cut(&self, name: &str, length: usize) {
        let bytes = fs::read(self.path(name)).expect("a file to cut");
        assert!(length < bytes.len(), "{name} has but {} bytes", bytes.len());
        self.write(name, &bytes[..length]);
    }

    pub(crate) fn tensors(&self, checkpoint: &str) -> HashMap<String, Vec<f32>> {
        let checkpoint = Checkpoint::load(self.path(checkpoint)).expect("a whole checkpoint");
        let flat = |tensor: candle_core::Tensor| {
            tensor.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()
        };
        let tensors = checkpoint.tensors.into_iter();
        tensors.map(|(name, tensor)| (name, flat(tensor).expect("f32 values"))).collect()
    }

    /// The program with these arguments: offline, in this folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_candle-vision"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("CANDLE_VISION_OFFLINE", "1")
            .env_remove("CANDLE_VISION_DATA")
            .env_remove("RUST_BACKTRACE");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Finished {
        Finished::of(&self.command(args).output().expect("the program starts"))
    }

    /// `train --recipe small.toml` with more arguments.
    pub(crate) fn small(&self, args: &[&str]) -> Finished {
        self.run(&[&["train", "--recipe", "small.toml"], args].concat())
    }

    /// A photograph of nothing much.
    pub(crate) fn write_photo(&self, name: &str, side: u32) {
        let pixels: Vec<u8> = (0..3 * side * side).map(|i| (i / 3 % side) as u8).collect();
        self.write(name, jpeg(&pixels, side));
    }

    /// A square image with exactly these RGB values.
    pub(crate) fn write_png(&self, name: &str, pixels: &[u8], side: u32) {
        use image::ImageEncoder as _;

        let mut bytes = Vec::new();
        image::codecs::png::PngEncoder::new(&mut bytes)
            .write_image(pixels, side, side, image::ExtendedColorType::Rgb8)
            .expect("an image can be encoded");
        self.write(name, bytes);
    }

    /// An image folder of drawings: 4 a class to train on, 2 a class to validate on.
    pub(crate) fn write_images(&self, name: &str) {
        for (split, count) in [(Split::Train, 8), (Split::Val, 4)] {
            let config = InsectsConfig::new(count).size(32).seed(1);
            let insects = Insects::new(split, config).expect("drawings");
            for index in 0..count {
                let sample = insects.sample(index).expect("a drawing");
                let class = &insects.classes()[sample.label as usize];
                self.write(
                    &format!("{name}/{}/{class}/{index:02}.jpg", split.name()),
                    jpeg(sample.image.pixels(), 32),
                );
            }
        }
    }
}

fn jpeg(pixels: &[u8], side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut bytes)
        .encode(pixels, side, side, image::ExtendedColorType::Rgb8)
        .expect("an image can be encoded");
    bytes
}

/// What came of a run of the program.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Self { code: output.status.code(), stdout, stderr }
    }

    /// Ends with 0 and no error.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("error"), "{}", self.stderr);
        self
    }

    /// Ends with 1 and one line of error, the last of stderr, that holds all of `parts`.
    #[track_caller]
    pub(crate) fn fails(self, parts: &[&str]) -> Self {
        let stderr = &self.stderr;
        assert_eq!(self.code, Some(1), "{}\n{stderr}", self.stdout);
        assert!(!stderr.contains("panicked"), "{stderr}");
        let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error")).collect();
        assert_eq!(errors.len(), 1, "{stderr}");
        assert_eq!(stderr.lines().last(), Some(errors[0]), "{stderr}");
        for part in parts {
            assert!(errors[0].contains(part), "`{part}` is not in: {}", errors[0]);
        }
        self
    }

    /// Ends with 2: the command line is at fault, and the usage is told.
    #[track_caller]
    pub(crate) fn is_misuse(&self, part: &str) {
        assert_eq!(self.code, Some(2), "{}\n{}", self.stdout, self.stderr);
        let first = self.stderr.lines().next().unwrap_or_default();
        assert!(first.starts_with("error: ") && self.stderr.contains(part), "{}", self.stderr);
    }
}
