//! Test-time augmentation: the answer for an image is the mean of the answers for several views of it.

mod crops;
mod mirror;
mod mirror_shift;

use std::fmt::Debug;

use candle_core::{Result as TensorResult, Tensor};
use candle_vision_registry::Description;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crops::{FiveCrop, TenCrop};
pub use mirror::Mirror;
pub use mirror_shift::MirrorShift;

use crate::Result;
use crate::parts::{PartEntry, PartTable, try_described};

/// Views of each image whose logits are averaged, in an evaluation or a prediction.
///
/// # Example
/// ```
/// use candle_core::{Device, Result, Tensor};
/// use candle_vision_train::tta::{Mirror, TestTimeAugmentation};
///
/// let images = Tensor::new(&[[[[1f32, 2.0, 5.0]]]], &Device::Cpu)?;
/// // A network that sees the left pixel alone.
/// let left = |images: &Tensor| images.narrow(3, 0, 1)?.flatten_from(1);
/// let logits = Mirror::new().logits(&images, &mut |view| left(view))?;
/// assert_eq!(logits.to_vec2::<f32>()?, [[3.0]]);
/// # Result::Ok(())
/// ```
pub trait TestTimeAugmentation: Debug + Send + Sync {
    /// The views of a batch, each with its number of images, with their weights. The weights add up to 1.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`, as the network gets them
    ///
    /// # Errors
    /// If the images do not suit it.
    fn views(&self, images: &Tensor) -> TensorResult<Vec<(Tensor, f64)>>;

    /// Height and width of the views of images of `[height, width]`. The default is that of the images.
    fn view_size(&self, images: [usize; 2]) -> [usize; 2] {
        images
    }

    /// The weighted sum of the logits that `forward` gives for the views.
    ///
    /// # Errors
    /// As [`TestTimeAugmentation::views`], and the errors of `forward`.
    fn logits(
        &self,
        images: &Tensor,
        forward: &mut dyn FnMut(&Tensor) -> TensorResult<Tensor>,
    ) -> TensorResult<Tensor> {
        let mut sum: Option<Tensor> = None;
        for (view, weight) in self.views(images)? {
            let logits = (forward(&view)? * weight)?;
            sum = Some(match sum {
                Some(sum) => (sum + logits)?,
                None => logits,
            });
        }
        sum.ok_or_else(|| candle_core::Error::Msg(format!("{self:?} has no view of an image")))
    }

