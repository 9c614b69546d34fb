//! The meaning of file and folder names.

use std::collections::HashMap;
use std::path::Path;

use unicode_normalization::UnicodeNormalization;

use crate::dataset::Split;

/// Folders that programs create next to images: macOS archives, thumbnails of network storage, recycle bins and
/// caches.
const SYSTEM_FOLDERS: [&str; 9] = [
    "__MACOSX",
    "@eaDir",
    "@Recycle",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "__pycache__",
    "RECYCLER",
];

/// Files that programs create next to images. The last is the file that a photo site sent in place of deleted
/// photographs. The ants and bees of the transfer-learning tutorial contain one.
const SYSTEM_FILES: [&str; 5] =
    ["Thumbs.db", "ehthumbs.db", "desktop.ini", "Icon\r", "imageNotFound.gif"];

/// The split that a folder of this name usually contains, in any case. `None` for other names.
pub(crate) fn split_called(name: &str) -> Option<Split> {
    Some(match name.to_lowercase().as_str() {
        "train" | "training" => Split::Train,
        "val" | "valid" | "validation" | "dev" => Split::Val,
        "test" | "testing" => Split::Test,
        _ => return None,
    })
}

/// Whether a program created this folder. Its images may be copies of others, so it is skipped.
pub(crate) fn is_system_folder(path: &Path) -> bool {
    is_hidden_or(path, &SYSTEM_FOLDERS)
}

/// Whether a program created this file. For instance, `._photo.jpg` contains no photo.
pub(crate) fn is_system_file(path: &Path) -> bool {
    is_hidden_or(path, &SYSTEM_FILES)
}

fn is_hidden_or(path: &Path, names: &[&str]) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// The name of a class. File systems store accents composed (`é`) or decomposed (`e` and an accent, as macOS
/// does). Both give the same name.
pub(crate) fn class_name(folder: &str) -> String {
    folder.nfc().collect()
}

/// The labels that names of classes stand for.
pub(super) struct ClassLabels(HashMap<String, Option<u32>>);

impl ClassLabels {
    /// Of the names in `classes`, and of those in `ids`: other names in the same order, or none.
    pub(super) fn of(classes: &[String], ids: &[String]) -> Self {
        let mut known = HashMap::new();
        for names in [classes, ids] {
            for (label, name) in names.iter().enumerate() {
                // Two classes of ImageNet are called `crane`: the name alone says nothing.
                let label = Some(label as u32);
                let place = known.entry(class_name(name)).or_insert(label);
                if *place != label {
                    *place = None;
                }
            }
        }
        Self(known)
    }

    /// `None` if no class is called so, or several are.
    pub(super) fn get(&self, name: &str) -> Option<u32> {
        self.0.get(&class_name(name)).copied().flatten()
    }

    pub(super) fn is_ambiguous(&self, name: &str) -> bool {
        self.0.get(&class_name(name)).is_some_and(Option::is_none)
    }
}

/// A few names, and the number of further ones.
pub(super) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    const MOST: usize = 5;
    let shown: Vec<String> =
        names.iter().take(MOST).map(|name| format!("`{}`", name.as_ref())).collect();
    match names.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The last part of a path, as text.
pub(super) fn last_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_go_by_any_usual_name_in_any_case() {
        for (split, names) in [
            (Split::Train, ["train", "Training", "TRAIN", "Train"]),
            (Split::Val, ["VAL", "valid", "Validation", "dev"]),
            (Split::Test, ["test", "Testing", "TEST", "Test"]),
        ] {
            assert!(names.iter().all(|name| split_called(name) == Some(split)), "{split}");
        }
        for name in ["trains", "tests", "value", "", "bus", "train2"] {
            assert_eq!(split_called(name), None, "{name}");
        }
    }

    #[test]
    fn hidden_and_system_names_are_known() {
        for name in [".git", ".ipynb_checkpoints", "__MACOSX", "@eaDir", "$recycle.bin"] {
            assert!(is_system_folder(Path::new(name)), "{name}");
        }
        for name in ["._x.jpg", ".DS_Store", "Thumbs.db", "thumbs.DB"] {
            assert!(is_system_file(&Path::new("a").join(name)), "{name}");
        }
        assert!(!is_system_file(Path::new("a/1.jpg")) && !is_system_folder(Path::new("a/ants")));
    }

    #[test]
    fn a_class_has_one_name_however_it_is_composed() {
        assert_eq!(class_name("cafe\u{301}"), "caf\u{e9}");
    }
}
