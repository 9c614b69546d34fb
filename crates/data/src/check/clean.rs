//! A cleaned copy of a folder. The folder itself is only read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use tempfile::TempDir;

use super::classes::collisions;
use super::files::{CheckedFile, FileState, ImageFacts};
use super::{CheckOptions, FolderCheck};
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::image::{ColorMode, Image};
use crate::temporary::temporary;

/// What happens to a file in a cleaned copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// It is copied as it is.
    Copy,
    /// Its image is written as a PNG, upright, in 8-bit RGB.
    Convert,
    /// It is not in the copy.
    LeaveOut,
}

impl Action {
    /// `copied`, `converted` or `left out`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copied",
            Self::Convert => "converted",
            Self::LeaveOut => "left out",
        }
    }
}

/// What happens to one file in a cleaned copy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CleaningStep {
    /// The file, as an index into [`FolderCheck::files`].
    pub file: usize,
    /// What happens.
    pub action: Action,
    /// Why, if it is not copied under its own name. Otherwise it is empty.
    pub reason: String,
    /// Its path below the copy, unless it is left out.
    pub to: Option<PathBuf>,
}

/// A cleaned copy that was written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Cleaned {
    /// Its folder.
    pub folder: PathBuf,
    /// What became of each file. The copy has it as `cleaning.csv`.
    pub steps: Vec<CleaningStep>,
}

impl Cleaned {
    /// Number of files with which this happened.
    pub fn count(&self, action: Action) -> usize {
        self.steps.iter().filter(|step| step.action == action).count()
    }
}

/// The list of what became of each file.
const LIST: &str = "cleaning.csv";

impl FolderCheck {
    /// What a cleaned copy does with each file.
    ///
    /// - Files that cannot be read, that training leaves out, or that lie in no class folder are left out.
    /// - Of files that are the same byte for byte, one is kept: that of the test images, else of the validation images,
    ///   else the first. If they have different classes, all are left out, because nobody can tell which label is right.
    /// - Animations, CMYK, over 8 bits, alpha and turned photos become PNG files that every program reads alike.
    /// - Class names that differ only in how they are written become the one that most images have.
    ///
    /// Near-duplicates stay. Whether two photos of one scene are one image too many is for a person to say.
    pub fn cleaning(&self) -> Vec<CleaningStep> {
        let names = self.one_name_each();
        let copies = self.copies();
        let mut taken = HashSet::new();
        let step = |(index, file): (usize, &CheckedFile)| {
            let leave_out = |reason: String| CleaningStep {
                file: index,
                action: Action::LeaveOut,
                reason,
                to: None,
            };
            let facts = match &file.state {
                FileState::Image(facts) => facts,
                FileState::Broken { reason } | FileState::LeftOut { reason } => {
                    return leave_out(reason.clone());
                }
            };
            let Some(class) = &file.class else {
                return leave_out("it is in no class folder".to_owned());
            };
            if let Some(reason) = copies.get(&index) {
                return leave_out(reason.clone());
            }
            let mut reasons = oddities(facts);
            let action = if reasons.is_empty() { Action::Copy } else { Action::Convert };
            let mut to = file.path.clone();
            if let Some(name) = names.get(class) {
                to = renamed(&to, class, name);
                reasons.push(format!("class `{class}` is `{name}`"));
            }
            if action == Action::Convert {
                to.set_extension("png");
            }
            CleaningStep {
                file: index,
                action,
                reason: reasons.join(", "),
                to: Some(free(to, &mut taken)),
            }
        };
        self.files.iter().enumerate().map(step).collect()
    }

    /// The name of each class that has several ways to be written.
    fn one_name_each(&self) -> BTreeMap<String, String> {
        let mut names = BTreeMap::new();
        for group in collisions(&self.classes) {
            let most = group.iter().rev().max_by_key(|class| class.total());
            let Some(kept) = most else { continue };
            // A space at the end of a folder's name is what some systems do not allow.
            let kept = kept.name.trim();
            let others = group.iter().filter(|class| class.name != kept);
            names.extend(others.map(|class| (class.name.clone(), kept.to_owned())));
        }
        names
    }

