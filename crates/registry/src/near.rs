//! Suggestions for a mistyped name.

/// The longest name for which near names are looked for, in bytes.
const LONGEST: usize = 1_000;

/// Up to `count` of `names`, the nearest to `wanted` first. Names at the same distance come in
/// alphabetical order.
///
/// The distance is the number of inserted, removed, changed and swapped characters (Damerau and
/// Levenshtein), because two swapped letters are one slip of the hand.
///
/// ```
/// use candle_vision_registry::nearest_names;
///
/// assert_eq!(nearest_names("resnet81", ["alexnet", "resnet18"], 1), ["resnet18"]);
/// ```
pub fn nearest_names<'a>(
    wanted: &str,
    names: impl IntoIterator<Item = &'a str>,
    count: usize,
) -> Vec<&'a str> {
    let mut near: Vec<(usize, &str)> =
        names.into_iter().map(|name| (strsim::damerau_levenshtein(wanted, name), name)).collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(count).map(|(_, name)| name).collect()
}

/// The end of an error message: ``; did you mean `a` or `b`?``, or nothing if no name is near.
///
/// ```
/// use candle_vision_registry::did_you_mean;
///
/// assert_eq!(did_you_mean("sdg", ["sgd", "adam"]), "; did you mean `sgd`?");
/// assert_eq!(did_you_mean("transformer", ["sgd", "adam"]), "");
/// ```
pub fn did_you_mean<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let is_near = |name: &&str| {
        let most = 2.max(name.len().max(wanted.len()) / 3);
        // The distance takes memory for each pair of characters. A name from a damaged file may have millions.
        if wanted.len() > LONGEST {
            return false;
        }
        // Part of a longer name, such as `dinov2` of `vit_small_patch14_dinov2`.
        if wanted.len() >= SHORTEST_PART && plain(name).contains(&plain(wanted)) {
            return true;
        }
        strsim::damerau_levenshtein(wanted, name) <= most
            // Two short names that share nothing are not near, however short their distance is.
            && name.chars().any(|c| wanted.contains(c))
    };
    let near = nearest_names(wanted, names.into_iter().filter(is_near), 3);
    let quoted: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", quoted.join(" or "))
    }
}

/// The shortest text that is looked for within names.
const SHORTEST_PART: usize = 3;

/// Letters and digits alone, in lower case.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
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
        let offer = did_you_mean("resnet81", names);
        assert!(offer.starts_with("; did you mean `resnet18`"), "{offer}");
        assert_eq!(did_you_mean("transformer", names), "");
        let part = did_you_mean("DINO-v2", ["resnet18", "vit_small_patch14_dinov2"]);
        assert_eq!(part, "; did you mean `vit_small_patch14_dinov2`?");
        assert_eq!(did_you_mean("xy", ["fc"]), "");
        assert_eq!(did_you_mean(&"resnet18".repeat(1_000_000), names), "");
    }
}
