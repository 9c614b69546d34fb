//! Files under timm's names, for networks that have torchvision's.

use std::collections::{BTreeMap, HashMap, HashSet};

use candle_core::{Result, Tensor};

use super::names::{Renamed, renamed};
use crate::Model;
use crate::timm::Form;

/// If more of the file's names are timm's than the network's own, `found` gets the tensors under the network's own
/// names and in its form. Returns the names that were timm's.
pub(super) fn with_our_names(
    model: &dyn Model,
    tensors: &HashMap<String, Tensor>,
    ours: &HashSet<&str>,
    found: &mut Renamed,
) -> Result<Vec<String>> {
    let Some(names) = model.timm_names() else { return Ok(Vec::new()) };
    let count = |tensors: &BTreeMap<String, Tensor>, names: &HashSet<&str>, not: &HashSet<&str>| {
        tensors.keys().map(String::as_str).filter(|n| names.contains(n) && !not.contains(n)).count()
    };
    let mut best: Option<(usize, Form<'_>, Renamed)> = None;
    for form in names.forms() {
        let theirs: HashSet<&str> = form.names().collect();
        // A file of several networks is told of where their names are the network's own.
        let Ok(by_timm) = renamed(tensors, &theirs) else { return Ok(Vec::new()) };
        let matches = count(&by_timm.tensors, &theirs, ours);
        let is_timm = matches > count(&found.tensors, ours, &theirs);
        if is_timm && best.as_ref().is_none_or(|(most, ..)| matches > *most) {
            best = Some((matches, form, by_timm));
        }
    }
    let Some((_, form, by_timm)) = best else { return Ok(Vec::new()) };
    let (mut of_timm, mut current) = (Vec::new(), BTreeMap::new());
    for (name, tensor) in by_timm.tensors {
        let Some(path) = form.path(&name) else {
            if !form.is_computed(&name) {
                current.insert(name, tensor);
            }
            continue;
        };
        let shape = model.parameters().get(path).map(|p| p.var().dims().to_vec());
        let tensor = names.ours_of(path, &tensor, &shape.unwrap_or_default())?;
        current.insert(path.to_owned(), tensor);
        if path != name {
            of_timm.push(name);
        }
    }
    for path in names.computed_paths() {
        if let Some(table) = model.parameters().get(path) {
            current.insert(path.clone(), table.detached());
        }
    }
    *found = Renamed { tensors: current, ..by_timm };
    Ok(of_timm)
}
