//! Finds the dictionary of a PyTorch file that holds the weights.
//!
//! Training scripts save the weights alone, or in a dictionary next to the epoch and the optimizer's state. The
//! name of that entry differs from script to script. So the weights are recognised by their content: names with
//! tensors.

use std::collections::{BTreeSet, HashSet};

use super::pickle::{Id, Object, Pickle, Value, Values};

/// Usual names of the weights in a checkpoint, the plainest first.
const USUAL: &[&str] = &[
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "model_weights",
    "net_state_dict",
    "parameters",
    "module",
    "backbone",
    "encoder",
];
/// Words in the names of averaged weights. These are taken only if there are no others.
const AVERAGED: &[&str] = &["ema", "swa", "averaged", "teacher", "shadow"];
/// Words in the names of entries that are not weights.
const OTHER_STATE: &[&str] = &[
    "optim",
    "sched",
    "scaler",
    "amp",
    "criterion",
    "loss",
    "history",
    "sampler",
    "rng",
    "callbacks",
    "loops",
];
/// How deep in the file weights may lie.
const MAX_DEPTH: usize = 5;
/// The longest list in which weights may lie.
const MAX_ITEMS: usize = 8;
/// The largest number of values that are searched.
const MAX_DICTIONARIES: usize = 100_000;
/// The largest number of dictionaries among which the weights are chosen. Each is compared with each.
const MAX_CANDIDATES: usize = 1_000;
/// The longest names of all tensors together, in bytes. A pickle may use one long text as the name of any number of tensors.
const MAX_NAMES_BYTES: usize = 64 << 20;

/// A dictionary that contains tensors.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Its path in the file, such as `checkpoint.state_dict`. Empty for the file's outermost dictionary.
    pub(super) path: String,
    /// Names and tensors, in the order of the file. A tensor may be unreadable.
    pub(super) tensors: Vec<(String, Id)>,
    /// Whether it is part of an optimizer's state.
    is_state: bool,
}

/// The dictionary with the weights, and the names of the other dictionaries with tensors.
pub(super) fn find(pickle: &Pickle) -> Result<(Found, Vec<String>), String> {
    let values = &pickle.values;
    if let Value::Object(object) = values.get(pickle.root) {
        return Err(whole_network(object));
    }
    if matches!(values.get(pickle.root), Value::Tensor(_)) {
        return Err(
            "it holds one tensor and no names; save the whole `model.state_dict()`".to_owned()
        );
    }
    let mut search = Search { values, seen: HashSet::new(), all: Vec::new(), names_bytes: 0 };
    search.collect(pickle.root, "", 0, false);
    if search.names_bytes > MAX_NAMES_BYTES {
        return Err("its names are too long for names of tensors: the file is damaged".to_owned());
    }
    let mut all = search.all;
    // A single statistic beside a whole pickled network is not the weights.
    let best =
        choose(&all).filter(|best| all[*best].tensors.len() > 1 || network(pickle).is_none());
    let Some(best) = best else {
        return Err(nothing_found(pickle, &all));
    };
    let chosen = all.swap_remove(best);
    let left_out: BTreeSet<String> =
        all.iter().filter_map(|found| other_part(found, &chosen)).collect();
    Ok((chosen, left_out.into_iter().collect()))
}

/// The shortest name that tells `found` from `chosen`. An optimizer's state has one dictionary for each
/// parameter, and all of them get one name.
fn other_part(found: &Found, chosen: &Found) -> Option<String> {
    let root = |path: &str| path.split('.').next().unwrap_or_default().to_owned();
    let part = root(&found.path);
    let part = if part == root(&chosen.path) { found.path.clone() } else { part };
    (!part.is_empty()).then_some(part)
}

struct Search<'a> {
    values: &'a Values,
    seen: HashSet<Id>,
    all: Vec<Found>,
    names_bytes: usize,
}

impl Search<'_> {
    fn collect(&mut self, id: Id, path: &str, depth: usize, is_state: bool) {
        let is_enough = self.seen.len() >= MAX_DICTIONARIES || self.names_bytes > MAX_NAMES_BYTES;
        if depth > MAX_DEPTH || is_enough || !self.seen.insert(id) {
            return;
        }
        let values = self.values;
        let below = |name: &str| {
            if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
        };
        match values.get(id) {
            Value::Dict(pairs) => {
                let is_tensor =
                    |id: Id| matches!(values.get(id), Value::Tensor(_) | Value::Unreadable(_));
                let names = pairs.iter().filter_map(|(key, _)| values.text(*key));
                self.names_bytes = names.fold(self.names_bytes + path.len(), |sum, name| {
                    sum.saturating_add(name.len())
                });
                if self.names_bytes > MAX_NAMES_BYTES {
                    return;
                }
                let tensors: Vec<(String, Id)> = pairs
                    .iter()
                    .filter(|(_, value)| is_tensor(*value))
                    .filter_map(|(key, value)| Some((values.text(*key)?.to_owned(), *value)))
                    .collect();
                let is_state = is_state || is_optimizer(values, id);
                if !tensors.is_empty() {
                    self.all.push(Found { path: path.to_owned(), tensors, is_state });
                }
                for (key, value) in pairs {
                    let name = match values.get(*key) {
                        Value::Text(name) => name.to_string(),
                        Value::Int(number) => number.to_string(),
                        _ => continue,
                    };
                    self.collect(*value, &below(&name), depth + 1, is_state);
                }
            }
            Value::List(items) | Value::Tuple(items) if items.len() <= MAX_ITEMS => {
                for (i, item) in items.iter().enumerate() {
                    self.collect(*item, &below(&i.to_string()), depth + 1, is_state);
                }
            }
            _ => {}
        }
    }
}