    /// The files of which another copy is kept, with the reason.
    fn copies(&self) -> HashMap<usize, String> {
        let mut by_digest: BTreeMap<(&str, u64), Vec<usize>> = BTreeMap::new();
        for (index, file) in self.files.iter().enumerate() {
            if let (Some(facts), Some(_)) = (file.image(), &file.class) {
                by_digest.entry((&facts.digest, file.bytes)).or_default().push(index);
            }
        }
        let mut copies = HashMap::new();
        let names = self.one_name_each();
        for mut same in by_digest.into_values().filter(|same| same.len() > 1) {
            let rank = |index: &usize| match self.files[*index].split {
                Some(Split::Test) => 0,
                Some(Split::Val) => 1,
                _ => 2,
            };
            same.sort_by_key(|index| (rank(index), *index));
            let class = |index: &usize| {
                let class = self.files[*index].class.as_ref();
                class.map(|class| names.get(class).unwrap_or(class))
            };
            let kept = same[0];
            let conflict = same.iter().find(|index| class(index) != class(&kept));
            match conflict {
                Some(other) => copies.extend(same.iter().map(|&index| {
                    let other = if class(&index) == class(&kept) { *other } else { kept };
                    let other = self.files[other].path.display();
                    (index, format!("the same file has another class: `{other}`"))
                })),
                None => copies.extend(same[1..].iter().map(|&index| {
                    let kept = self.files[kept].path.display();
                    (index, format!("the same file is kept as `{kept}`"))
                })),
            }
        }
        copies
    }

    /// Writes a cleaned copy to the folder `to`, as [`FolderCheck::cleaning`] says, and a list of what became of each file
    /// as `cleaning.csv`. `progress` gets the number of files done and of all files.
    ///
    /// The copy appears as a whole when it is complete.
    ///
    /// # Errors
    /// If `to` is not empty, lies in the folder that was checked, or cannot be written. Also if a file has changed since
    /// the check so that it cannot be read.
    pub fn write_cleaned(
        &self,
        to: impl AsRef<Path>,
        options: &CheckOptions,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Cleaned> {
        let to = to.as_ref();
        self.check_target(to)?;
        // Dropped after an error, it is removed.
        let unfinished = unfinished(to).map_err(Error::io_write(to))?;
        let steps = self.write_to(unfinished.path(), options, &mut progress)?;
        if to.is_dir() {
            fs::remove_dir(to).map_err(Error::io_write(to))?;
        }
        fs::rename(unfinished.path(), to).map_err(Error::io_write(to))?;
        // It has another name now.
        let _ = unfinished.keep();
        Ok(Cleaned { folder: to.to_path_buf(), steps })
    }

    fn check_target(&self, to: &Path) -> Result<()> {
        let problem = |problem: &str, remedy: &str| {
            Err(Error::Invalid {
                path: to.to_path_buf(),
                problem: problem.to_owned(),
                remedy: remedy.to_owned(),
            })
        };
        if to.exists() && !fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_none()) {
            return problem("is there already", "name a folder that is not there");
        }
        let root = self.root.canonicalize().map_err(Error::io(&self.root))?;
        // The first folder above that exists, without links in its path.
        let above = std::path::absolute(to).map_err(Error::io(to))?;
        let above = above.ancestors().find_map(|folder| folder.canonicalize().ok());
        if above.is_some_and(|above| above.starts_with(&root)) {
            return problem("lies in the folder that was checked", "name a folder outside of it");
        }
        Ok(())
    }

