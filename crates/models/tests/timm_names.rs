//! Weights under timm's names, for networks that have torchvision's (`tests/reference/generate.py timm_names`).

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_models::weights::{Strictness, load, tensors, timm_tensors};
use candle_vision_models::{
    ConvNeXt, ConvNeXtConfig, Model, ModelSpec, Parameters, SwinTransformer, SwinTransformerConfig,
    Vgg, VggConfig, VisionTransformer, VisionTransformerConfig, build,
};
use candle_vision_test_support::reference;

/// What the reference says of a network.
#[derive(Default)]
struct Names {
    network: String,
    /// timm's and our names of layers, whose fields are called alike.
    layers: HashMap<String, String>,
    /// By our paths.
    singles: HashMap<String, String>,
    shapes: HashMap<String, Vec<usize>>,
    /// What the running variances of ours have more than timm's.
    shift: f64,
}

impl Names {
    fn all() -> Vec<Self> {
        let text = std::fs::read_to_string(reference::path("timm_names.txt")).expect("a file");
        let mut found: Vec<Self> = Vec::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |word: &str| word.parse::<f64>().expect("a number");
            if !line.starts_with(' ') {
                found.push(Self { network: words[0].to_owned(), ..Self::default() });
                continue;
            }
            let names = found.last_mut().expect("a network comes first");
            match words.as_slice() {
                ["=", name, path] => drop(names.singles.insert(path.to_string(), name.to_string())),
                ["shape", path, shape @ ..] => {
                    let shape = shape.iter().map(|n| n.parse().expect("a number")).collect();
                    names.shapes.insert(path.to_string(), shape);
                }
                ["eps", theirs, ours] => names.shift = number(theirs) - number(ours),
                [name, path] => drop(names.layers.insert(path.to_string(), name.to_string())),
                _ => panic!("{line}"),
            }
        }
        found
    }

    /// timm's name of a parameter, as the reference has it.
    fn name(&self, path: &str) -> Option<String> {
        // The network computes it.
        if path.ends_with("relative_position_index") {
            return None;
        }
        let (layer, field) = path.rsplit_once('.').unwrap_or(("", path));
        let of_layer = || self.layers.get(layer).map(|name| format!("{name}.{field}"));
        self.singles.get(path).cloned().or_else(of_layer)
    }

    /// All tensors of a network as timm's file has them.
    fn tensors(&self, model: &dyn Model) -> Result<BTreeMap<String, Tensor>> {
        let mut found = BTreeMap::new();
        for (path, tensor) in tensors(model.parameters()) {
            let Some(name) = self.name(&path) else { continue };
            let tensor = match self.shapes.get(&path).map(Vec::as_slice) {
                // The network here may have fewer features.
                Some(&[_, _, height, width]) => {
                    let (out, inputs) = tensor.dims2()?;
                    tensor.reshape((out, inputs / (height * width), height, width))?
                }
                Some([_]) => tensor.flatten_all()?,
                Some(shape) => tensor.reshape(shape)?,
                None if path.ends_with("running_var") => (tensor - self.shift)?,
                None => tensor,
            };
            assert!(found.insert(name, tensor).is_none(), "{path}: two parameters of one name");
        }
        Ok(found)
    }
}

/// The network with ten classes. The largest ones have fewer features, which changes no name.
fn network(name: &str, seed: u64) -> Result<Box<dyn Model>> {
    let vb = Parameters::new().builder(seed, DType::F32, &Device::Cpu);
    if name == "vit_b_16" {
        let config = VisionTransformerConfig::new(16, 12, 2, 16).num_classes(10);
        return Ok(Box::new(VisionTransformer::new(config, vb)?));
    }
    if name.starts_with("vgg11") {
        let config = VggConfig::new([1, 1, 2, 2, 2]).batch_norm(name.ends_with("bn"));
        return Ok(Box::new(Vgg::new(config.hidden(8).num_classes(10), vb)?));
    }
    if name == "convnext_tiny" {
        let config = ConvNeXtConfig::new([8, 16, 24, 32], [3, 3, 9, 3]).num_classes(10);
        return Ok(Box::new(ConvNeXt::new(config, vb)?));
    }
    if name == "swin_t" {
        let config = SwinTransformerConfig::new(12, [2, 2, 6, 2], [1, 2, 4, 8]).num_classes(10);
        return Ok(Box::new(SwinTransformer::new(config, vb)?));
    }
    build(&ModelSpec::new(name, 10), seed, &Device::Cpu)
}

fn largest_difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    let flat = |x: &Tensor| x.flatten_all()?.to_dtype(DType::F64);
    (flat(a)? - flat(b)?)?.abs()?.max(0)?.to_scalar()
}

