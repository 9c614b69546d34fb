//! What timm calls the parameters of a network that torchvision has too.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor};

use crate::{Model, Parameters};

/// What timm calls the parameters of a network, and in which form it has their tensors.
///
/// ```
/// use candle_vision_models::candle_core::Device;
/// use candle_vision_models::{ModelSpec, build};
///
/// let model = build(&ModelSpec::new("mobilenet_v2", 10), 0, &Device::Cpu)?;
/// let names = model.timm_names().expect("timm has it as `mobilenetv2_100`");
/// assert_eq!(names.name("features.0.1.bias"), "bn1.bias");
/// assert_eq!(names.path("blocks.0.0.conv_dw.weight"), Some("features.1.conv.0.0.weight"));
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct TimmNames {
    /// By our paths: all parameters that timm's files hold.
    names: BTreeMap<String, String>,
    /// The other way round.
    paths: BTreeMap<String, String>,
    /// By our paths: the shapes in timm's files, where they differ.
    shapes: BTreeMap<String, Vec<usize>>,
    /// By our paths: tables that the network computes and timm's files lack.
    computed: Vec<String>,
    variance_shift: f64,
    older: Option<OlderNames>,
}

/// What older files of timm, or those of the network's authors, call the parameters.
#[derive(Debug, Clone)]
struct OlderNames {
    /// Our paths by these names.
    paths: BTreeMap<String, String>,
    /// Ends of the names of tables that such files hold and that a network computes.
    computed: &'static [&'static str],
}

/// One of the forms of timm's names, see [`TimmNames::forms`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form<'a> {
    paths: &'a BTreeMap<String, String>,
    computed: &'static [&'static str],
}

impl<'a> Form<'a> {
    pub(crate) fn names(self) -> impl Iterator<Item = &'a str> {
        self.paths.keys().map(String::as_str)
    }

    pub(crate) fn path(self, name: &str) -> Option<&'a str> {
        self.paths.get(name).map(String::as_str)
    }

    /// Whether the network computes the table that such a file calls `name`.
    pub(crate) fn is_computed(self, name: &str) -> bool {
        self.computed.iter().any(|end| name.ends_with(end))
    }
}

/// The shapes of a network's parameters by their paths.
pub(crate) type Shapes = HashMap<String, Vec<usize>>;

pub(crate) fn shapes_of(parameters: &Parameters) -> Shapes {
    let all = parameters.all();
    all.iter().map(|p| (p.path().to_owned(), p.var().dims().to_vec())).collect()
}

impl TimmNames {
    /// The names of all `parameters`. `rename` gets the segments of a path, and all shapes; `None` stands for a parameter
    /// that timm calls the same.
    pub(crate) fn of(
        parameters: &Parameters,
        rename: impl Fn(&[&str], &Shapes) -> Option<String>,
    ) -> Self {
        let shapes = shapes_of(parameters);
        let mut found = Self::default();
        for parameter in &parameters.all() {
            let path = parameter.path();
            let segments: Vec<&str> = path.split('.').collect();
            let name = rename(&segments, &shapes).unwrap_or_else(|| path.to_owned());
            found.paths.insert(name.clone(), path.to_owned());
            found.names.insert(path.to_owned(), name);
        }
        found
    }

    /// The tensor of the parameter `path` has another shape in timm's files, with the same numbers in the same order.
    pub(crate) fn shape(mut self, path: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        self.shapes.insert(path.into(), shape.into());
        self
    }

    /// The parameters whose path ends in `field` are computed, and timm's files lack them.
    pub(crate) fn computed(mut self, field: &str) -> Self {
        self.computed = self.names.keys().filter(|path| path.ends_with(field)).cloned().collect();
        for path in &self.computed {
            self.names.remove(path);
        }
        self.paths.retain(|_, path| !path.ends_with(field));
        self
    }

