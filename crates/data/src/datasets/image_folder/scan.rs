//! Finding the classes and pictures of a folder, in torchvision's order.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What torchvision takes for pictures (`IMG_EXTENSIONS`), without the dot.
const EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"];

/// The pictures of a folder of classes.
pub(super) struct Scan {
    pub(super) files: Vec<(PathBuf, u32)>,
    pub(super) classes: Vec<String>,
    pub(super) ignored: usize,
}

pub(super) fn scan(folder: &Path) -> Result<Scan> {
    let classes = class_folders(folder)?;
    let mut files = Vec::new();
    let mut ignored = 0;
    for (label, class) in classes.iter().enumerate() {
        let class_folder = folder.join(class);
        let (pictures, others) = pictures_below(&class_folder)?;
        if pictures.is_empty() {
            return Err(Error::Invalid {
                path: class_folder,
                problem: format!("is a class without pictures ({others} other files)"),
                remedy: "add JPEG or PNG pictures, or remove the folder".to_owned(),
            });
        }
        files.extend(pictures.into_iter().map(|path| (path, label as u32)));
        ignored += others;
    }
    Ok(Scan { files, classes, ignored })
}

/// The names of the class folders, sorted. Hidden ones, such as `.ipynb_checkpoints`, are none.
pub(super) fn class_folders(folder: &Path) -> Result<Vec<String>> {
    if !folder.is_dir() {
        return Err(Error::NotFound {
            path: folder.to_path_buf(),
            expected: "a folder with one folder of pictures for each class".to_owned(),
            remedy: "check the path, or bring the data with `cargo xtask fetch-data`".to_owned(),
        });
    }
    let mut classes = Vec::new();
    for path in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
        let name = path.file_name().unwrap_or_default();
        let Some(name) = name.to_str() else {
            return Err(Error::Invalid {
                path: path.clone(),
                problem: "has a name that is not UTF-8".to_owned(),
                remedy: "rename the folder".to_owned(),
            });
        };
        if !name.starts_with('.') {
            classes.push(name.to_owned());
        }
    }
    if classes.is_empty() {
        return Err(Error::Invalid {
            path: folder.to_path_buf(),
            problem: "holds no class folders".to_owned(),
            remedy: "put the pictures of each class into a folder of its name".to_owned(),
        });
    }
    classes.sort();
    Ok(classes)
}

/// All pictures below a folder, those of one folder together, and the number of other files.
fn pictures_below(folder: &Path) -> Result<(Vec<PathBuf>, usize)> {
    let mut folders = Vec::new();
    collect_folders(folder, &mut HashSet::new(), &mut folders)?;
    // As text, not by components: that is how Python sorts.
    folders.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    let mut pictures = Vec::new();
    let mut others = 0;
    for folder in folders {
        let mut files = entries(&folder)?;
        files.retain(|path| path.is_file());
        let all = files.len();
        files.retain(|path| has_picture_extension(path));
        others += all - files.len();
        files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        pictures.append(&mut files);
    }
    Ok((pictures, others))
}

/// `folder` and all folders below it. Links are followed, as torchvision does, but a folder that
/// was seen already is not entered again, so that a link upwards does not run for ever.
fn collect_folders(
    folder: &Path,
    seen: &mut HashSet<PathBuf>,
    folders: &mut Vec<PathBuf>,
) -> Result<()> {
    if !seen.insert(folder.canonicalize().map_err(Error::io(folder))?) {
        return Ok(());
    }
    folders.push(folder.to_path_buf());
    let mut below = entries(folder)?;
    below.retain(|path| path.is_dir());
    below.sort();
    below.iter().try_for_each(|folder| collect_folders(folder, seen, folders))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io(folder))?;
    entries.map(|entry| Ok(entry.map_err(Error::io(folder))?.path())).collect()
}

fn has_picture_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}
