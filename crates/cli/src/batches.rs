//! Sends images through a network in batches.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Tensor;
use candle_vision::Classifier;
use candle_vision::data::Image;

use crate::out_of_memory::unless_full;
use crate::read_options::with_remedy;
use crate::say;

/// An image as read, and as the input of the network.
pub(crate) struct Input<'a> {
    /// Its index among the named images.
    pub(crate) index: usize,
    pub(crate) path: &'a Path,
    pub(crate) image: Image,
    /// A batch of this one image.
    pub(crate) tensor: Tensor,
}

/// Reads an image file. Returns the image and a batch of it.
pub(crate) fn input(classifier: &Classifier, path: &Path) -> Result<(Image, Tensor)> {
    let (image, scaled_from) = classifier.read(path).map_err(with_remedy)?;
    if let Some([height, width]) = scaled_from {
        say::note(format_args!(
            "`{}` is {width}x{height}; scaled to the {}x{} that the network was trained on",
            path.display(),
            image.width(),
            image.height()
        ));
    }
    let tensor = classifier
        .prepare(&image)
        .with_context(|| format!("cannot prepare `{}`", path.display()))?;
    Ok((image, tensor))
}

/// Reads the images, calls `compute` on up to `batch_size` of them at a time, and passes each result to
/// `show` in the order of `paths`. If an image cannot be read, or the network does not accept it, a message
/// names it and the others go on. Returns whether there was no such image.
///
/// # Errors
/// The errors of `show`, and if the device's memory is too small.
pub(crate) fn in_batches<T>(
    classifier: &Classifier,
    paths: &[PathBuf],
    batch_size: usize,
    compute: impl Fn(&Tensor) -> Result<Vec<T>>,
    mut show: impl FnMut(&Input<'_>, T) -> Result<()>,
) -> Result<bool> {
    let mut all_went_well = true;
    for (number, chunk) in paths.chunks(batch_size).enumerate() {
        let mut inputs = Vec::with_capacity(chunk.len());
        for (place, path) in chunk.iter().enumerate() {
            match input(classifier, path) {
                Ok((image, tensor)) => {
                    let index = number * batch_size + place;
                    inputs.push(Input { index, path, image, tensor });
                }
                Err(error) => {
                    all_went_well = false;
                    say::error(&error);
                }
            }
        }
        // If the transforms set no fixed size, only images of equal size share a batch.
        for group in inputs.chunk_by(|a, b| a.tensor.dims() == b.tensor.dims()) {
            for (input, result) in group.iter().zip(results(group, &compute)?) {
                match result {
                    Ok(result) => show(input, result)?,
                    Err(error) => {
                        all_went_well = false;
                        say::error(&error);
                    }
                }
            }
        }
    }
    Ok(all_went_well)
}

/// The result of each input. If a batch fails, each image is tried by itself, because one may be the cause.
fn results<T>(
    group: &[Input<'_>],
    compute: &impl Fn(&Tensor) -> Result<Vec<T>>,
) -> Result<Vec<Result<T>>> {
    if group.len() > 1 {
        let tensors: Vec<&Tensor> = group.iter().map(|input| &input.tensor).collect();
        match compute(&Tensor::cat(&tensors, 0)?) {
            Ok(results) => return Ok(results.into_iter().map(Ok).collect()),
            Err(error) => drop(unless_full(error, group.len())?),
        }
    }
    let alone = |input: &Input<'_>| match compute(&input.tensor) {
        Ok(results) => Ok(results.into_iter().next().context("the network gave no answer")),
        Err(error) => {
            let of_image = format!("`{}` cannot be shown to the network", input.path.display());
            Ok(Err(unless_full(error, 1)?.context(of_image)))
        }
    };
    group.iter().map(alone).collect()
}
