//! Undoes the changes that a wrapper, a framework or a larger network made to parameter names.

use std::collections::{BTreeMap, HashMap, HashSet};

use candle_core::{Error, Result, Tensor};

/// Segments that wrappers add to names: `DataParallel`, `torch.compile`, sharding and checkpointing.
const WRAPPERS: &[&str] =
    &["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];
/// Prefixes of the tensors that trainers save beside the network, here and in other programs.
const TRAINING_STATE: &[&str] =
    &["optimizer.", "optim.", "ema.", "history.", "scheduler.", "lr_scheduler."];
/// Parts of the names of a network's averaged copy.
const TWINS: &[&str] = &["ema", "teacher", "momentum", "swa", "averaged", "target", "_k."];

/// The tensors of a file under a network's names, as far as the names allow it.
#[derive(Debug, Default)]
pub(super) struct Renamed {
    pub(super) tensors: BTreeMap<String, Tensor>,
    /// The prefix that was removed.
    pub(super) prefix: Option<String>,
    /// Tensors without this prefix, by their full names.
    pub(super) beside: BTreeMap<String, Tensor>,
    /// Names of a trainer's tensors.
    pub(super) state: Vec<String>,
}

/// `tensors` with the names that `rename` knows replaced, and the names that were. A name that would be there twice
/// stays as it is.
pub(super) fn with_current_names(
    tensors: &HashMap<String, Tensor>,
    rename: impl Fn(&str) -> Option<String>,
) -> (HashMap<String, Tensor>, Vec<String>) {
    let (mut current, mut older) = (tensors.clone(), Vec::new());
    for (name, tensor) in tensors {
        if let Some(new) = rename(name).filter(|new| !tensors.contains_key(new)) {
            current.remove(name);
            current.insert(new, tensor.clone());
            older.push(name.clone());
        }
    }
    older.sort_unstable();
    (current, older)
}

/// Renames `tensors` to match a network whose parameters are called `ours`.
pub(super) fn renamed(tensors: &HashMap<String, Tensor>, ours: &HashSet<&str>) -> Result<Renamed> {
    let (state, rest) = without_state(tensors, ours);
    let plain = best_prefix(rest.keys().map(String::as_str), ours)?;
    let unwrapped: BTreeMap<String, Tensor> =
        rest.iter().map(|(name, tensor)| (unwrapped(name), tensor.clone())).collect();
    // If two names become the same, they belong to different tensors, so nothing is unwrapped.
    let inner = if unwrapped.len() == rest.len() {
        best_prefix(unwrapped.keys().map(String::as_str), ours)?
    } else {
        Prefix::default()
    };
    let renamed = if inner.matches > plain.matches {
        let wrapper =
            WRAPPERS.iter().find(|wrapper| rest.keys().any(|name| has_segment(name, wrapper)));
        let wrapper = wrapper.map(|wrapper| format!("{wrapper}.")).unwrap_or_default();
        let split = split(unwrapped, &inner.text, ours);
        let left_off = format!("{wrapper}{}", inner.text);
        Renamed { prefix: Some(left_off), ..split }
    } else {
        split(rest, &plain.text, ours)
    };
    Ok(Renamed { state, ..renamed })
}

fn without_state(
    tensors: &HashMap<String, Tensor>,
    ours: &HashSet<&str>,
) -> (Vec<String>, BTreeMap<String, Tensor>) {
    let is_state = |name: &str| {
        let prefix = TRAINING_STATE.iter().find(|prefix| name.starts_with(**prefix));
        prefix.is_some_and(|prefix| !ours.iter().any(|name| name.starts_with(prefix)))
    };
    let all = || tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone()));
    let rest: BTreeMap<String, Tensor> = all().filter(|(name, _)| !is_state(name)).collect();
    if rest.is_empty() {
        return (Vec::new(), all().collect());
    }
    let mut state: Vec<String> = tensors.keys().filter(|name| is_state(name)).cloned().collect();
    state.sort_unstable();
    (state, rest)
}

#[derive(Default)]
struct Prefix {
    text: String,
    matches: usize,
}

/// The prefix whose removal gives the most names of the network. Empty if no removal helps.
fn best_prefix<'a>(names: impl Iterator<Item = &'a str>, ours: &HashSet<&str>) -> Result<Prefix> {
    let mut matches: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        let ends = name.match_indices('.').map(|(dot, _)| dot + 1);
        for start in std::iter::once(0).chain(ends) {
            let (prefix, rest) = name.split_at(start);
            if ours.contains(rest) {
                *matches.entry(prefix).or_default() += 1;
            }
        }
    }
    let most = matches.values().copied().max().unwrap_or(0);
    let mut best: Vec<&str> =
        matches.iter().filter(|(_, count)| **count == most).map(|(prefix, _)| *prefix).collect();
    if best.len() > 1 && best.first().is_some_and(|prefix| !prefix.is_empty()) {
        let is_twin = |prefix: &&str| TWINS.iter().any(|twin| prefix.contains(twin));
        let own: Vec<&str> = best.iter().copied().filter(|prefix| !is_twin(prefix)).collect();
        if let [_] = own.as_slice() {
            best = own;
        }
    }
    match best.as_slice() {
        [] => Ok(Prefix::default()),
        // Layers of another network may share some names with this one.
        [first, second, ..] if !first.is_empty() && most * 2 > ours.len() => {
            Err(Error::Msg(format!(
                "the file holds several networks, under `{first}` and under `{second}`; save the one that is \
             wanted alone"
            )))
        }
        // The prefixes are sorted, so the empty one comes first.
        [first, ..] => Ok(Prefix { text: (*first).to_owned(), matches: most }),
    }
}

fn split(tensors: BTreeMap<String, Tensor>, prefix: &str, ours: &HashSet<&str>) -> Renamed {
    let mut renamed =
        Renamed { prefix: (!prefix.is_empty()).then(|| prefix.to_owned()), ..Renamed::default() };
    for (name, tensor) in tensors {
        match name.strip_prefix(prefix) {
            Some(inner) => drop(renamed.tensors.insert(inner.to_owned(), tensor)),
            None => drop(renamed.beside.insert(name, tensor)),
        }
    }
    // A head beside a wrapped backbone may already have the network's own name.
    let known: Vec<String> =
        renamed.beside.keys().filter(|name| ours.contains(name.as_str())).cloned().collect();
    for name in known {
        if let (false, Some(tensor)) =
            (renamed.tensors.contains_key(&name), renamed.beside.remove(&name))
        {
            renamed.tensors.insert(name, tensor);
        }
    }
    renamed
}

fn unwrapped(name: &str) -> String {
    let segments = name.split('.').filter(|segment| !WRAPPERS.contains(segment));
    segments.collect::<Vec<_>>().join(".")
}

fn has_segment(name: &str, segment: &str) -> bool {
    name.split('.').any(|part| part == segment)
}
