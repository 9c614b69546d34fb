//! Parts of the messages that depend on what went wrong.

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

/// The first few names, and how many there are.
pub(super) fn some_of(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(3).map(|name| format!("`{name}`")).collect();
    let shown = shown.join(", ");
    match names.len() {
        1 => shown,
        2 | 3 => format!("each of {shown}"),
        count => format!("each of {count} parameters ({shown}, ...)"),
    }
}

pub(super) fn smaller(batch_size: usize) -> String {
    if batch_size <= 1 {
        return "for one image; take a smaller network or smaller images".to_owned();
    }
    let half = batch_size / 2;
    format!("for batches of {batch_size} images; make `batch_size` smaller, {half} for instance")
}
