//! "Did you mean ...?"

/// The names that `wanted` may have been meant for, the nearest first, at most three.
pub(crate) fn near<'a>(wanted: &str, names: &[&'a str]) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    // A third of the letters may be wrong. Even in a short name two may be.
    let tolerance = (wanted.chars().count() / 3).max(2);
    let mut scored: Vec<(usize, &str)> = names
        .iter()
        .filter_map(|name| {
            let edits = distance(&wanted, &name.to_lowercase());
            let is_part = wanted.len() > 2 && name.to_lowercase().contains(&wanted);
            (edits <= tolerance || is_part).then_some((edits, *name))
        })
        .collect();
    scored.sort_unstable();
    scored.into_iter().map(|(_, name)| name).take(3).collect()
}

/// Number of insertions, deletions and replacements that turn `a` into `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] =
        ["resnet18", "resnet18-adamw", "mnist-mlp", "cifar10-cnn", "cifar10-mlp"];

    #[test]
    fn distances() {
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn slips_and_parts_of_names_are_found() {
        assert_eq!(near("resnet81", &NAMES), ["resnet18"]);
        assert_eq!(near("ResNet18", &NAMES), ["resnet18", "resnet18-adamw"]);
        assert_eq!(near("minst-mlp", &NAMES), ["mnist-mlp"]);
        assert_eq!(near("cifar10-mpl", &NAMES), ["cifar10-mlp", "cifar10-cnn"]);
        assert_eq!(near("mlp", &NAMES), ["mnist-mlp", "cifar10-mlp"]);
        assert_eq!(near("transformer", &NAMES), [""; 0]);
        assert_eq!(near("", &NAMES), [""; 0]);
    }
}
