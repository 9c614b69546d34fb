//! `candle-vision data check`.

mod page;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use candle_vision::data::check::{
    Action, CheckOptions, CheckedFile, ClassCounts, Cleaned, Duplicate, FileState, Finding,
    FolderCheck, ImageFacts, Sizes, Spread, check_folder,
};
use candle_vision::registry::one_line;
use clap::Args;

use crate::progress::Count;
use crate::read_options::read_options;
use crate::say;
use crate::table::table;

/// How many files or pairs of a finding are named.
const NAMED: usize = 5;

/// How many classes are listed.
const CLASSES: usize = 20;

/// Arguments of `data check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Image folder, laid out as for `train --folder`
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Print everything that was found as one JSON object
    #[arg(long)]
    json: bool,
    /// Write a page with the images that are broken, odd or there twice, and some of each class
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write a cleaned copy of the folder: without broken files and copies, and with odd images as plain PNG. It says
    /// what it did in cleaning.csv. The folder itself is never changed
    #[arg(long, value_name = "DIR")]
    fix: Option<PathBuf>,
    /// In how many of 64 bits the hashes of near-duplicates may differ; 0 to 32, the more, the less alike
    #[arg(long, value_name = "BITS", default_value_t = CheckOptions::new().distance, value_parser = clap::value_parser!(u32).range(0..=32))]
    distance: u32,
}

pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode> {
    let read = read_options()?.with_exif_orientation(true);
    let options = CheckOptions::new().read(read).distance(args.distance);
    let mut count = Count::files("checking");
    let check = check_folder(&args.folder, &options, |done, total| count.show(done, total))?;
    drop(count);
    if args.json {
        say::result(serde_json::to_string(&check).context("cannot write JSON")?)?;
    } else {
        print(&check)?;
    }
    if let Some(path) = &args.html {
        page::write(&check, &options, path)?;
        say::note(format_args!("page: {}", path.display()));
    }
    if let Some(folder) = &args.fix {
        let mut count = Count::files("copying");
        let cleaned =
            check.write_cleaned(folder, &options, |done, total| count.show(done, total))?;
        drop(count);
        tell_of(&cleaned);
    }
    Ok(if check.fails_training() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn tell_of(cleaned: &Cleaned) {
    say::note(format_args!(
        "cleaned copy: {}: {} files copied, {} converted, {} left out; cleaning.csv there says why",
        cleaned.folder.display(),
        cleaned.count(Action::Copy),
        cleaned.count(Action::Convert),
        cleaned.count(Action::LeaveOut)
    ));
}

fn print(check: &FolderCheck) -> Result<()> {
    match &check.layout {
        Some(layout) => say::result(one_line(layout))?,
        None => say::result(format_args!("`{}`", check.root.display()))?,
    }
    let images = check.images().count();
    say::result(format_args!("{images} images, {} classes", check.classes.len()))?;
    print_classes(check)?;
    if let Some(sizes) = &check.sizes {
        say::result(format_args!("sizes: {}", in_words(sizes)))?;
    }
    if let Some(statistics) = &check.statistics {
        let list = |values: &[f64]| {
            values.iter().map(|v| format!("{v:.4}")).collect::<Vec<_>>().join(", ")
        };
        say::result(format_args!(
            "pixels: mean [{}], std [{}]",
            list(&statistics.mean),
            list(&statistics.std)
        ))?;
    }
    for finding in &check.findings {
        say::result(format_args!("{}: {}", finding.severity.name(), finding.message))?;
        print_details(check, finding)?;
    }
    let verdict = match (check.fails_training(), check.findings.is_empty()) {
        (true, _) => "training would fail",
        (false, true) => "nothing is wrong with this folder",
        (false, false) => "training would begin",
    };
    say::result(verdict)?;
    Ok(())
}

fn print_classes(check: &FolderCheck) -> Result<()> {
    const SPLITS: [&str; 4] = ["train", "val", "test", "not split"];
    let counts = |class: &ClassCounts| [class.train, class.val, class.test, class.not_split];
    let is_used = |split: &usize| check.classes.iter().any(|class| counts(class)[*split] > 0);
    let used: Vec<usize> = (0..SPLITS.len()).filter(is_used).collect();
    if used.is_empty() {
        return Ok(());
    }
    let mut rows = table();
    rows.set_header(std::iter::once("class").chain(used.iter().map(|&split| SPLITS[split])));
    for class in check.classes.iter().take(CLASSES) {
        let counts = used.iter().map(|&split| counts(class)[split].to_string());
        rows.add_row(std::iter::once(one_line(&class.name).into_owned()).chain(counts));
    }
    say::result(rows)?;
    if check.classes.len() > CLASSES {
        say::result(format_args!("and {} more classes", check.classes.len() - CLASSES))?;
    }
    Ok(())
}

/// The pairs of a finding about duplicates, or the files of another one.
fn print_details(check: &FolderCheck, finding: &Finding) -> Result<()> {
    let is_meant = |pair: &&Duplicate| match finding.code {
        "leak" => pair.across_splits,
        "conflict" => pair.across_classes,
        _ => !pair.across_splits && !pair.across_classes,
    };
    let is_of_pairs = matches!(finding.code, "leak" | "conflict" | "duplicate");
    let lines: Vec<String> = if is_of_pairs {
        check.duplicates.iter().filter(is_meant).map(|pair| pair_in_words(check, pair)).collect()
    } else {
        finding.files.iter().map(|&file| file_in_words(&check.files[file])).collect()
    };
    for line in lines.iter().take(NAMED) {
        say::result(format_args!("    {line}"))?;
    }
    if lines.len() > NAMED {
        say::result(format_args!("    and {} more", lines.len() - NAMED))?;
    }
    Ok(())
}

fn pair_in_words(check: &FolderCheck, pair: &Duplicate) -> String {
    let path = |file: usize| check.files[file].path.display();
    let line = format!("{} and {} ({})", path(pair.first), path(pair.second), likeness(pair));
    one_line(&line).into_owned()
}

/// `the same file`, or how near it is.
fn likeness(pair: &Duplicate) -> String {
    match pair.is_exact {
        true => "the same file".to_owned(),
        false => format!("nearly the same, {} of 64 bits differ", pair.distance),
    }
}

fn file_in_words(file: &CheckedFile) -> String {
    let path = file.path.display();
    let line = match &file.state {
        FileState::Broken { reason } | FileState::LeftOut { reason } => format!("{path}: {reason}"),
        FileState::Image(facts) => format!("{path}: {}", facts_in_words(facts)),
        _ => path.to_string(),
    };
    one_line(&line).into_owned()
}

/// `500x333, CMYK`: size and what is not as usual.
fn facts_in_words(facts: &ImageFacts) -> String {
    let details = &facts.details;
    let mut words = format!("{}x{}, {}", facts.width, facts.height, details.mode.in_words());
    if details.bits != 8 {
        words += &format!(", {} bits", details.bits);
    }
    if details.frames > 1 {
        words += &format!(", {} frames", details.frames);
    }
    if details.orientation != 1 {
        words += &format!(", EXIF orientation {}", details.orientation);
    }
    words
}

fn in_words(sizes: &Sizes) -> String {
    let range = |spread: &Spread, digits: usize| {
        let Spread { least, median, largest, .. } = spread;
        format!("{least:.digits$} to {largest:.digits$} (median {median:.digits$})")
    };
    format!(
        "width {}, height {}, width by height {}; {} different",
        range(&sizes.width, 0),
        range(&sizes.height, 0),
        range(&sizes.aspect, 2),
        sizes.different
    )
}