    /// Name and settings. A run with one that has no description cannot be resumed.
    fn describe(&self) -> Option<Description> {
        None
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// If one is impossible. The error names it.
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

/// The test-time augmentations that recipes can name.
pub type TestTimeAugmentations = PartTable<dyn TestTimeAugmentation>;

/// A row of [`TestTimeAugmentations`].
pub type TestTimeAugmentationEntry = PartEntry<dyn TestTimeAugmentation>;

impl PartTable<dyn TestTimeAugmentation> {
    /// The built-in ones.
    pub fn standard() -> Self {
        Self::of(
            "test-time augmentation",
            [
                TestTimeAugmentationEntry::of::<Mirror>("mirror", "the image and its mirror image"),
                TestTimeAugmentationEntry::of::<MirrorShift>(
                    "mirror_shift",
                    "both, also moved a little to the upper left and the lower right",
                ),
                TestTimeAugmentationEntry::of::<FiveCrop>(
                    "five_crop",
                    "the corners and the middle",
                ),
                TestTimeAugmentationEntry::of::<TenCrop>(
                    "ten_crop",
                    "the corners, the middle, and their mirror images",
                ),
            ],
        )
    }
}

impl PartEntry<dyn TestTimeAugmentation> {
    /// The entry of a test-time augmentation. The fields of its struct are its settings.
    pub fn of<T>(name: &'static str, summary: &str) -> Self
    where
        T: TestTimeAugmentation + Serialize + DeserializeOwned + 'static,
    {
        Self::new(name, summary, move |description| {
            let part: T = description.settings()?;
            part.validate()?;
            let description = try_described(name, &part)?;
            Ok(Box::new(Described { part, description }))
        })
    }
}

/// A test-time augmentation with the name of its entry.
#[derive(Debug)]
struct Described<T> {
    part: T,
    description: Description,
}

impl<T: TestTimeAugmentation> TestTimeAugmentation for Described<T> {
    fn views(&self, images: &Tensor) -> TensorResult<Vec<(Tensor, f64)>> {
        self.part.views(images)
    }

    fn view_size(&self, images: [usize; 2]) -> [usize; 2] {
        self.part.view_size(images)
    }

    fn logits(
        &self,
        images: &Tensor,
        forward: &mut dyn FnMut(&Tensor) -> TensorResult<Tensor>,
    ) -> TensorResult<Tensor> {
        self.part.logits(images, forward)
    }

    fn describe(&self) -> Option<Description> {
        Some(self.description.clone())
    }
}

/// The pixels of images at these rows and columns.
fn pixels_at(images: &Tensor, rows: Option<&[u32]>, columns: &[u32]) -> TensorResult<Tensor> {
    // Channels last, as loaders hand images out, so that nothing is copied twice.
    let mut picked = images.permute((0, 2, 3, 1))?.contiguous()?;
    if let Some(rows) = rows {
        picked = picked.index_select(&Tensor::new(rows, images.device())?, 1)?;
    }
    let columns = Tensor::new(columns, images.device())?;
    picked.index_select(&columns, 2)?.permute((0, 3, 1, 2))
}

/// The places of an axis of `size` pixels from right to left.
fn mirrored(size: usize) -> Vec<u32> {
    (0..size as u32).rev().collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// `[1, 1, 3, 4]` with the numbers from 0 to 11.
    fn image() -> Tensor {
        Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap().reshape((1, 1, 3, 4)).unwrap()
    }

    fn build(text: &str) -> Result<Box<dyn TestTimeAugmentation>> {
        TestTimeAugmentations::standard().build(&toml::from_str(text).expect("it is a table"))
    }

    fn rows(view: &Tensor) -> Vec<Vec<f32>> {
        view.squeeze(0).unwrap().squeeze(0).unwrap().to_vec2().unwrap()
    }

    /// The six views and weights of airbench's `infer_mirror_translate`:
    /// ```python
    /// x = torch.arange(12.).view(1, 1, 3, 4)
    /// padded = F.pad(x, (1,) * 4, 'reflect')
    /// for view in [x, padded[:, :, 0:3, 0:4], padded[:, :, 2:5, 2:6]]:
    ///     print(view, view.flip(-1))
    /// ```
    #[test]
    fn the_views_are_those_of_the_published_records() {
        let views = build("name = 'mirror_shift'").unwrap().views(&image()).unwrap();
        let expected: [(f64, [[f32; 4]; 3]); 6] = [
            (0.25, [[0., 1., 2., 3.], [4., 5., 6., 7.], [8., 9., 10., 11.]]),
            (0.25, [[3., 2., 1., 0.], [7., 6., 5., 4.], [11., 10., 9., 8.]]),
            (0.125, [[5., 4., 5., 6.], [1., 0., 1., 2.], [5., 4., 5., 6.]]),
            (0.125, [[6., 5., 4., 5.], [2., 1., 0., 1.], [6., 5., 4., 5.]]),
            (0.125, [[5., 6., 7., 6.], [9., 10., 11., 10.], [5., 6., 7., 6.]]),
            (0.125, [[6., 7., 6., 5.], [10., 11., 10., 9.], [6., 7., 6., 5.]]),
        ];
        assert_eq!(views.len(), expected.len());
        for ((view, weight), (expected_weight, expected)) in views.iter().zip(expected) {
            assert_eq!((rows(view), *weight), (expected.map(Vec::from).to_vec(), expected_weight));
        }
        let mirror = build("name = 'mirror'").unwrap().views(&image()).unwrap();
        let mirror: Vec<_> = mirror.iter().map(|(view, weight)| (rows(view), *weight)).collect();
        let whole: Vec<_> = views[..2].iter().map(|(view, _)| (rows(view), 0.5)).collect();
        assert_eq!(mirror, whole);
    }

    #[test]
    fn the_logits_are_the_weighted_mean() {
        let tta = build("name = 'mirror_shift'").unwrap();
        let mut seen = 0;
        let logits = tta.logits(&image(), &mut |view| {
            seen += 1;
            view.narrow(2, 0, 1)?.narrow(3, 0, 1)?.flatten_from(1)
        });
        // 0.25 * (0 + 3) + 0.125 * (5 + 6 + 5 + 6)
        assert_eq!(logits.unwrap().to_vec2::<f32>().unwrap(), [[3.5]]);
        assert_eq!(seen, 6);
    }

    #[test]
    fn crops_are_the_corners_and_the_middle() {
        let views = build("name = 'ten_crop'\nsize = 2").unwrap().views(&image()).unwrap();
        let expected: [[[f32; 2]; 2]; 5] = [
            [[0., 1.], [4., 5.]],
            [[2., 3.], [6., 7.]],
            [[4., 5.], [8., 9.]],
            [[6., 7.], [10., 11.]],
            [[1., 2.], [5., 6.]],
        ];
        assert!(views.len() == 10 && views.iter().all(|(_, weight)| *weight == 0.1));
        let five = build("name = 'five_crop'\nsize = 2").unwrap().views(&image()).unwrap();
        assert!(five.len() == 5 && five.iter().all(|(_, weight)| *weight == 0.2));
        for (i, expected) in expected.iter().enumerate() {
            assert_eq!(rows(&views[2 * i].0), expected.map(Vec::from));
            assert_eq!(rows(&five[i].0), expected.map(Vec::from));
            let mirrored = expected.map(|[left, right]| vec![right, left]);
            assert_eq!(rows(&views[2 * i + 1].0), mirrored);
        }
        let large = build("name = 'five_crop'\nsize = 4").unwrap();
        let error = large.views(&image()).unwrap_err().to_string();
        assert!(error.contains("crops of 4x4 need larger images than 3x4"), "{error}");
        // 7/8 of 3 rows are 2.
        let usual = build("name = 'five_crop'").unwrap();
        assert_eq!(usual.view_size([3, 4]), [2, 2]);
        assert_eq!(rows(&usual.views(&image()).unwrap()[4].0), [[1., 2.], [5., 6.]]);
        let error = build("name = 'ten_crop'\nsize = 0").unwrap_err().to_string();
        assert_eq!(error, "`tta.size` is 0; it must be at least 1");
    }

    #[test]
    fn settings_are_filled_in_and_checked() {
        let described = build("name = 'mirror_shift'").unwrap().describe().unwrap();
        assert_eq!(described, MirrorShift::new().into());
        let error = build("name = 'mirror_shift'\npixels = 0").unwrap_err().to_string();
        assert_eq!(error, "`tta.pixels` is 0; it must be at least 1");
        assert!(build("name = 'mirror'\npixels = 1").is_err());
        let far = build("name = 'mirror_shift'\npixels = 3").unwrap();
        let error = far.views(&image()).unwrap_err().to_string();
        assert!(error.contains("a shift by 3 pixels"), "{error}");
    }
}
