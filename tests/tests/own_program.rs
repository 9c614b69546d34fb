//! A program outside the workspace that depends on the crates by path: its own parts have the rights of
//! built-in ones. It trains, resumes to the same bits, explains, and offers the commands.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{DType, Device};

const RECIPE: &str = r#"
[data]
source = "stripes"
batch_size = 4
workers = 2
train = [{ op = "speckle", p = 0.1 }, { op = "to_tensor" }]
eval = [{ op = "to_tensor" }]
[model]
architecture = "stripes_net"
channels = 1
image_size = 16
[training]
epochs = 2
optimizer = { name = "sign_momentum", lr = 0.01 }
loss = { name = "brier" }
"#;

/// The program, built once, in a folder of its own.
struct Program {
    folder: tempfile::TempDir,
    binary: PathBuf,
    plain: PathBuf,
}

impl Program {
    fn build() -> Self {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the repository");
        let target = target_folder();
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = folder.path().join("Cargo.toml");
        std::fs::create_dir(folder.path().join("src")).expect("a folder");
        std::fs::write(folder.path().join("src/main.rs"), include_str!("../own_program/main.rs"))
            .expect("it is written");
        std::fs::write(&manifest, manifest_text(root)).expect("it is written");
        // The same versions as here, so that what is built already serves.
        std::fs::copy(root.join("Cargo.lock"), folder.path().join("Cargo.lock"))
            .expect("it is there");
        let cargo = |arguments: &[&str]| {
            let status = Command::new(env!("CARGO"))
                .args(arguments)
                .current_dir(folder.path())
                .env("CARGO_TARGET_DIR", &target)
                .env_remove("RUSTFLAGS")
                .status()
                .expect("cargo starts");
            assert!(status.success(), "cargo {arguments:?}");
        };
        cargo(&["build", "--offline"]);
        cargo(&["build", "--offline", "--package", "candle-vision-cli"]);
        let binary = target.join("debug/own-program");
        let plain = target.join("debug/candle-vision");
        Self { folder, binary, plain }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    #[track_caller]
    fn works(&self, arguments: &[&str]) -> String {
        let output = run(&self.binary, arguments, self.folder.path(), false);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// The folder that this test was built into.
fn target_folder() -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    test.ancestors().nth(3).expect("target/debug/deps/own_program").to_path_buf()
}

fn manifest_text(root: &Path) -> String {
    let path = |name: &str| format!("{{ path = {:?} }}", root.join("crates").join(name));
    // The workspace's crates are dependencies here, and so built once more. Its networks are tiny, so building
    // them takes far longer than running them.
    let levels: String = std::fs::read_dir(root.join("crates"))
        .expect("the crates lie there")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
        .filter(|folder| folder != "test-support")
        .map(|folder| {
            let level = u8::from(folder == "kernels");
            let name = match folder.as_str() {
                "candle-vision" => folder,
                _ => format!("candle-vision-{folder}"),
            };
            format!("[profile.dev.package.{name}]\nopt-level = {level}\ndebug = false\n")
        })
        .collect();
    format!(
        r#"
[package]
name = "own-program"
version = "0.1.0"
edition = "2024"

[dependencies]
candle-core = "0.11.1"
candle-vision = {}
candle-vision-cli = {}
serde = {{ version = "1", features = ["derive"] }}

# As in the workspace, so that what is built there serves here.
{profile}
{levels}
[workspace]
"#,
        path("candle-vision"),
        path("cli"),
        profile = dependencies_profile(root),
    )
}

/// The sections of the workspace's development profile but those of its own crates.
fn dependencies_profile(root: &Path) -> String {
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("it is there");
    let sections = manifest.split("\n[").filter(|section| {
        section.starts_with("profile.dev") && !section.contains("package.candle-vision")
    });
    sections.map(|section| format!("[{section}\n")).collect()
}

fn run(binary: &Path, arguments: &[&str], folder: &Path, twice: bool) -> Output {
    let mut command = Command::new(binary);
    command.args(arguments).current_dir(folder).env("CANDLE_VISION_OFFLINE", "1");
    command.env_remove("CANDLE_VISION_DATA");
    if twice {
        command.env("REGISTER_TWICE", "1");
    }
    command.output().expect("the program starts")
}

#[track_caller]
fn fails(output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{text}");
    assert_eq!(text.trim().lines().count(), 1, "one line: {text}");
    for word in words {
        assert!(text.contains(word), "{word} in {text}");
    }
}

fn bits(path: &Path) -> Vec<(String, Vec<u64>)> {
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).expect("a checkpoint");
    let mut all: Vec<(String, Vec<u64>)> = tensors
        .into_iter()
        .map(|(name, tensor)| {
            let flat = tensor.to_dtype(DType::F64).and_then(|tensor| tensor.flatten_all());
            let values = flat.and_then(|flat| flat.to_vec1::<f64>()).expect("numbers");
            (name, values.into_iter().map(f64::to_bits).collect())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn somebody_else_s_program_has_the_rights_of_this_one() {
    let program = Program::build();
    let folder = program.folder.path();
    std::fs::write(folder.join("stripes.toml"), RECIPE).expect("it is written");

    // Two epochs at once, and one epoch that goes on to two.
    program.works(&["train", "--recipe", "stripes.toml", "--name", "whole"]);
    program.works(&["train", "--recipe", "stripes.toml", "--name", "parts", "--epochs", "1"]);
    program.works(&["train", "--resume", "runs/parts/001", "--epochs", "2"]);
    let last = |name: &str| folder.join("runs").join(name).join("001/last.safetensors");
    let (whole, parts) = (bits(&last("whole")), bits(&last("parts")));
    assert!(
        whole.iter().any(|(name, _)| name.contains("momentum")),
        "the optimizer's state is saved"
    );
    assert!(whole == parts, "a resumed run ends with the bits of one that was not stopped");
    let config =
        std::fs::read_to_string(folder.join("runs/whole/001/config.toml")).expect("settings");
    assert!(config.contains("sign_momentum") && config.contains("brier"), "{config}");

    // Commands know the network: on an image that is made from its own data set.
    let checkpoint = program.path("runs/whole/001/best.safetensors");
    program.works(&["inspect", "sample", "--recipe", "stripes.toml", "--output", "sample.png"]);
    let said = program.works(&["predict", "sample.png", "--checkpoint", &checkpoint]);
    assert!(said.contains("horizontal") && said.contains("vertical"), "{said}");
    program.works(&["explain", "sample.png", "--checkpoint", &checkpoint, "--output", "cam.png"]);
    assert!(folder.join("cam.png").is_file());
    let help = program.works(&["train", "--help"]);
    assert!(help.contains("stripes_net"), "{help}");
    let listed = program.works(&["summary"]);
    assert!(listed.contains("stripes_net") && listed.contains("one convolution"), "{listed}");

    // What is not registered is named, in one line with the remedy.
    let plain =
        run(&program.plain, &["predict", "sample.png", "--checkpoint", &checkpoint], folder, false);
    fails(&plain, &["stripes_net", "registered"]);
    let twice = run(&program.binary, &["summary"], folder, true);
    fails(&twice, &["two entries `stripes_net`", "another name"]);
    let unknown = RECIPE.replace("\"sign_momentum\"", "\"sign_momentun\"");
    std::fs::write(folder.join("unknown.toml"), unknown).expect("it is written");
    let unknown = run(&program.binary, &["train", "--recipe", "unknown.toml"], folder, false);
    fails(&unknown, &["no optimizer is called `sign_momentun`; did you mean `sign_momentum`?"]);
    let elsewhere = run(&program.plain, &["train", "--recipe", "stripes.toml"], folder, false);
    fails(&elsewhere, &["no data set is called `stripes`"]);
}
