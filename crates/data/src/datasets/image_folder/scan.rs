//! The classes and images of one folder of classes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::left_out::LeftOut;
use super::names::{ClassLabels, class_name, is_system_file, is_system_folder, last_name, listed};
use super::readable::is_image;
use super::walk::{Entered, Entry, ImageFile, entries, images_of};
use crate::error::{Error, Result};

/// The images of a folder of classes.
pub(super) struct Scan {
    pub(super) folder: PathBuf,
    /// Each image with its label.
    pub(super) files: Vec<(ImageFile, u32)>,
    pub(super) classes: Vec<String>,
    pub(super) left_out: LeftOut,
    /// Remarks for the user, one line each.
    pub(super) remarks: Vec<String>,
}

/// The class folders of each class, sorted by the name of the class.
type ClassFolders = BTreeMap<String, Vec<PathBuf>>;

pub(super) fn scan(folder: &Path) -> Result<Scan> {
    check_is_folder(folder)?;
    let mut left_out = LeftOut::default();
    let mut entered = Entered::at(folder)?;
    let folders = class_folders(folder, &mut entered, &mut left_out)?;
    let mut files = Vec::new();
    let mut remarks = Vec::new();
    for (label, (class, folders)) in folders.iter().enumerate() {
        if let [first, second, ..] = folders.as_slice() {
            remarks.push(format!(
                "`{}` and `{}` are one class: their names differ only in how accents are written",
                code_points(first),
                code_points(second)
            ));
        }
        let mut in_class = LeftOut::default();
        let before = files.len();
        for class_folder in folders {
            let images = images_of(class_folder, &mut entered, &mut in_class)?;
            files.extend(images.into_iter().map(|file| (file, label as u32)));
        }
        if files.len() == before {
            return Err(without_images(&folder.join(class), &in_class));
        }
        left_out.add(&in_class);
    }
    let classes = folders.into_keys().collect();
    Ok(Scan { folder: folder.to_path_buf(), files, classes, left_out, remarks })
}

fn without_images(folder: &Path, left_out: &LeftOut) -> Error {
    let others = if left_out.is_empty() { String::new() } else { format!(" (only {left_out})") };
    Error::Invalid {
        path: folder.to_path_buf(),
        problem: format!("is a class without images that can be read{others}"),
        remedy: "add images, or remove the folder".to_owned(),
    }
}

/// A path in which every character beyond ASCII is replaced by its code point, to show how two paths differ.
fn code_points(path: &Path) -> String {
    let escaped = |c: char| {
        if c.is_ascii() { c.to_string() } else { format!("<U+{:04X}>", u32::from(c)) }
    };
    last_name(path).chars().map(escaped).collect()
}

/// The names of the classes of a folder, sorted.
pub(in crate::datasets) fn class_names(folder: &Path) -> Result<Vec<String>> {
    check_is_folder(folder)?;
    let mut entered = Entered::at(folder)?;
    Ok(class_folders(folder, &mut entered, &mut LeftOut::default())?.into_keys().collect())
}

fn class_folders(
    folder: &Path,
    entered: &mut Entered,
    left_out: &mut LeftOut,
) -> Result<ClassFolders> {
    let mut classes = ClassFolders::new();
    for (path, entry) in entries(folder)? {
        match entry {
            Entry::Folder if is_system_folder(&path) => left_out.hidden += 1,
            Entry::Folder if !entered.enter(&path)? => left_out.repeated_links += 1,
            Entry::Folder => {
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                    return Err(Error::Invalid {
                        path: path.clone(),
                        problem: "has a name that is not UTF-8".to_owned(),
                        remedy: "rename the folder".to_owned(),
                    });
                };
                classes.entry(class_name(name)).or_default().push(path);
            }
            Entry::File(_) if is_system_file(&path) => left_out.hidden += 1,
            // Other files next to the class folders, such as a readme or a list, belong to no class.
            Entry::File(_) if is_image(&path).unwrap_or(false) => left_out.outside_classes += 1,
            Entry::Dangling => left_out.dangling_links += 1,
            _ => {}
        }
    }
    if classes.is_empty() {
        return Err(Error::Invalid {
            path: folder.to_path_buf(),
            problem: "holds no class folders".to_owned(),
            remedy: "put the images of each class into a folder of its name".to_owned(),
        });
    }
    classes.values_mut().for_each(|folders| folders.sort());
    Ok(classes)
}

