//! "Did you mean": the names nearest to a mistyped one.

/// Up to `count` of `names`, those nearest to `wanted` first; of equally near ones the first by
/// name.
///
/// ```
/// use candle_vision_models::nearest_names;
///
/// assert_eq!(nearest_names("resnet81", ["alexnet", "resnet18"], 1), ["resnet18"]);
/// ```
pub fn nearest_names<'a>(
    wanted: &str,
    names: impl IntoIterator<Item = &'a str>,
    count: usize,
) -> Vec<&'a str> {
    let mut near: Vec<(usize, &str)> =
        names.into_iter().map(|name| (distance(wanted, name), name)).collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(count).map(|(_, name)| name).collect()
}

/// The end of an error message: empty where nothing is near, or "; did you mean `a` or `b`?".
pub(crate) fn did_you_mean<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> String {
    let is_near = |name: &&str| distance(wanted, name) <= 2.max(name.len().max(wanted.len()) / 3);
    let near = nearest_names(wanted, names.filter(is_near), 3);
    let quoted: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", quoted.join(" or "))
    }
}

/// Levenshtein's distance, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{did_you_mean, nearest_names};

    #[test]
    fn paths_that_differ_in_one_place_are_nearest() {
        let nearest = |wanted, names: [&'static str; 3]| nearest_names(wanted, names, 1)[0];
        assert_eq!(nearest("layer4.2", ["layer4.1", "layer4.1.bn2", "layer4"]), "layer4.1");
        assert_eq!(nearest("laeyr4", ["layer3", "layer4", "fc"]), "layer4");
    }

    #[test]
    fn near_names_are_offered_and_far_ones_not() {
        let names = ["resnet18", "resnet34", "alexnet"];
        let offer = did_you_mean("resnet81", names.into_iter());
        assert!(offer.starts_with("; did you mean `resnet18`"), "{offer}");
        assert_eq!(did_you_mean("transformer", names.into_iter()), "");
    }
}