    fn write_to(
        &self,
        folder: &Path,
        options: &CheckOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<CleaningStep>> {
        let mut steps = self.cleaning();
        let mut made = HashSet::new();
        for index in 0..steps.len() {
            self.keep_if_different(&mut steps, index)?;
            let step = &steps[index];
            if let Some(to) = &step.to {
                let (from, to) = (self.path(&self.files[step.file]), folder.join(to));
                let parent = to.parent().unwrap_or(folder);
                if made.insert(parent.to_path_buf()) {
                    fs::create_dir_all(parent).map_err(Error::io_write(parent))?;
                }
                match step.action {
                    Action::Convert => convert(&from, &to, options)?,
                    _ => fs::copy(&from, &to).map(|_| ()).map_err(Error::io_write(&to))?,
                }
            }
            progress(index + 1, steps.len());
        }
        fs::create_dir_all(folder).map_err(Error::io_write(folder))?;
        self.write_list(&folder.join(LIST), &steps)?;
        Ok(steps)
    }

    /// A hash of 64 bits can be the same by chance. So a file is left out as a copy only if its bytes are those of another.
    fn keep_if_different(&self, steps: &mut [CleaningStep], index: usize) -> Result<()> {
        let file = &self.files[steps[index].file];
        let Some(facts) = file.image() else { return Ok(()) };
        if steps[index].action != Action::LeaveOut || file.class.is_none() {
            return Ok(());
        }
        let bytes = |file: &CheckedFile| {
            let path = self.path(file);
            fs::read(&path).map_err(Error::io(&path))
        };
        let own = bytes(file)?;
        for (other, found) in self.files.iter().enumerate() {
            let is_same = found.image().is_some_and(|other| other.digest == facts.digest);
            if other != index && is_same && bytes(found)? == own {
                return Ok(());
            }
        }
        let step = &mut steps[index];
        (step.action, step.to) = (Action::Copy, Some(file.path.clone()));
        step.reason.clear();
        Ok(())
    }

    fn write_list(&self, path: &Path, steps: &[CleaningStep]) -> Result<()> {
        let failed = |error: csv::Error| Error::other(error);
        let mut list = csv::Writer::from_writer(Vec::new());
        list.write_record(["file", "action", "reason", "to"]).map_err(failed)?;
        for CleaningStep { file, action, reason, to } in steps {
            let from = self.files[*file].path.to_string_lossy();
            let to = to.as_deref().unwrap_or(Path::new("")).to_string_lossy();
            list.write_record([&from, action.name(), reason, &to]).map_err(failed)?;
        }
        let bytes = list.into_inner().map_err(|error| Error::other(error.into_error()))?;
        fs::write(path, bytes).map_err(Error::io_write(path))
    }
}

/// Where the copy is written until it is complete.
fn unfinished(to: &Path) -> io::Result<TempDir> {
    let mut name = std::ffi::OsString::from(".");
    name.push(to.file_name().unwrap_or_default());
    name.push(".unfinished-");
    let beside = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    let beside = beside.unwrap_or(Path::new("."));
    fs::create_dir_all(beside)?;
    temporary(true).prefix(&name).tempdir_in(beside)
}

/// What makes an image one that programs read differently.
fn oddities(facts: &ImageFacts) -> Vec<String> {
    let details = facts.details;
    let mut found = Vec::new();
    if details.frames > 1 {
        found.push(format!("first of {} frames", details.frames));
    }
    if details.orientation != 1 {
        found.push("turned upright".to_owned());
    }
    use ColorMode::{Cmyk, GreyAlpha, PaletteAlpha, Rgba};
    if matches!(details.mode, Cmyk | Rgba | GreyAlpha | PaletteAlpha) {
        found.push(format!("{} made RGB", details.mode.in_words()));
    }
    if details.bits > 8 {
        found.push(format!("{} bits made 8", details.bits));
    }
    found
}

/// The path with another name for the class folder.
fn renamed(path: &Path, class: &str, name: &str) -> PathBuf {
    let mut is_done = false;
    let part = |part: std::path::Component<'_>| {
        let text = part.as_os_str().to_string_lossy();
        if !is_done && crate::datasets::is_same_class(&text, class) {
            is_done = true;
            return name.into();
        }
        part.as_os_str().to_os_string()
    };
    path.components().map(part).collect()
}

/// A path that no other file has: with a number if it is taken.
fn free(path: PathBuf, taken: &mut HashSet<String>) -> PathBuf {
    // Some file systems do not tell `A.jpg` from `a.jpg`.
    let key = |path: &Path| path.to_string_lossy().to_lowercase();
    if taken.insert(key(&path)) {
        return path;
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map(|e| format!(".{}", e.to_string_lossy()));
    let extension = extension.unwrap_or_default();
    let names = (2..).map(|number: u64| path.with_file_name(format!("{stem}-{number}{extension}")));
    let mut names = names.filter(|path| taken.insert(key(path)));
    names.next().expect("there are more numbers than files")
}

fn convert(from: &Path, to: &Path, options: &CheckOptions) -> Result<()> {
    let read = options.read.with_exif_orientation(true);
    let image = Image::open_with(from, &read)?;
    let mut bytes = Vec::new();
    let (width, height) = (image.width() as u32, image.height() as u32);
    let color = if image.channels() == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let encoded = PngEncoder::new(&mut bytes).write_image(image.pixels(), width, height, color);
    encoded.map_err(Error::other)?;
    fs::write(to, bytes).map_err(Error::io_write(to))
}
