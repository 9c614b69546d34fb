//! The command line.

mod inspect;
mod networks;
mod scale_plan;
mod sweep;

use std::path::{Path, PathBuf};

use candle_vision::models::Precision;
use candle_vision::report::MOST_RUNS;
use candle_vision_recipe::Registry;
use candle_vision_recipe::recorded::near;
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::commands::data::DataCommand;
use crate::device::DeviceArgs;
use crate::machine_memory::Bytes;
use crate::tta::TtaArgs;
pub(crate) use inspect::{ActivationsArgs, InspectCommand, ResidualArgs, SampleArgs};
pub(crate) use networks::{
    ConvertArgs, MemoryArgs, ModelsArgs, Names, ParityArgs, ProbeArgs, SummaryArgs,
};
pub(crate) use scale_plan::ScalePlanArgs;
pub(crate) use sweep::{Changes, SweepArgs};

/// Train, evaluate and explain image classifiers.
#[derive(Debug, Parser)]
#[command(name = "candle-vision", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train or fine-tune a network by a recipe, or on a folder of images
    Train(Box<TrainArgs>),
    /// Train several networks, or variants of a recipe, one after the other, and compare them
    Sweep(SweepArgs),
    /// Measure a checkpoint on a data set: accuracy, loss, confusion matrix
    Eval(EvalArgs),
    /// Say what is on images: classes with probabilities
    Predict(PredictArgs),
    /// Show where a network looked: the image with its class activation map
    Explain(ExplainArgs),
    /// Measure every way to explain over many images
    Score(ScoreArgs),
    /// Judge a frozen network's features on an image folder: linear probe and nearest neighbours
    Probe(ProbeArgs),
    /// Write the report of a run anew: one HTML page with curves, mistakes, classes, settings
    Report(ReportArgs),
    /// Lay the curves of runs over each other, with a table: HTML and PNG
    Compare(CompareArgs),
    /// Look inside: what layers make of an image, what residual blocks add, what augmentation does
    Inspect {
        #[command(subcommand)]
        command: InspectCommand,
    },
    /// Work on image data: what is wrong with a folder, what augmentation makes of its images, packing
    Data {
        #[command(subcommand)]
        command: DataCommand,
    },
    /// List networks, their published weights, sizes and accuracies
    Models(ModelsArgs),
    /// List a network's layers, output shapes, parameters and multiply-adds
    Summary(SummaryArgs),
    /// Say what training a network takes in memory, and the largest batch that fits
    Memory(MemoryArgs),
    /// Say how long many ranks would take, what that costs, and what breaks first, from measured figures
    ScalePlan(Box<ScalePlanArgs>),
    /// Convert weights: PyTorch's files, safetensors, half precision, several files into one
    Convert(ConvertArgs),
    /// Compare a network's outputs, layer by layer, with those of PyTorch or another program
    Parity(ParityArgs),
    /// Fetch data sets and weights, verified
    Fetch(FetchArgs),
}

/// The command line of this process. What can be named is listed from the registry.
pub(crate) fn parse(registry: &Registry) -> Cli {
    let matches = command(registry).get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// The command line's grammar, with the parts that `registry` has in its help.
fn command(registry: &Registry) -> clap::Command {
    let names = |names: Vec<&str>| names.join(", ");
    let networks = names(registry.networks.names().collect());
    let methods = names(registry.methods.names().collect());
    let data_sets = names(registry.data_sets.names().collect());
    let listed = |arg: Arg, known: &str| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        arg.help(format!("{help}: {known}"))
    };
    let known = registry.methods.clone();
    // A mistyped name is a misuse of the command line, like a mistyped option.
    let method = move |name: &str| known.get(name).map(|method| method.name().to_owned());
    let one_of = method.clone();
    let known = registry.networks.clone();
    let network = move |name: &str| known.get(name).map(|entry| entry.name().to_owned());
    let published =
        |command: clap::Command| command.mut_arg("model", |arg| arg.value_parser(network.clone()));
    let named = |command: clap::Command| {
        published(command).mut_arg("checkpoint", |arg| arg.required_unless_present("model"))
    };
    Cli::command()
        .mut_subcommand("predict", |predict| TtaArgs::listed(published(predict), registry))
        .mut_subcommand("explain", published)
        .mut_subcommand("eval", |eval| TtaArgs::listed(named(eval), registry))
        .mut_subcommand("score", named)
        .mut_subcommand("probe", named)
        .mut_subcommand("train", |train| train.mut_arg("model", |arg| listed(arg, &networks)))
        .mut_subcommand("explain", |explain| {
            explain.mut_arg("method", |arg| listed(arg, &methods).value_parser(method))
        })
        .mut_subcommand("score", |score| score.mut_arg("methods", |arg| arg.value_parser(one_of)))
        .mut_subcommand("inspect", |inspect| {
            let inspect = inspect.mut_subcommand("sample", |sample| {
                sample.mut_arg("dataset", |arg| listed(arg, &data_sets))
            });
            inspect.mut_subcommand("activations", published).mut_subcommand("residual", named)
        })
}