    /// Older files call a parameter `older(name)` where timm calls it `name` today. They also hold tables whose names end
    /// in one of `computed`.
    pub(crate) fn older(
        mut self,
        older: impl Fn(&str) -> String,
        computed: &'static [&'static str],
    ) -> Self {
        let paths = self.paths.iter().map(|(name, path)| (older(name), path.clone())).collect();
        self.older = Some(OlderNames { paths, computed });
        self
    }

    /// Today's names, and the older ones if there are any. One name may stand for different parameters in the two.
    pub(crate) fn forms(&self) -> impl Iterator<Item = Form<'_>> {
        let today = Form { paths: &self.paths, computed: &[] };
        let older = self.older.iter().map(|o| Form { paths: &o.paths, computed: o.computed });
        std::iter::once(today).chain(older)
    }

    /// timm's batch norms add `theirs` to a variance before its root is taken, and ours add `ours`. So that both give the
    /// same, running variances differ by that.
    pub(crate) fn eps(mut self, theirs: f64, ours: f64) -> Self {
        self.variance_shift = theirs - ours;
        self
    }

    /// timm's name of the parameter `path`.
    pub fn name<'a>(&'a self, path: &'a str) -> &'a str {
        self.names.get(path).map_or(path, String::as_str)
    }

    /// The path of the parameter that timm calls `name`.
    pub fn path(&self, name: &str) -> Option<&str> {
        self.paths.get(name).map(String::as_str)
    }

    /// All names of timm with our paths, sorted by the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.paths.iter().map(|(name, path)| (name.as_str(), path.as_str()))
    }

    /// The paths of parameters that timm's files lack, because the network computes them.
    pub(crate) fn computed_paths(&self) -> &[String] {
        &self.computed
    }

    /// A tensor of timm's for the parameter `path`, in the form that this project has it.
    pub(crate) fn ours_of(&self, path: &str, tensor: &Tensor, ours: &[usize]) -> Result<Tensor> {
        let has_other_shape =
            self.shapes.get(path).is_some_and(|theirs| tensor.dims() == theirs.as_slice());
        match has_other_shape {
            true => tensor.reshape(ours),
            false => self.shifted(path, tensor, self.variance_shift),
        }
    }

    fn theirs_of(&self, path: &str, tensor: &Tensor) -> Result<Tensor> {
        match self.shapes.get(path) {
            Some(shape) => tensor.reshape(shape.as_slice()),
            None => self.shifted(path, tensor, -self.variance_shift),
        }
    }

    fn shifted(&self, path: &str, tensor: &Tensor, by: f64) -> Result<Tensor> {
        match by != 0.0 && path.ends_with(".running_var") {
            true => tensor + by,
            false => Ok(tensor.clone()),
        }
    }
}

/// All tensors of a network under timm's names and in timm's form, as its files have them.
///
/// # Errors
/// If a tensor cannot be read.
pub fn timm_tensors(model: &dyn Model) -> Result<BTreeMap<String, Tensor>> {
    let all = crate::weights::tensors(model.parameters());
    let Some(names) = model.timm_names() else { return Ok(all) };
    let kept = all.into_iter().filter(|(path, _)| !names.computed.contains(path));
    kept.map(|(path, tensor)| Ok((names.name(&path).to_owned(), names.theirs_of(&path, &tensor)?)))
        .collect()
}

/// timm's name of a tensor in an inverted residual block, whose layers are the children 0, 1, ... of `block`: without the
/// block's own name. `inner` are the segments behind `block`: the child, the layer in it, the field.
pub(crate) fn inverted_residual(block: &str, inner: &[&str], shapes: &Shapes) -> Option<String> {
    let (child, rest) = inner.split_first()?;
    match rest {
        ["fc1", field] => return Some(format!("se.conv_reduce.{field}")),
        ["fc2", field] => return Some(format!("se.conv_expand.{field}")),
        _ => {}
    }
    let [layer, field] = rest else { return None };
    let kernel = |child: usize| shapes.get(&format!("{block}.{child}.0.weight"));
    let convs: Vec<usize> = (0..4).filter(|child| kernel(*child).is_some()).collect();
    let place = convs.iter().position(|conv| conv.to_string() == *child)?;
    // A depthwise kernel sees one channel.
    let is_depthwise = kernel(*convs.first()?).is_some_and(|shape| shape.get(1) == Some(&1));
    in_block(convs.len(), is_depthwise, place, *layer == "0", field)
}

/// timm's name in a block of so many convolutions with batch norm, for the field of the convolution at `place` or of the
/// norm behind it.
pub(crate) fn in_block(
    convs: usize,
    begins_depthwise: bool,
    place: usize,
    is_conv: bool,
    field: &str,
) -> Option<String> {
    if !is_conv {
        return Some(format!("bn{}.{field}", place + 1));
    }
    let names: &[&str] = match (convs, begins_depthwise) {
        (1, _) => &["conv"],
        (2, true) => &["conv_dw", "conv_pw"],
        (2, false) => &["conv_exp", "conv_pwl"],
        _ => &["conv_pw", "conv_dw", "conv_pwl"],
    };
    names.get(place).map(|name| format!("{name}.{field}"))
}

/// Stage and number in it of each block, where a stage is a row of blocks with as many output channels.
pub(crate) fn stages(channels: impl IntoIterator<Item = usize>) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut before = None;
    for channels in channels {
        let place = match (found.last(), before == Some(channels)) {
            (Some((stage, block)), true) => (*stage, block + 1),
            (Some((stage, _)), false) => (stage + 1, 0),
            (None, _) => (0, 0),
        };
        found.push(place);
        before = Some(channels);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::stages;

    #[test]
    fn blocks_of_one_width_are_a_stage() {
        let expected = [(0, 0), (1, 0), (1, 1), (2, 0), (3, 0)];
        assert_eq!(stages([16, 24, 24, 40, 16]), expected);
    }
}
