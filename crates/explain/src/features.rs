//! Feature extraction: the outputs of layers for many images, as tensors and NumPy files.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_vision_files::NewFile;
use candle_vision_models::{Hooks, Model, Pass, PreparedLayers, RecordShapes};
use candle_vision_registry::nearest_names;

use crate::{Error, Result};

/// Collects the outputs of chosen layers for many images, batch by batch.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::FeatureExtractor;
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("resnet18", 2), 0, &Device::Cpu)?;
/// let mut extractor = FeatureExtractor::new(&*model, ["avgpool", "layer[1-2]"]);
/// for images in [Tensor::zeros((2, 3, 64, 64), DType::F32, &Device::Cpu)?] {
///     extractor.add(&images)?;
/// }
/// let features = extractor.finish()?;
/// assert_eq!(features.get("layer2").unwrap().dims(), [2, 128, 8, 8]);
/// let folder = tempfile::tempdir()?;
/// // One file for each layer, as there are several.
/// let files = features.write_npy(folder.path().join("features.npy"))?;
/// assert_eq!(files[0].file_name().unwrap(), "features.layer1.npy");
/// # Ok(())
/// # }
/// ```
pub struct FeatureExtractor<'m> {
    model: &'m dyn Model,
    patterns: Vec<String>,
    prepared: PreparedLayers,
    /// The outputs of the batches for each layer, in the order of the forward pass.
    outputs: Vec<(String, Vec<Tensor>)>,
}

impl<'m> FeatureExtractor<'m> {
    /// An extractor for the layers that these paths or patterns name (see [`Hooks`]).
    pub fn new(model: &'m dyn Model, layers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let patterns = layers.into_iter().map(Into::into).collect();
        Self { model, patterns, prepared: PreparedLayers::new(), outputs: Vec::new() }
    }

    /// Adds the features of a batch.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`, preprocessed as in training
    ///
    /// # Errors
    /// If a pattern matches no layer, or the images do not fit the network.
    pub fn add(&mut self, images: &Tensor) -> Result<()> {
        let mut seen = Vec::new();
        let mut hooks = Hooks::new();
        hooks.on_output(&format!("{{{}}}", self.patterns.join(",")), |layer, output| {
            // Features are kept on the host, so that they do not fill the GPU's memory.
            let output = output.detach().to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
            seen.push((layer.to_owned(), output.contiguous()?));
            Ok(None)
        });
        let pass = Pass::eval().with_prepared(&self.prepared);
        self.model.forward(images, &mut pass.with_hooks(&mut hooks))?;
        drop(hooks);
        for (layer, output) in seen {
            match self.outputs.iter_mut().find(|(path, _)| *path == layer) {
                Some((_, outputs)) => outputs.push(output),
                None => self.outputs.push((layer, vec![output])),
            }
        }
        self.check(images)
    }

    /// Fails if a pattern matches no layer.
    fn check(&self, images: &Tensor) -> Result<()> {
        for pattern in &self.patterns {
            if self
                .outputs
                .iter()
                .any(|(layer, _)| candle_vision_models::layer_matches(pattern, layer))
            {
                continue;
            }
            let mut layers = RecordShapes::default();
            self.model
                .forward(&images.narrow(0, 0, 1)?, &mut Pass::eval().with_hooks(&mut layers))?;
            let paths = layers.shapes.iter().map(|(path, _)| path.as_str());
            let near = nearest_names(pattern, paths, 4).into_iter().map(str::to_owned).collect();
            return Err(Error::UnknownLayer { layer: pattern.clone(), near });
        }
        Ok(())
    }

    /// Joins the features of all batches.
    ///
    /// # Errors
    /// If no batch was added, or if images of different sizes gave features of different shapes.
    pub fn finish(self) -> Result<Features> {
        let layers = self.outputs.into_iter().map(|(layer, outputs)| {
            let features = Tensor::cat(&outputs, 0)
                .map_err(|error| error.context(format!("layer `{layer}` gave several shapes")))?;
            Ok((layer, features))
        });
        let layers = layers.collect::<Result<Vec<_>>>()?;
        if layers.is_empty() { Err(Error::NoImages) } else { Ok(Features { layers }) }
    }
}

impl std::fmt::Debug for FeatureExtractor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FeatureExtractor").field("patterns", &self.patterns).finish_non_exhaustive()
    }
}

/// The outputs of chosen layers for many images.
#[derive(Debug, Clone)]
pub struct Features {
    layers: Vec<(String, Tensor)>,
}

impl Features {
    /// The features of the layer at path `layer`, `[images, ...]`. Feature maps are `[images, channels, height,
    /// width]`.
    pub fn get(&self, layer: &str) -> Option<&Tensor> {
        self.layers.iter().find(|(path, _)| path == layer).map(|(_, features)| features)
    }

    /// The layers' paths with their features, in the order of the forward pass.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.layers.iter().map(|(layer, features)| (layer.as_str(), features))
    }

    /// Writes the features as 32-bit floats to files that `numpy.load` reads. Returns the paths of the files.
    /// The features of a single layer go to `path` itself. With several layers, `features.npy` becomes
    /// `features.LAYER.npy`.
    ///
    /// # Errors
    /// If a file cannot be written. No file is left half written.
    pub fn write_npy(&self, path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
        let path = path.as_ref();
        let file = |layer: &str| match self.layers.len() {
            1 => path.to_path_buf(),
            _ => path.with_extension(format!("{layer}.npy")),
        };
        let write = |(layer, features): &(String, Tensor)| {
            let file = file(layer);
            let failed = |source| Error::Write { path: file.clone(), source };
            let temporary = NewFile::create(&file).map_err(failed)?;
            features.write_npy(temporary.path())?;
            temporary.commit().map_err(failed)?;
            Ok(file)
        };
        self.layers.iter().map(write).collect()
    }
}