pub(crate) fn check_is_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if folder.exists() {
        return Err(Error::Invalid {
            path: folder.to_path_buf(),
            problem: "is no folder".to_owned(),
            remedy: "name a folder with one folder of images for each class".to_owned(),
        });
    }
    Err(Error::NotFound {
        path: folder.to_path_buf(),
        expected: "a folder with one folder of images for each class".to_owned(),
        remedy: "check the path".to_owned(),
    })
}

impl Scan {
    /// Leaves a class out, if it is there.
    pub(super) fn remove_class(&mut self, class: &str) {
        let Some(place) = self.classes.iter().position(|name| name == class) else { return };
        self.classes.remove(place);
        self.files.retain(|(_, label)| *label as usize != place);
        for (_, label) in &mut self.files {
            *label -= u32::from(*label as usize > place);
        }
    }

    /// Changes the labels to indices into `known`. `ids` are other names of the same classes, in the same order, or none.
    /// Adds a remark about the known classes without images, and about class folders that are merged into one.
    ///
    /// # Errors
    /// If the folder has a class that is not in `known`, or whose name stands for several of them.
    pub(super) fn relabel(&mut self, known: &[String], ids: &[String]) -> Result<()> {
        let labels = ClassLabels::of(known, ids);
        let label_of = |class: &String| labels.get(class);
        let extra: Vec<&String> =
            self.classes.iter().filter(|class| label_of(class).is_none()).collect();
        if let Some(class) = extra.iter().find(|class| labels.is_ambiguous(class)) {
            return Err(Error::Invalid {
                path: self.folder.clone(),
                problem: format!(
                    "has the class `{class}`, as several of those trained on are called"
                ),
                remedy: "call the folder by an identifier of the class, or remove it".to_owned(),
            });
        }
        if !extra.is_empty() {
            let (kind, pronoun) =
                if extra.len() == 1 { ("a class", "it") } else { ("classes", "them") };
            let (extra, known) = (listed(&extra), listed(known));
            return Err(Error::Invalid {
                path: self.folder.clone(),
                problem: format!("has {kind} beyond those trained on: {extra} (those are {known})"),
                remedy: format!("remove {pronoun}, or train on {pronoun} too"),
            });
        }
        let new: Vec<u32> = self.classes.iter().filter_map(label_of).collect();
        let mut folders: BTreeMap<u32, Vec<&String>> = BTreeMap::new();
        for (label, class) in new.iter().zip(&self.classes) {
            folders.entry(*label).or_default().push(class);
        }
        for names in folders.values().filter(|names| names.len() > 1) {
            self.remarks.push(format!(
                "{} in `{}` are one class, by its name and its identifier",
                listed(names),
                self.folder.display()
            ));
        }
        if folders.len() < known.len() {
            let numbered = known.iter().zip(0u32..);
            let missing = numbered.filter(|(_, label)| !folders.contains_key(label));
            let missing: Vec<&String> = missing.map(|(name, _)| name).collect();
            self.remarks.push(format!(
                "`{}` has no images of {}: {} of {} classes are measured there",
                self.folder.display(),
                listed(&missing),
                folders.len(),
                known.len()
            ));
        }
        for (_, label) in &mut self.files {
            *label = new[*label as usize];
        }
        // In the order of the known classes, as in every other data set.
        self.files.sort_by_key(|(_, label)| *label);
        self.classes = known.to_vec();
        Ok(())
    }
}
