//! `candle-vision data pack`: image files as tar shards in the WebDataset convention.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use candle_vision::Registry;
use candle_vision::data::{
    Dataset, FolderLayout, FolderSplit, Format, ImageFolder, ShardWriter, ShardWriterConfig, Split,
    random, write_classes,
};
use candle_vision_recipe::data::{DataFolder, Remarks};
use candle_vision_recipe::{Recipe, run_name};
use clap::Args;

use crate::args::DataDir;
use crate::machine_memory::Bytes;
use crate::read_options::read_options;
use crate::say;

#[derive(Debug, Args)]
pub(crate) struct PackArgs {
    /// Image folder: one folder for each class, or `train`, `val` and `test` with such folders in each
    #[arg(value_name = "FOLDER", required_unless_present = "recipe")]
    folder: Option<PathBuf>,
    /// Recipe, or the config.toml of a run, whose image files to pack: a table, Parquet files or the like
    #[arg(long, value_name = "FILE", conflicts_with_all = ["folder", "val_fraction"])]
    recipe: Option<PathBuf>,
    /// Folder for the shards [default: FOLDER.shards, or the recipe's name in this folder]
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
    #[command(flatten)]
    data: DataDir,
    /// Seed of the order of the images in the shards
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Leave files out that are no images instead of stopping at the first
    #[arg(long)]
    skip_broken: bool,
}

pub(super) fn run(args: &PackArgs, registry: &Registry) -> Result<ExitCode> {
    // What is wrong with a split shows before anything is written.
    let (sets, output) = match (&args.recipe, &args.folder) {
        (Some(recipe), _) => (of_recipe(recipe, args, registry)?, shards_of(&run_name(recipe))),
        (None, Some(folder)) => (of_folder(folder, args)?, beside(folder)),
        (None, None) => bail!("name a FOLDER or a --recipe"),
    };
    let output = args.output.clone().unwrap_or(output);
    for (split, _) in &sets {
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
    for (split, set) in &sets {
        write_classes(place.path(), set.classes())?;
        lines.push(pack(&**set, *split, args, place.path())?);
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

/// The splits that are packed.
type Sets = Vec<(Split, Arc<dyn Dataset>)>;

fn of_folder(folder: &Path, args: &PackArgs) -> Result<Sets> {
    let layout = FolderLayout::find(folder)?;
    let shares = FolderSplit::new().val(args.val_fraction);
    let mut splits = vec![Split::Train];
    // With a share of 0, all images are to train on.
    let has_val = layout.split(Split::Val).is_some() || args.val_fraction > 0.0;
    splits.extend(has_val.then_some(Split::Val));
    splits.extend(layout.split(Split::Test).map(|_| Split::Test));
    let open = |split| -> Result<(Split, Arc<dyn Dataset>)> {
        Ok((split, Arc::new(ImageFolder::open_layout(&layout, split, shares)?)))
    };
    splits.into_iter().map(open).collect()
}

fn of_recipe(recipe: &Path, args: &PackArgs, registry: &Registry) -> Result<Sets> {
    let settings = Recipe::read(recipe)?.checked_settings(registry)?;
    let (seed, settings) = (settings.training.seed, settings.data);
    let data_dir = args.data.or(settings.dir.as_deref());
    let place = DataFolder::new(registry, &data_dir).read_options(read_options()?);
    let mut splits = vec![Split::Train, Split::Val];
    splits.extend(place.has_test(&settings)?.then_some(Split::Test));
    let mut remarks = Remarks::default();
    let mut open = |split| Ok((split, place.open(&settings, split, seed, &mut remarks)?));
    let sets = splits.into_iter().map(&mut open).collect::<Result<_>>()?;
    remarks.into_notes().iter().for_each(say::note);
    Ok(sets)
}

fn shards_of(name: &str) -> PathBuf {
    PathBuf::from(format!("{name}.shards"))
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
fn pack(set: &dyn Dataset, split: Split, args: &PackArgs, output: &Path) -> Result<String> {
    let config = ShardWriterConfig::new(split.name())
        .max_bytes(args.shard_size.0 as u64)
        .max_samples(args.shard_images);
    let mut writer = ShardWriter::new(output, config)?;
    // A reader's window sees only neighbours, so images of one class must not lie together.
    let mut order: Vec<usize> = (0..set.len()).collect();
    random::shuffle(&mut random::generator(args.seed), &mut order);
    let (mut packed, mut left_out) = (0_usize, 0_usize);
    for index in order {
        let name = set.name(index);
        let Some(bytes) = set.image_file(index)? else {
            bail!(
                "`{name}` is not stored as an image file, so it cannot be packed; name data of image files"
            );
        };
        let format = Format::of_content(&bytes).filter(|format| format.is_readable());
        let extension = format.and_then(|format| format.extensions().first());
        let Some(extension) = extension else {
            if args.skip_broken {
                left_out += 1;
                continue;
            }
            bail!("`{name}` is no image that can be read; remove it, or turn on --skip-broken");
        };
        let key = key(packed, Path::new(&name));
        match set.is_multi_label() {
            true => writer.add_labelled(&key, extension, &bytes, &set.label_set(index))?,
            false => writer.add(&key, extension, &bytes, set.label(index))?,
        }
        packed += 1;
    }
    ensure!(packed > 0, "the split `{split}` has no images to pack");
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