/// Where data sets and weights lie.
#[derive(Debug, Clone, Args)]
pub(crate) struct DataDir {
    /// Folder of data sets and weights [default: the one that the run or recipe records, or `data`]
    #[arg(long = "data", value_name = "DIR", env = "CANDLE_VISION_DATA")]
    data: Option<PathBuf>,
}

impl DataDir {
    /// The folder that was asked for.
    pub(crate) fn asked(&self) -> Option<&Path> {
        self.data.as_deref()
    }

    /// The folder that was asked for, else the one that was `recorded`, else `data`.
    pub(crate) fn or(&self, recorded: Option<&Path>) -> PathBuf {
        let asked = self.data.as_deref().or(recorded);
        near(asked.unwrap_or(Path::new("data"))).to_path_buf()
    }
}

/// Where missing weights and data sets come from.
#[derive(Debug, Clone, Args)]
pub(crate) struct Origins {
    /// Take missing weights and data from this folder instead of the network, verified as a download
    #[arg(long, value_name = "DIR", value_parser = folder)]
    pub(crate) from: Option<PathBuf>,
    /// Do not use the network
    #[arg(long, env = "CANDLE_VISION_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) offline: bool,
}

fn folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.is_dir() {
        true => Ok(path),
        false => Err("it is no folder; name the folder that holds the files".to_owned()),
    }
}

