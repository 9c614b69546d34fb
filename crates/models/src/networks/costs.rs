//! What networks cost, where their publishers do not say it.

use super::NetworkEntry;

/// Counted once and stored, because counting takes a network that is built and run.
const COUNTED: &str = include_str!("counted_costs.tsv");

/// What a network costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkCosts {
    /// The number of classes that it is counted with; 0 for a backbone without a head.
    pub num_classes: usize,
    /// Learned numbers.
    pub parameters: usize,
    /// Multiply-adds of one image of the network's published size.
    pub multiply_adds: u64,
}

impl NetworkCosts {
    /// `parameters` learned numbers with `num_classes` classes, and `multiply_adds` for one image.
    pub fn new(num_classes: usize, parameters: usize, multiply_adds: u64) -> Self {
        Self { num_classes, parameters, multiply_adds }
    }
}

/// The row with its counted costs, if it has some.
pub(super) fn with_counted_costs(entry: NetworkEntry) -> NetworkEntry {
    let lines = COUNTED.lines().filter(|line| !line.starts_with('#'));
    let mut fields = lines.map(|line| line.split('\t').collect::<Vec<_>>());
    match fields.find(|fields| fields.first() == Some(&entry.name())) {
        Some(fields) => entry.costs(parse(&fields).expect("a test reads every line")),
        None => entry,
    }
}

fn parse(fields: &[&str]) -> Option<NetworkCosts> {
    let [_, num_classes, parameters, multiply_adds] = fields else { return None };
    Some(NetworkCosts {
        num_classes: num_classes.parse().ok()?,
        parameters: parameters.parse().ok()?,
        multiply_adds: multiply_adds.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use crate::Networks;

    #[test]
    fn every_row_says_what_it_costs() {
        for entry in &Networks::standard() {
            let costs = entry.known_costs().unwrap_or_else(|| panic!("{}", entry.name()));
            assert!(costs.parameters > 0 && costs.multiply_adds > 0, "{}", entry.name());
            for weights in entry.published_weights() {
                assert!(weights.parameters > 0 && weights.multiply_adds > 0, "{}", entry.name());
            }
        }
    }
}
