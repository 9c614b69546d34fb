//! `candle-vision data pack`: an image folder as tar shards in the WebDataset convention.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use candle_vision::data::{
    Dataset, FolderLayout, FolderSplit, Format, ImageFolder, ShardWriter, ShardWriterConfig, Split,
    random, write_classes,
};
use clap::Args;

use crate::machine_memory::Bytes;
use crate::say;

#[derive(Debug, Args)]
pub(crate) struct PackArgs {
    /// Image folder: one folder for each class, or `train`, `val` and `test` with such folders in each
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Folder for the shards [default: FOLDER.shards]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Most bytes of images in a shard
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    shard_size: Bytes,
    /// Most images in a shard
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    shard_images: usize,
    /// Share of each class for validation, where the folder has no validation images
    #[arg(long, value_name = "F", default_value_t = 0.2)]
    val_fraction: f64,
    /// Seed of the order of the images in the shards
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Leave files out that are no images instead of stopping at the first
    #[arg(long)]
    skip_broken: bool,
}

pub(super) fn run(args: &PackArgs) -> Result<ExitCode> {
    let layout = FolderLayout::find(&args.folder)?;
    let shares = FolderSplit::new().val(args.val_fraction);
    let output = args.output.clone().unwrap_or_else(|| beside(&args.folder));
    let mut splits = vec![Split::Train];
    // With a share of 0, all images are to train on.
    let has_val = layout.split(Split::Val).is_some() || args.val_fraction > 0.0;
    splits.extend(has_val.then_some(Split::Val));
    splits.extend(layout.split(Split::Test).map(|_| Split::Test));
    // What is wrong with a split shows before anything is written.
    let open = |split| Ok((split, ImageFolder::open_layout(&layout, split, shares)?));
    let folders = splits.into_iter().map(open).collect::<Result<Vec<_>>>()?;
    for (split, _) in &folders {
        check_is_free(&output, *split)?;
    }
    let above = output.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    std::fs::create_dir_all(above)
        .with_context(|| format!("cannot make the folder `{}`", above.display()))?;
    // The shards lie in a folder of their own until all are whole. It goes when the command fails.
    let place = tempfile::Builder::new().prefix(".unfinished-").tempdir_in(above);
    let place = place.with_context(|| format!("cannot write in `{}`", above.display()))?;
    let mut lines = Vec::new();
    for (split, folder) in &folders {
        write_classes(place.path(), folder.classes())?;
        lines.push(pack(folder, *split, args, place.path())?);
    }
    move_into(place.path(), &output)?;
    for line in lines {
        say::result(line)?;
    }
    say::result(output.display())?;
    say::note(format_args!(
        "train on them with `[data] source = \"shards\"` and `path = \"{}\"`",
        output.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// `photos` becomes `photos.shards` beside it.
fn beside(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_os_string();
    name.push(".shards");
    folder.with_file_name(name)
}

/// Fails if a folder has shards of a split.
fn check_is_free(output: &Path, split: Split) -> Result<()> {
    let first = output.join(format!("{split}-000000.tar"));
    ensure!(
        !first.exists(),
        "`{}` exists already; name another folder or remove the old shards",
        first.display()
    );
    Ok(())
}

/// Moves all files of a folder into another one beside it.
fn move_into(from: &Path, to: &Path) -> Result<()> {
    let at = |path: &Path| format!("cannot move the shards to `{}`", path.display());
    std::fs::create_dir_all(to).with_context(|| at(to))?;
    for entry in std::fs::read_dir(from).with_context(|| at(to))? {
        let path = entry.with_context(|| at(to))?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        std::fs::rename(&path, &target).with_context(|| at(&target))?;
    }
    Ok(())
}

/// Writes the shards of a split. Returns a line on them.
fn pack(folder: &ImageFolder, split: Split, args: &PackArgs, output: &Path) -> Result<String> {
    let config = ShardWriterConfig::new(split.name())
        .max_bytes(args.shard_size.0 as u64)
        .max_samples(args.shard_images);
    let mut writer = ShardWriter::new(output, config)?;
    // A reader's window sees only neighbours, so images of one class must not lie together.
    let mut order: Vec<usize> = (0..folder.len()).collect();
    random::shuffle(&mut random::generator(args.seed), &mut order);
    let (mut packed, mut left_out) = (0_usize, 0_usize);
    for index in order {
        let path = folder.path(index);
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let format = Format::of_content(&bytes).filter(|format| format.is_readable());
        let extension = format.and_then(|format| format.extensions().first());
        let Some(extension) = extension else {
            if args.skip_broken {
                left_out += 1;
                continue;
            }
            bail!(
                "`{}` is no image that can be read; remove it, or turn on --skip-broken",
                path.display()
            );
        };
        writer.add(&key(packed, path), extension, &bytes, folder.label(index))?;
        packed += 1;
    }
    ensure!(packed > 0, "`{}` has no images to pack", folder.folder().display());
    let shards = writer.finish()?.len();
    let mut line = format!("{split}: {packed} images in {shards} shards");
    if left_out > 0 {
        line += &format!("; left out: {left_out} files that are no images");
    }
    Ok(line)
}

/// The name of a sample: its number, and the name of its file without dots.
fn key(number: usize, path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_alphanumeric() || "-_ ".contains(c) { c } else { '_' };
    format!("{number:08}-{}", stem.chars().map(plain).collect::<String>())
}