/// Which network: that of a checkpoint, or a published one.
#[derive(Debug, Clone, Args)]
pub(crate) struct NetworkArgs {
    /// Checkpoint, for instance runs/resnet18/001/best.safetensors
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "weights"])]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Published network instead of a checkpoint, for instance resnet50; `candle-vision models` lists them
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Weights of --model: a version such as IMAGENET1K_V2, or a file [default: its best ones]
    #[arg(long, value_name = "NAME", requires = "model")]
    pub(crate) weights: Option<String>,
    #[command(flatten)]
    pub(crate) origins: Origins,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// Recipe file (TOML)
    #[arg(long, value_name = "FILE", required_unless_present_any = ["folder", "resume"])]
    pub(crate) recipe: Option<PathBuf>,
    /// Train on this image folder: one folder for each class, or `train`, `val` and `test` with such
    /// folders in each. Other usual names (`Training`, `valid`, `testing`) will do; without `val` a
    /// part of the training images is kept; `test` is measured once, at the end. With --resume:
    /// where the run's images are now
    #[arg(long, value_name = "DIR", conflicts_with = "recipe")]
    pub(crate) folder: Option<PathBuf>,
    /// Network for --folder
    #[arg(long, value_name = "NAME", default_value = "resnet18", conflicts_with = "recipe")]
    pub(crate) model: String,
    /// Weights to start from, for --folder: `imagenet`, a version such as IMAGENET1K_V2, a name under
    /// DATA/weights, a safetensors or PyTorch file, a run's last.safetensors, or `none`
    #[arg(long, value_name = "NAME", conflicts_with = "recipe")]
    pub(crate) weights: Option<String>,
    /// Name of the run: its files go to RUNS/NAME/NNN [default: the recipe's or folder's name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) changes: Changes,
    /// Memory that the run may take, for instance 8GiB; a run that needs more does not begin [default: what the machine
    /// or the card has left]
    #[arg(long, value_name = "SIZE", env = "CANDLE_VISION_MEMORY")]
    pub(crate) memory: Option<Bytes>,
    /// Go on with a run, with its settings: its folder, or `last` for the newest one. With more
    /// --epochs a finished run goes on too; --set may change what decides no number
    #[arg(
        long,
        value_name = "RUN",
        conflicts_with_all = ["recipe", "model", "weights", "name"]
    )]
    pub(crate) resume: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) origins: Origins,
    /// Folder for the runs
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs: PathBuf,
    /// Train with the other processes that a launcher started, each on its part of every batch: `mpirun -n 4
    /// candle-vision train --distributed ...`, or `srun --mpi=pmix`. The batch size is that of each process
    #[arg(long)]
    pub(crate) distributed: bool,
    /// Seconds that a process waits for the others before the run ends with the names of those that did not
    /// come, for --distributed
    #[arg(long, value_name = "SECONDS", default_value_t = 25, requires = "distributed")]
    pub(crate) rank_timeout: u64,
    /// Stop after the batch in which the standard input ends
    #[arg(long, hide = true)]
    pub(crate) stop_at_end_of_input: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Image folder to measure on, whole or, where it is split, its validation images [default: the
    /// validation images of the checkpoint's run]
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// List of the classes of the images in --folder, where they lie in no class folders, as ImageNet's
    /// validation images: `val.txt`, Kaggle's `LOC_val_solution.csv`, or lines of FILE CLASS [default:
    /// one with such a name in the folder or beside it]
    #[arg(long, value_name = "FILE", requires = "folder")]
    pub(crate) list: Option<PathBuf>,
    /// Write the confusion matrix as CSV: a row for each true class, a column for each predicted one
    /// [default: CHECKPOINT.confusion.csv in this folder if there are over 20 classes, else none]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Images in a batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one)]
    pub(crate) batch_size: usize,
    /// Number type of feature maps and products: f32, bf16 or f16
    #[arg(long, value_name = "TYPE", default_value_t)]
    pub(crate) precision: Precision,
    #[command(flatten)]
    pub(crate) tta: TtaArgs,
    /// Leave broken images out instead of stopping at the first
    #[arg(long)]
    pub(crate) skip_broken: bool,
    /// Print one JSON object: accuracy, loss and the scores of each class
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// Images, folders of images, or quoted globs such as 'photos/**/*.jpg'
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Images in a batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one)]
    pub(crate) batch_size: usize,
    #[command(flatten)]
    pub(crate) tta: TtaArgs,
    /// How many classes to print for each image
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = at_least_one)]
    pub(crate) top: usize,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Images, folders of images, or quoted globs such as 'photos/**/*.jpg'
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Images in a batch
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub(crate) batch_size: usize,
    /// How to explain
    #[arg(long, value_name = "NAME", default_value = "gradcam")]
    pub(crate) method: String,
    /// What to explain: a class by name or number, `CLASS:OTHER` for why the one rather than the
    /// other, `@IMAGE` for what is alike in that image. A class goes by its whole name first, then
    /// by its number from 0; names with `:`, `@` or digits that could mean something else stand in
    /// double quotes: '"a:b"', '"a:b":c', '"@home"', '"7"' [default: the predicted class]
    #[arg(long, visible_alias = "class", value_name = "CLASS")]
    pub(crate) target: Option<String>,
    /// Layer to look at [default: the network's own choice]
    #[arg(long, value_name = "PATH")]
    pub(crate) layer: Option<String>,
    /// Take the principal component of the channels instead of their sum
    #[arg(long)]
    pub(crate) eigen_smooth: bool,
    /// Average over six variants of the image
    #[arg(long)]
    pub(crate) aug_smooth: bool,
    /// Where to write: a file for one image, a folder for several [default: IMAGE.explain.FORMAT
    /// in this folder; no file is overwritten there]
    #[arg(long, short, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// An image, or the map's numbers [default: by the name of --output, else png]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<MapFormat>,
    /// Measure how good the map is, beside a random one
    #[arg(long)]
    pub(crate) score: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

/// How a map is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MapFormat {
    /// Image, heat map and overlay
    Png,
    /// NumPy array, 32-bit floats, [height, width]
    Npy,
    /// Class, probability, layer and the map row by row
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Image folder to measure on [default: the validation images of the checkpoint's run]
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Methods, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) methods: Vec<String>,
    /// How many images to measure on
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = at_least_one)]
    pub(crate) images: usize,
    /// Folder for the table and the images [default: `explain` beside the checkpoint]
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Folder of the run, for instance runs/resnet18/001
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// Image folder of the run, where it has been moved [default: as the run records]
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Folders of two to eight runs, for instance runs/resnet18/001 runs/resnet18/002
    #[arg(value_name = "RUN", required = true, num_args = 2..=MOST_RUNS)]
    pub(crate) runs: Vec<PathBuf>,
    /// Where to write; `.html` and `.png` are appended
    #[arg(long, short, value_name = "NAME", default_value = "compare")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// What to fetch [default: list what there is]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) origins: Origins,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("it must be a whole number, at least 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_what_is_registered() {
        let mut command = command(&Registry::standard());
        command.build();
        let mut help = |path: &[&str]| {
            let found = path.iter().try_fold(&mut command, |at, name| at.find_subcommand_mut(name));
            found.expect("there is such a command").render_long_help().to_string()
        };
        assert!(help(&["explain"]).contains("gradcam++"));
        assert!(help(&["train"]).contains("mobilenet_v2"));
        assert!(help(&["inspect", "sample"]).contains("hymenoptera"));
    }
}
