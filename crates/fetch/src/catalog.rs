//! The items that this project knows by name.
//!
//! None of these facts was read from the servers themselves when this was written. A wrong length or sum
//! leads to an error, never to a wrong file. The facts come from these sources:
//!
//! - MNIST: the sums were taken from byte-identical copies of the original files.
//! - Fashion-MNIST: lengths and sums are those that TensorFlow Datasets pins
//!   (`url_checksums/fashion_mnist.txt`).
//! - CIFAR-10: the length and sha256 of the archive are those that TensorFlow Datasets and others pin. They
//!   belong to the md5 c32a1d4ab5d03f1284b67883e8d87530 on the authors' page. The sums of the single files
//!   are those that torchvision's Ruby port pins. The subset's sums are those of the subset itself.
//! - KMNIST, EMNIST, CIFAR-100, STL-10, the flowers, the pets, Food-101, DTD, EuroSAT, Imagenette: lengths and sums are
//!   those that TensorFlow Datasets pins (`url_checksums`). SVHN and Caltech 101: the md5 sums are torchvision's. The counts
//!   are those that the authors name. An archive's md5 there is torchvision's too.
//! - Ants and bees: the length and sha256 of the archive are those that the PyTorch tutorials' build pins.
//!   The counts come from a copy of the folder.
//! - torchvision's weights: the first eight digits of a sum are part of the file's name. The full sums and
//!   lengths are those that several projects record, except for MobileNetV2.
//! - timm's copies on the hub: commit, length and sum are those that several projects pin. timm keeps
//!   torchvision's parameter names for these two networks. No such copy is known for AlexNet and
//!   MobileNetV2 (timm's MobileNetV2 has other names and weights).

mod data_sets;
mod torchvision_sets;
mod weights;

use std::sync::LazyLock;

use crate::checksum::{FileSpec, Sha256Sum};
use crate::error::{Error, Result};
use crate::item::Item;

/// All items, in the order in which they are listed to users.
pub fn catalog() -> &'static [Item] {
    static CATALOG: LazyLock<Vec<Item>> = LazyLock::new(|| {
        vec![
            data_sets::mnist(),
            data_sets::fashion_mnist(),
            torchvision_sets::kmnist(),
            torchvision_sets::emnist(),
            data_sets::cifar10(),
            torchvision_sets::cifar100(),
            torchvision_sets::svhn(),
            torchvision_sets::stl10(),
            torchvision_sets::flowers102(),
            torchvision_sets::oxford_iiit_pet(),
            torchvision_sets::food101(),
            torchvision_sets::caltech101(),
            torchvision_sets::dtd(),
            torchvision_sets::eurosat(),
            torchvision_sets::imagenette(),
            torchvision_sets::imagenet(),
            data_sets::hymenoptera(),
            weights::resnet18(),
            weights::resnet34(),
            weights::alexnet(),
            weights::mobilenet_v2(),
        ]
    });
    &CATALOG
}

/// The item of that name.
///
/// # Errors
/// [`Error::UnknownItem`], which lists the known names.
///
/// # Example
/// ```
/// use candle_vision_fetch::find;
/// assert_eq!(find("cifar10")?.name, "cifar10");
/// assert!(find("cifar11").unwrap_err().to_string().contains("known: mnist, fashion_mnist, kmnist"));
/// # Ok::<(), candle_vision_fetch::Error>(())
/// ```
pub fn find(name: &str) -> Result<&'static Item> {
    let item = catalog().iter().find(|item| item.name == name);
    item.ok_or_else(|| Error::UnknownItem {
        name: name.to_owned(),
        known: catalog().iter().map(|item| item.name.clone()).collect(),
    })
}

fn file(name: &str, bytes: u64, sha256: &str) -> FileSpec {
    FileSpec { bytes: Some(bytes), sha256: Some(sum(sha256)), ..FileSpec::named(name) }
}

fn sum(digits: &str) -> Sha256Sum {
    Sha256Sum::new(digits).expect("the catalog's sums are hexadecimal, as a test checks")
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Source;

    #[test]
    fn every_item_has_a_layout_and_a_source_that_leads_to_it() {
        for item in catalog() {
            assert!(!item.layouts.is_empty(), "{}", item.name);
            item.sources.iter().for_each(|source| check_source(item, source));
        }
    }

    fn check_source(item: &Item, source: &Source) {
        let (folder, mirrors) = match source {
            Source::Files { folder, mirrors, .. } => (folder.as_str(), mirrors.as_slice()),
            Source::Archive { folder, mirrors, .. } => (folder.as_str(), mirrors.as_slice()),
            Source::Parts(parts) => {
                return parts.iter().for_each(|part| check_source(item, part));
            }
            Source::Hub { to, .. } => (to.split('/').next().unwrap(), [].as_slice()),
            Source::Pth { to, mirrors, .. } => (to.split('/').next().unwrap(), mirrors.as_slice()),
        };
        let is_led_to = |layout: &crate::Layout| {
            let is_in = |a: &str, b: &str| a == b || a.starts_with(&format!("{b}/"));
            is_in(folder, &layout.folder) || is_in(&layout.folder, folder)
        };
        assert!(item.layouts.iter().any(is_led_to), "{}: {folder}", item.name);
        for mirror in mirrors {
            assert!(mirror.starts_with("http") && mirror.ends_with('/'), "{mirror}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = catalog().iter().map(|item| item.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), catalog().len());
    }

    #[test]
    fn hub_files_are_pinned_to_a_commit_and_a_full_sum() {
        for item in catalog() {
            for source in &item.sources {
                if let Source::Hub { file, .. } = source {
                    assert_eq!(file.revision.len(), 40, "{}", item.name);
                    let sum = file.spec.sha256.as_ref().map(ToString::to_string);
                    assert_eq!(sum.unwrap_or_default().len(), 64, "{}", item.name);
                }
            }
        }
    }
}
