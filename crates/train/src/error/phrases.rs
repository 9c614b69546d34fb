//! Parts of the messages that depend on what went wrong.

use candle_vision_models::is_under;
use candle_vision_registry::one_line;

pub(super) fn first_parameter(parameter: &Option<String>) -> String {
    parameter.as_ref().map_or(String::new(), |path| format!(", first seen in `{path}`"))
}

pub(super) fn why_it_must_not_differ(what: &str) -> &'static str {
    let what = what.trim_start_matches('`').split([' ', '`']).next().unwrap_or_default();
    match what {
        "seed" => "it decides every random draw",
        "fingerprint" => "the run was trained on other data",
        "transforms" | "batch_transforms" => "they decide what the network sees",
        "batch_size" | "drop_last" | "shuffle" | "limit_batches" => "it decides the batches",
        _ => "it decides what every step does",
    }
}

/// A number of ranks, as a checkpoint has it.
pub(super) fn ranks(number: &str) -> String {
    let ranks = if number == "1" { "rank" } else { "ranks" };
    format!("{} {ranks}", one_line(number))
}

pub(super) fn early_stop(reason: crate::StopReason) -> &'static str {
    match reason {
        crate::StopReason::EarlyStopped => " or another `early_stop`",
        _ => "",
    }
}

pub(super) fn which_batch(samples: Option<usize>, batch_size: usize, ranks: usize) -> String {
    let each = if ranks > 1 { format!(" on each of {ranks} processes") } else { String::new() };
    match samples {
        _ if batch_size == 1 => format!("`batch_size` is 1{each}"),
        Some(samples) if ranks > 1 => {
            format!(
                "the last batch of {samples} samples, in batches of {batch_size}{each}, leaves one of them a single sample"
            )
        }
        Some(samples) => {
            format!("the last of {samples} samples is alone in batches of {batch_size}")
        }
        None => format!("all but one sample of a batch of {batch_size} were left out"),
    }
}

pub(super) fn larger(samples: Option<usize>, batch_size: usize, ranks: usize) -> String {
    let across = ", or `distributed.batch_norm = \"synchronised\"`";
    let across = if ranks > 1 { across } else { "" };
    match samples {
        _ if batch_size == 1 => {
            format!(
                "`batch_size` to at least 2, with `drop_last` where one sample is left over{across}"
            )
        }
        Some(_) => format!("`drop_last`, or another `batch_size` than {batch_size}{across}"),
        None => format!("`batch_size` larger than {batch_size} (`drop_last` does not help here)"),
    }
}

pub(super) fn remedy_for_targets(part: &str) -> &'static str {
    if part.starts_with("the metric") {
        return "use `mean_average_precision`, `multi_label_f1` or `exact_match`, or have its `takes` say that it does";
    }
    "use `binary_cross_entropy`, for mixed images also `cross_entropy` or `focal`, or give it `Loss::loss_of_targets`"
}

/// Which parameters get no gradient, one of zero, and one that is not finite, and what helps.
pub(super) fn bad_gradients(missing: &[String], zero: &[String], not_finite: &[String]) -> String {
    let without = [missing, zero].iter().any(|paths| !paths.is_empty());
    let kinds = [
        (missing, "gets no gradient, because the loss does not depend on it"),
        (zero, "gets a gradient of zero"),
        (not_finite, "gets a gradient that is NaN or infinite, although the loss is finite"),
    ];
    let kinds = kinds.into_iter().filter(|(paths, _)| !paths.is_empty());
    let mut parts: Vec<String> =
        kinds.map(|(paths, problem)| format!("{} {problem}", parameters(paths))).collect();
    if !not_finite.is_empty() {
        let remedy = "look in the network's `forward` and the loss for a division by zero, and for roots and logarithms of \
                      zero";
        parts.push(remedy.to_owned());
    }
    if without {
        let remedy = "mend the network's `forward`, freeze what is not to learn (`Parameters::freeze`), or set \
                      `check_gradients = false`";
        parts.push(remedy.to_owned());
    }
    parts.join("; ")
}

/// How many paths of a kind a message names.
const MOST: usize = 8;

/// The first paths, how many there are, and the layer that holds all of them.
fn parameters(paths: &[String]) -> String {
    let shown: Vec<String> = paths.iter().take(MOST).map(|path| format!("`{path}`")).collect();
    let shown = shown.join(", ");
    match paths.len() {
        1 => shown,
        2..=MOST => format!("each of {shown}"),
        count => {
            let layer = common_layer(paths);
            let below = layer.map(|layer| format!(" below `{layer}`")).unwrap_or_default();
            format!("each of {count} parameters{below} ({shown} and {} more)", count - MOST)
        }
    }
}

/// The longest path of a layer under which all `paths` lie.
fn common_layer(paths: &[String]) -> Option<&str> {
    let first = paths.first()?;
    let ends = first.rmatch_indices('.').map(|(end, _)| end);
    let layers = ends.map(|end| &first[..end]);
    layers.into_iter().find(|layer| paths.iter().all(|path| is_under(path, layer)))
}

pub(super) fn smaller(batch_size: usize) -> String {
    if batch_size <= 1 {
        return "for one image; take a smaller network or smaller images".to_owned();
    }
    let half = batch_size / 2;
    format!("for batches of {batch_size} images; make `batch_size` smaller, {half} for instance")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(layer: &str, count: usize) -> Vec<String> {
        (0..count).map(|i| format!("{layer}.{i}.weight")).collect()
    }

    #[test]
    fn gradients_are_listed_by_kind_and_long_lists_are_cut() {
        let message = bad_gradients(&paths("layer1.0", 10), &[], &paths("fc", 1));
        let expected = "each of 10 parameters below `layer1.0` (`layer1.0.0.weight`, ";
        assert!(message.starts_with(expected), "{message}");
        assert!(message.contains("`layer1.0.7.weight` and 2 more) gets no gradient"), "{message}");
        assert!(message.contains("; `fc.0.weight` gets a gradient that is NaN"), "{message}");
        let message = bad_gradients(&[], &[paths("a", 8), paths("b", 1)].concat(), &[]);
        assert!(message.starts_with("each of 9 parameters (`a.0.weight`"), "{message}");
        assert!(message.contains("a gradient of zero; mend"), "{message}");
        let message = bad_gradients(&[], &paths("a", 8), &[]);
        assert!(message.contains("`a.7.weight` gets"), "{message}");
    }
}
