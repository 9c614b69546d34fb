//! Pairs of images that are the same, or nearly so.

use std::collections::HashMap;

use serde::Serialize;

use super::files::{CheckedFile, ImageFacts};

/// Near-duplicates are at least this alike in their colours. Without this, plain images (digits, X-rays, icons), whose
/// hashes have little to go by, would be taken for each other.
const LIKENESS: f64 = 0.97;

/// Among so many images with a part of their hashes in common, each is compared with so many next ones. Only films and
/// the like have so many.
const MOST_COMPARED: usize = 2000;

/// Two images that are the same, or nearly so. Of a group of several, each further image comes in one pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Duplicate {
    /// Index of the one file in [`FolderCheck::files`](super::FolderCheck::files).
    pub first: usize,
    /// Index of the other file.
    pub second: usize,
    /// Whether the files are the same, byte for byte.
    pub is_exact: bool,
    /// In how many of 64 bits their hashes differ.
    pub distance: u32,
    /// Whether they are in different splits.
    pub across_splits: bool,
    /// Whether they have different classes.
    pub across_classes: bool,
}

/// All duplicates: across splits first, then across classes, then the most alike.
pub(super) fn find(files: &[CheckedFile], distance: u32) -> Vec<Duplicate> {
    let images: Vec<(usize, &ImageFacts)> =
        files.iter().enumerate().filter_map(|(index, file)| Some((index, file.image()?))).collect();
    let pair = |first: usize, second: usize, distance: u32, is_exact: bool| {
        let (a, b) = (&files[first], &files[second]);
        let (across_splits, across_classes) = (a.split != b.split, a.class != b.class);
        Duplicate { first, second, is_exact, distance, across_splits, across_classes }
    };
    let mut pairs = Vec::new();
    let mut by_digest: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut originals = Vec::new();
    for (index, facts) in &images {
        let same = by_digest.entry(&facts.digest).or_default();
        if same.is_empty() && !facts.is_blank {
            originals.push((*index, *facts));
        }
        same.push(*index);
    }
    for same in by_digest.values() {
        // One of each split and class, and each other with the first of its own split and class: so every difference
        // within the group is in a pair.
        let mut kinds: Vec<usize> = Vec::new();
        for &index in same {
            let file = &files[index];
            let is_like = |other: &&usize| {
                files[**other].split == file.split && files[**other].class == file.class
            };
            match kinds.iter().find(is_like) {
                Some(&first) => pairs.push(pair(first, index, 0, true)),
                None => {
                    pairs.extend(kinds.first().map(|&first| pair(first, index, 0, true)));
                    kinds.push(index);
                }
            }
        }
    }
    let mut near: Vec<Duplicate> = candidates(&originals, distance)
        .into_iter()
        .filter(|&(a, b, _)| {
            let thumbnail = |at: usize| &originals[at].1.thumbnail;
            thumbnail(a).likeness(thumbnail(b)) >= LIKENESS
        })
        .map(|(a, b, distance)| pair(originals[a].0, originals[b].0, distance, false))
        .collect();
    near.sort_by_key(order);
    let mut groups = Groups::new(files.len());
    near.retain(|pair| groups.join(pair.first, pair.second) || pair.across_splits);
    pairs.extend(near);
    pairs.sort_by_key(order);
    pairs
}

fn order(pair: &Duplicate) -> (bool, bool, bool, u32, usize, usize) {
    let Duplicate { first, second, is_exact, distance, across_splits, across_classes } = *pair;
    (!across_splits, !across_classes, !is_exact, distance, first, second)
}

/// The pairs of images whose hashes differ in at most `distance` bits, as places in `images`, with the distance.
///
/// Two hashes that differ in `distance` bits agree in at least one of `distance + 1` parts. So only images with a part in
/// common are compared.
fn candidates(images: &[(usize, &ImageFacts)], distance: u32) -> Vec<(usize, usize, u32)> {
    let parts = u64::from(distance) + 1;
    let mut found = Vec::new();
    for part in 0..parts {
        let (start, end) = (64 * part / parts, 64 * (part + 1) / parts);
        let mask = u64::MAX >> (64 - (end - start)) << start;
        let mut keys: Vec<(u64, usize)> =
            images.iter().enumerate().map(|(at, (_, facts))| (facts.hash.0 & mask, at)).collect();
        keys.sort_unstable();
        for same in keys.chunk_by(|a, b| a.0 == b.0) {
            for (place, &(_, a)) in same.iter().enumerate() {
                for &(_, b) in same[place + 1..].iter().take(MOST_COMPARED) {
                    let bits = images[a].1.hash.distance(images[b].1.hash);
                    if bits <= distance {
                        found.push((a, b, bits));
                    }
                }
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Groups of files, joined pair by pair.
struct Groups(Vec<usize>);

impl Groups {
    fn new(files: usize) -> Self {
        Self((0..files).collect())
    }

    fn group(&mut self, mut file: usize) -> usize {
        while self.0[file] != file {
            self.0[file] = self.0[self.0[file]];
            file = self.0[file];
        }
        file
    }

    /// Joins the groups of two files. Whether they were different.
    fn join(&mut self, a: usize, b: usize) -> bool {
        let (a, b) = (self.group(a), self.group(b));
        self.0[a.max(b)] = a.min(b);
        a != b
    }
}