/// PyTorch's optimizers save these two entries.
fn is_optimizer(values: &Values, id: Id) -> bool {
    let Value::Dict(pairs) = values.get(id) else {
        return false;
    };
    let has = |name: &str| pairs.iter().any(|(key, _)| values.text(*key) == Some(name));
    has("state") && has("param_groups")
}

/// The index of the dictionary that most likely holds the weights.
fn choose(all: &[Found]) -> Option<usize> {
    let is_weights = |found: &Found| !found.is_state && !has_part(&found.path, OTHER_STATE);
    let weights =
        || all.iter().enumerate().filter(|(_, found)| is_weights(found)).take(MAX_CANDIDATES);
    let plain = weights().filter(|(_, found)| !has_part(&found.path, AVERAGED));
    // Ties go to the first dictionary, which is the outermost.
    best_of(plain).or_else(|| best_of(weights()))
}

fn best_of<'a>(candidates: impl Iterator<Item = (usize, &'a Found)>) -> Option<usize> {
    let candidates: Vec<(usize, &Found)> = candidates.collect();
    let most = candidates.iter().map(|(_, found)| found.tensors.len()).max()?;
    // A usual name decides, unless the dictionary holds hardly anything, such as a single statistic.
    let rank = |found: &Found| {
        let last = found.path.rsplit('.').next().unwrap_or_default();
        let known = USUAL.iter().position(|usual| *usual == last);
        let counts = found.tensors.len() >= 2 || found.tensors.len() == most;
        let outer = candidates.iter().any(|(_, outer)| {
            outer.tensors.len() > found.tensors.len() && is_inside(&found.path, &outer.path)
        });
        known.filter(|_| counts && !outer).unwrap_or(USUAL.len())
    };
    let order = |(_, found): &&(usize, &Found)| (rank(found), usize::MAX - found.tensors.len());
    candidates.iter().min_by_key(order).map(|(place, _)| *place)
}

fn is_inside(path: &str, outer: &str) -> bool {
    outer.is_empty() && !path.is_empty()
        || path.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether a word in a segment of `path` begins with one of `parts`. `optim` is found in `optimizer_states.0`,
/// and `ema` in `model_ema` but not in `schema`.
fn has_part(path: &str, parts: &[&str]) -> bool {
    let lower = path.to_ascii_lowercase();
    let mut words = lower.split(['.', '_', '-']);
    words.any(|word| parts.iter().any(|part| word.starts_with(part)))
}

/// A whole pickled network beside other entries.
fn network(pickle: &Pickle) -> Option<&Object> {
    let Value::Dict(pairs) = pickle.values.get(pickle.root) else {
        return None;
    };
    pairs.iter().find_map(|(_, value)| match pickle.values.get(*value) {
        Value::Object(object) if object.is_module => Some(object.as_ref()),
        _ => None,
    })
}

fn nothing_found(pickle: &Pickle, all: &[Found]) -> String {
    if let Some(network) = network(pickle) {
        return whole_network(network);
    }
    if is_optimizer(&pickle.values, pickle.root) {
        return "it holds an optimizer's state and no weights; save `model.state_dict()`"
            .to_owned();
    }
    match all.first() {
        Some(found) => format!(
            "it holds tensors under `{}` alone, which are no weights; save `model.state_dict()`",
            found.path
        ),
        None => "it holds no tensors by name; save `model.state_dict()` of the network".to_owned(),
    }
}

fn whole_network(object: &Object) -> String {
    if object.class.module.starts_with("__torch__") {
        return torchscript(&object.class.to_string());
    }
    let what = if object.is_module { "a whole pickled network" } else { "a pickled object" };
    format!(
        "it is {what} (`{}`), and opening it would run its code; in Python save its weights alone, \
         `torch.save(model.state_dict(), \"weights.pth\")`",
        object.class
    )
}

/// The error for a TorchScript program of this class.
pub(super) fn torchscript(class: &str) -> String {
    let class =
        class.split('.').filter(|part| !part.starts_with("__")).collect::<Vec<_>>().join(".");
    format!(
        "it is a TorchScript program (`{class}`) and no weight file; in Python save its weights alone, \
         `torch.save(torch.jit.load(path).state_dict(), \"weights.pth\")`"
    )
}
