//! "Did you mean": the names nearest to a mistyped one.

/// Up to three of `names` that are near `wanted`, nearest first, as the end of an error message:
/// empty, or "; did you mean `a` or `b`?".
pub(crate) fn did_you_mean<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut near: Vec<(usize, &str)> = names
        .map(|name| (distance(wanted, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len().max(wanted.len()) / 3))
        .collect();
    near.sort();
    let quoted: Vec<String> = near.iter().take(3).map(|(_, name)| format!("`{name}`")).collect();
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
    use super::did_you_mean;

    #[test]
    fn near_names_are_offered_and_far_ones_not() {
        let names = ["resnet18", "resnet34", "alexnet"];
        let offer = did_you_mean("resnet81", names.into_iter());
        assert!(offer.starts_with("; did you mean `resnet18`"), "{offer}");
        assert_eq!(did_you_mean("transformer", names.into_iter()), "");
    }
}