#[test]
fn weights_of_timm_load_by_themselves_and_are_written() -> Result<()> {
    let all = Names::all();
    assert_eq!(all.len(), 12);
    for names in &all {
        let name = &names.network;
        let (theirs, ours) = (network(name, 1)?, network(name, 2)?);
        let file = names.tensors(&*theirs)?;
        // Our table is the reference's, in both directions.
        let table = ours.timm_names().expect("timm has it");
        let listed: BTreeMap<&str, &str> = table.iter().collect();
        assert!(listed.keys().eq(file.keys()), "{name}");
        for (timm, path) in listed {
            assert_eq!(names.name(path).as_deref(), Some(timm), "{name}");
            assert_eq!((table.name(path), table.path(timm)), (timm, Some(path)), "{name}");
        }
        let written = timm_tensors(&*theirs)?;
        for (key, tensor) in &file {
            assert_eq!(written[key].dims(), tensor.dims(), "{name}: {key}");
            assert!(largest_difference(&written[key], tensor)? < 1e-6, "{name}: {key}");
        }
        assert_eq!(written.len(), file.len(), "{name}");
        let file: HashMap<String, Tensor> =
            file.into_iter().map(|(key, tensor)| (format!("module.{key}"), tensor)).collect();
        let report = load(&*ours, &file, Strictness::Strict)?;
        assert!(report.to_string().contains("of them under timm's names"), "{name}: {report}");
        assert_eq!(report.prefix.as_deref(), Some("module."), "{name}");
        let loaded = tensors(ours.parameters());
        for (path, tensor) in tensors(theirs.parameters()) {
            let difference = largest_difference(&loaded[&path], &tensor)?;
            assert!(difference < 1e-6, "{name}: {path} differs by {difference:.1e}");
        }
    }
    Ok(())
}

#[test]
fn a_head_for_other_classes_and_a_backbone_of_timm_are_fine_tuned() -> Result<()> {
    let (theirs, ours) = (network("mobilenet_v2", 1)?, network("mobilenet_v2", 2)?);
    let mut file: HashMap<String, Tensor> = timm_tensors(&*theirs)?.into_iter().collect();
    file.insert(
        "classifier.weight".to_owned(),
        Tensor::zeros((7, 1280), DType::F32, &Device::Cpu)?,
    );
    file.insert("classifier.bias".to_owned(), Tensor::zeros(7, DType::F32, &Device::Cpu)?);
    let report = load(&*ours, &file, Strictness::ExceptHead)?;
    assert_eq!(report.new_head, ["classifier.1.weight", "classifier.1.bias"]);
    file.retain(|name, _| !name.starts_with("classifier"));
    assert!(load(&*ours, &file, Strictness::ExceptHead)?.is_complete());
    // The network's own names are no other names.
    let own: HashMap<String, Tensor> = tensors(theirs.parameters()).into_iter().collect();
    assert!(load(&*ours, &own, Strictness::Strict)?.timm_names.is_empty());
    Ok(())
}

/// Files of the Swin authors and of timm before 0.9: `layers.1.downsample` is there what is `layers.2.downsample` today.
#[test]
fn older_names_of_swin_load() -> Result<()> {
    let (theirs, ours) = (network("swin_t", 1)?, network("swin_t", 2)?);
    let mut file = HashMap::new();
    for (name, tensor) in timm_tensors(&*theirs)? {
        let older = match name.split('.').collect::<Vec<_>>().as_slice() {
            ["layers", "1", "downsample", layer, field] => {
                format!("layers.0.downsample.{layer}.{field}")
            }
            ["layers", "2", "downsample", layer, field] => {
                format!("layers.1.downsample.{layer}.{field}")
            }
            ["layers", "3", "downsample", layer, field] => {
                format!("layers.2.downsample.{layer}.{field}")
            }
            ["head", "fc", field] => format!("head.{field}"),
            _ => name.clone(),
        };
        file.insert(older, tensor);
    }
    let table = Tensor::zeros((49, 49), DType::I64, &Device::Cpu)?;
    file.insert("layers.0.blocks.0.attn.relative_position_index".to_owned(), table.clone());
    file.insert("layers.0.blocks.1.attn_mask".to_owned(), table);
    let report = load(&*ours, &file, Strictness::Strict)?;
    assert!(report.to_string().contains("of them under timm's names"), "{report}");
    let loaded = tensors(ours.parameters());
    for (path, tensor) in tensors(theirs.parameters()) {
        assert_eq!(largest_difference(&loaded[&path], &tensor)?, 0.0, "{path}");
    }
    Ok(())
}
