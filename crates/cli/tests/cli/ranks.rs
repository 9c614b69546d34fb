//! `train --distributed`: several processes that `mpirun` starts, and what is said where they cannot work together.

use crate::support::{Finished, Place};

/// `train --recipe small.toml` in a process that finds these variables.
fn small(place: &Place, args: &[&str], variables: &[(&str, &str)]) -> Finished {
    let args = [&["train", "--recipe", "small.toml"], args].concat();
    let mut command = place.command(&args);
    command.envs(variables.iter().copied());
    Finished::of(&command.output().expect("the program starts"))
}

#[test]
fn what_cannot_work_together_is_said_in_one_line() {
    let place = Place::new();
    let distributed = ["--distributed"].as_slice();
    small(&place, distributed, &[])
        .fails(&["--distributed needs processes that a launcher started"]);
    let torchrun = [("RANK", "0"), ("WORLD_SIZE", "2")];
    small(&place, distributed, &torchrun)
        .fails(&["RANK and WORLD_SIZE: this is rank 0 of 2", "start them by MPI (`mpirun -n 2"]);
    small(&place, &[], &torchrun).fails(&["start them by MPI (`mpirun -n 2"]);
    let mpirun = [("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "2")];
    small(&place, &[], &mpirun)
        .fails(&["each of them would train the same run; add --distributed"]);
    for command in [["summary", "lenet5"].as_slice(), &["sweep", "--recipe", "small.toml"]] {
        let mut command = place.command(command);
        command.envs(mpirun);
        Finished::of(&command.output().expect("the program starts"))
            .fails(&["as rank 0 of 2, and each of them would do all of the work"]);
    }
    small(&place, distributed, &[("RANK", "0"), ("WORLD_SIZE", "0")])
        .fails(&["RANK is 0 and WORLD_SIZE is 0"]);
    small(&place, &[], &[("RANK", "first"), ("WORLD_SIZE", "2")])
        .fails(&["RANK is `first`, which is no number"]);
    assert!(!place.path("runs").exists());
}

#[test]
fn one_process_of_a_launcher_is_one_process() {
    let place = Place::new();
    let alone = [("RANK", "0"), ("WORLD_SIZE", "1")];
    small(&place, &["--distributed", "--name", "alone"], &alone).succeeds();
}

#[cfg(not(feature = "mpi"))]
#[test]
fn a_program_without_mpi_says_how_to_build_one_with_it() {
    let variables = [("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "2")];
    small(&Place::new(), &["--distributed"], &variables)
        .fails(&["built without MPI; build it with the cargo feature `mpi`"]);
}

#[cfg(feature = "mpi")]
mod with_mpi {
    use std::io::Write;
    use std::process::{Command, Output, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    const PROGRAM: &str = env!("CARGO_BIN_EXE_candle-vision");

    const NETWORK: &str = r#"
[data]
source = "insects"
batch_size = 8
train_images = 48
val_images = 20
image_size = 32
train = [{ op = "random_horizontal_flip" }, { op = "to_tensor" }]
eval = [{ op = "to_tensor" }]

[model]
architecture = "resnet20_cifar"
image_size = 32

[training]
epochs = 2
optimizer = { name = "sgd", lr = 0.0002, momentum = 0.9 }
distributed = { batch_norm = "synchronised" }
"#;

    const OWN_BATCH_NORM: &str = "ranks: batch norm normalises by each rank's own images";

    /// `None`, with a line that says so, where there is no `mpirun`.
    fn on_ranks(place: &Place, ranks: usize, args: &[&str]) -> Option<(Output, Duration)> {
        let started = Instant::now();
        let mut command = mpirun(place, ranks);
        command.args([PROGRAM, "train", "--distributed", "--device", "cpu"]).args(args);
        or_skipped(command.output()).map(|output| (output, started.elapsed()))
    }

    /// `mpirun` before what it starts.
    fn mpirun(place: &Place, ranks: usize) -> Command {
        let mut command = Command::new("mpirun");
        command
            .args(["-n", &ranks.to_string(), "--oversubscribe", "--bind-to", "none"])
            .args(["--mca", "mpi_yield_when_idle", "1"])
            .current_dir(place.path(""))
            .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
            .env("RAYON_NUM_THREADS", "1");
        command
    }

    fn or_skipped<T>(started: std::io::Result<T>) -> Option<T> {
        let skipped = |error: &std::io::Error| {
            let _ = writeln!(std::io::stderr(), "skipped: there is no mpirun ({error})");
        };
        started.inspect_err(skipped).ok()
    }

    /// Whether it is so before the time is over.
    fn within(time: Duration, mut is_so: impl FnMut() -> bool) -> bool {
        let started = Instant::now();
        while started.elapsed() < time {
            if is_so() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        is_so()
    }

    fn text(output: &Output) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        text(&output.stdout) + &text(&output.stderr)
    }

    /// Of the network's tensors. Rounding alone makes such differences grow: at ten times this rate, convolutions by another
    /// algorithm (`conv.exact`) give 5e-4.
    fn largest_difference(place: &Place, a: &str, b: &str) -> f32 {
        let (a, b) = (place.tensors(a), place.tensors(b));
        let of_network = a.iter().filter(|(name, _)| !name.starts_with("optimizer"));
        let differences = of_network
            .flat_map(|(name, values)| values.iter().zip(&b[name]).map(|(a, b)| (a - b).abs()));
        differences.fold(0.0, f32::max)
    }

    #[test]
    fn each_rank_reads_shards_of_its_own() {
        let place = Place::new();
        place.write_images("photos");
        place.run(&["data", "pack", "photos", "--shard-images", "3"]).succeeds();
        place.write("shards.toml", crate::data_pack::RECIPE);
        let shards = ["--recipe", "shards.toml", "--batch-size", "1"];
        let Some((output, _)) = on_ranks(&place, 2, &shards) else { return };
        assert!(output.status.success(), "{}", text(&output));
        // Eight images, two in each step.
        assert_eq!(place.read("runs/shards/001/batches.csv").lines().count(), 1 + 4);
        let (output, _) = on_ranks(&place, 4, &shards).expect("MPI");
        let said = text(&output);
        assert!(!output.status.success(), "{said}");
        assert!(
            said.contains("for 4 ranks needs 4 shards") && said.contains("there are 3"),
            "{said}"
        );
    }

    #[test]
    fn ranks_train_what_one_process_trains_and_go_on_in_other_numbers() {
        let place = Place::new();
        place.write("net.toml", NETWORK);
        let one = ["train", "--recipe", "net.toml", "--batch-size", "16", "--name", "one"];
        place.run(&one).succeeds();
        let two = ["--recipe", "net.toml", "--name", "two"];
        let Some((output, _)) = on_ranks(&place, 2, &two) else { return };
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("a batch has 16 images, 8 on each rank"), "{said}");
        // Rank 0 alone speaks; the other writes to its file.
        assert_eq!(said.matches("best validation accuracy").count(), 1, "{said}");
        assert_eq!(said.matches(" % of the step waiting, ").count(), 1, "{said}");
        let header = |run: &str| {
            let table = place.read(&format!("runs/{run}/001/metrics.csv"));
            table.lines().next().unwrap_or_default().to_owned()
        };
        assert!(header("two").ends_with(",waiting") && !header("one").contains("waiting"));
        assert!(place.read("runs/two/001/report.html").contains(">waiting</th>"));
        // The report is of all validation images, though rank 0 alone wrote it.
        let of_images = || {
            let report = place.read("runs/two/001/report.html");
            let (_, classes) = report.split_once("<h2>Which class").expect("a matrix");
            classes.to_owned()
        };
        let of_ranks = of_images();
        place.run(&["report", "runs/two/001"]).succeeds();
        assert!(of_ranks == of_images(), "a report of other images");
        let log = place.read("runs/two/001/rank-1.log");
        assert!(log.starts_with("rank 1 of 2 on ") && log.contains("epoch 2/2"), "{log}");
        let difference = largest_difference(
            &place,
            "runs/one/001/last.safetensors",
            "runs/two/001/last.safetensors",
        );
        assert!(difference < 5e-5, "{difference:.1e}");

        // Two more epochs, on four ranks and on one.
        // The optimizer's state is shared out from here on.
        let sharded = "training.distributed.optimizer_state=sharded";
        let four = ["--resume", "runs/two/001", "--epochs", "4", "--set", sharded];
        let (output, _) = on_ranks(&place, 4, &four).expect("MPI");
        assert!(output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("16 images, 4 on each rank"), "{}", text(&output));
        let args = ["train", "--resume", "runs/one/001", "--epochs", "4"];
        place.run(&args).succeeds();
        let difference = largest_difference(
            &place,
            "runs/one/001/last.safetensors",
            "runs/two/001/last.safetensors",
        );
        assert!(difference < 1e-4, "{difference:.1e}");

        let (output, _) =
            on_ranks(&place, 3, &["--resume", "runs/two/001", "--epochs", "5"]).expect("MPI");
        let said = text(&output);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("have 16 images, which 3 processes cannot share evenly"), "{said}");
        assert!(said.contains("go on with 1, 2, 4, 8, 16 processes"), "{said}");
    }

    #[cfg(unix)]
    #[test]
    fn a_signal_to_one_rank_saves_and_ends_all() {
        let place = Place::new();
        place.write("net.toml", NETWORK.replace("epochs = 2", "epochs = 500"));
        let script = "echo $$ > pid-$OMPI_COMM_WORLD_RANK; exec \"$0\" train --distributed --device cpu --recipe net.toml";
        for rank in [1, 0] {
            let run = format!("runs/net/00{}", 2 - rank);
            let mut job = mpirun(&place, 2);
            job.args(["sh", "-c", script, PROGRAM]).stdout(Stdio::piped()).stderr(Stdio::null());
            let job = job.spawn();
            let Some(mut job) = or_skipped(job) else { return };
            let has_begun = || place.path(&format!("{run}/last.safetensors")).is_file();
            let begun = within(Duration::from_secs(60), has_begun);
            let pid = place.read(&format!("pid-{rank}"));
            let _ = Command::new("kill").args(["-TERM", pid.trim()]).status();
            let ended =
                within(Duration::from_secs(30), || job.try_wait().expect("a child").is_some());
            if !ended {
                // Its ranks end with it.
                let _ = Command::new("kill").args(["-TERM", &job.id().to_string()]).status();
            }
            let said = text(&job.wait_with_output().expect("a child"));
            assert!(begun, "no epoch in a minute: {said}");
            assert!(ended, "a signal to rank {rank} left the job waiting: {said}");
            assert_eq!(said.matches("go on: ").count(), 1, "{said}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_bar_of_rank_0_names_the_slowest_rank() {
        let place = Place::new();
        place.write("net.toml", NETWORK.replace("epochs = 2", "epochs = 500"));
        // Launchers give ranks no terminal. `script` gives one to rank 0, as `srun --pty` does.
        let train = "train --distributed --device cpu --recipe net.toml --batch-size 1";
        let script = format!(
            "if [ \"$OMPI_COMM_WORLD_RANK\" = 0 ]; then exec script -qec \"$0 {train}\" /dev/null; else exec \"$0\" {train}; fi"
        );
        if Command::new("script").arg("--version").output().is_err() {
            let _ = writeln!(std::io::stderr(), "skipped: there is no `script`");
            return;
        }
        let file = std::fs::File::create(place.path("said")).expect("a file");
        let mut job = mpirun(&place, 2);
        job.args(["sh", "-c", &script, PROGRAM]).stdin(Stdio::null()).stdout(file);
        let Some(mut job) = or_skipped(job.stderr(Stdio::null()).spawn()) else { return };
        let said = || {
            let bytes = std::fs::read(place.path("said")).expect("a file");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let named = within(Duration::from_secs(60), || said().contains("slowest rank "));
        let _ = Command::new("kill").args(["-TERM", &job.id().to_string()]).status();
        let _ = job.wait();
        assert!(named, "{}", said());
    }

    #[test]
    fn a_run_knows_how_many_images_its_steps_had() {
        let place = Place::new();
        // Without batch norm, two batches are as good as one of both.
        place.write("net.toml", NETWORK.replace("resnet20_cifar", "mlp"));
        let own = "training.distributed.batch_norm=own";
        let twice = ["--recipe", "net.toml", "--set", "training.accumulate=2", "--set", own];
        let Some((output, _)) = on_ranks(&place, 2, &twice) else { return };
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("2 batches make one step of 32 images"), "{said}");
        assert!(said.contains("the linear rule would multiply it by 4"), "{said}");
        assert!(!said.contains(OWN_BATCH_NORM), "there is none: {said}");
        assert_eq!(place.read("runs/net/001/batches.csv").lines().count(), 1 + 2 * 2);
        let environment = place.read("runs/net/001/environment.json");
        let environment: serde_json::Value = serde_json::from_str(&environment).expect("JSON");
        assert_eq!(
            (&environment["ranks"], &environment["images_per_step"]),
            (&2.into(), &32.into())
        );
        assert!(place.read("runs/net/001/report.html").contains("32, of 2 processes together"));

        let again = ["train", "--recipe", "runs/net/001/config.toml", "--name", "again"];
        let told = place.run(&again).succeeds().stderr;
        let note =
            "had 32 images in a step, on 2 ranks; this one has 16: `--batch-size 16` gives as many";
        assert!(told.contains(note), "{told}");
        assert!(told.contains("steps: 2 batches of 8 images make one of 16 images"), "{told}");
        let as_many = [&again[..], &["--batch-size", "16"]].concat();
        assert!(!place.run(&as_many).succeeds().stderr.contains("the run of this recipe"));
        let difference = largest_difference(
            &place,
            "runs/again/002/last.safetensors",
            "runs/net/001/last.safetensors",
        );
        assert!(difference < 1e-5, "{difference:.1e}");
    }

    #[test]
    fn ranks_of_one_computer_share_its_memory() {
        let place = Place::new();
        place.write("net.toml", NETWORK.replace("train_images = 48", "train_images = 256"));
        let auto = ["--recipe", "net.toml", "--batch-size", "auto", "--epochs", "1"];
        let Some((output, _)) = on_ranks(&place, 2, &auto) else { return };
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        assert!(said.contains(" for each of 2 ranks on this computer"), "{said}");
        // An epoch has 16 steps of both.
        assert!(said.contains("auto takes 8 for 256 training images"), "{said}");
        assert!(said.contains("a batch has 16 images, 8 on each rank"), "{said}");
        // One of them has less.
        let script = "if [ \"$OMPI_COMM_WORLD_RANK\" = 1 ]; then more='--memory 20MiB'; fi; \
                      exec \"$0\" \"$@\" $more";
        let mut limited = Command::new("mpirun");
        limited.args(["-n", "2", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1"]);
        limited.args(["sh", "-c", script, env!("CARGO_BIN_EXE_candle-vision"), "train"]);
        limited.args(["--distributed", "--device", "cpu"]).args(auto).current_dir(place.path(""));
        limited.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        let said = text(&limited.output().expect("MPI"));
        assert!(
            said.contains("auto takes 1 for 256 training images (another rank has less"),
            "{said}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_run_that_was_stopped_says_how_ranks_go_on() {
        let place = Place::new();
        place.write("net.toml", NETWORK.replace("epochs = 2", "epochs = 10000"));
        let mut command = mpirun(&place, 2);
        command.args([
            PROGRAM,
            "train",
            "--distributed",
            "--device",
            "cpu",
            "--recipe",
            "net.toml",
        ]);
        // Open MPI kills its processes a second after the signal, and one that is busy may need longer to save. It waits
        // twice as long as it is told, also where all have ended.
        command.env("OMPI_MCA_odls_base_sigkill_timeout", "5");
        let started = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(child) = started else { return };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !place.path("runs/net/001/last.safetensors").exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(interrupt.expect("the system's kill").success());
        let said = text(&child.wait_with_output().expect("its output"));
        let next = said.lines().find(|line| line.starts_with("go on:")).unwrap_or_default();
        assert!(next.starts_with("go on:    mpirun -n 2 "), "{said}");
        assert!(next.ends_with(" train --distributed --resume runs/net/001"), "{said}");
    }

    #[test]
    fn a_rank_that_fails_ends_the_job_with_its_name_and_reason() {
        let place = Place::new();
        place.write("net.toml", NETWORK);
        // As if one computer had another file: the ranks read different recipes.
        place.write("other.toml", NETWORK.replace("0.0002", "0.02"));
        let script = "if [ \"$OMPI_COMM_WORLD_RANK\" = 1 ]; then exec \"$0\" train --distributed --device cpu --recipe other.toml; \
                      else exec \"$0\" train --distributed --device cpu --recipe net.toml; fi";
        let output = mpirun(&place, 2).args(["sh", "-c", script, PROGRAM]).output();
        let Some(output) = or_skipped(output) else { return };
        let said = text(&output);
        let alone = script.replace("other.toml", "missing.toml");
        let without = mpirun(&place, 2).args(["sh", "-c", &alone, PROGRAM]).output().expect("MPI");
        assert!(text(&without).contains("error: rank 1 ("), "{}", text(&without));
        // No run folder either: rank 0 makes it when all ranks are ready.
        let left = place.path("runs/net").read_dir().map_or(0, Iterator::count);
        assert_eq!(left, 0, "{}", text(&without));
        assert!(!output.status.success(), "{said}");
        // One line, though both ranks know.
        assert_eq!(
            said.matches("rank 1 differs from rank 0 in `training.optimizer`").count(),
            1,
            "{said}"
        );

        // A loss that is not finite ends all ranks at once.
        let schedule = "schedule = { name = \"multi_step_lr\", milestones = [1], gamma = 1e36 }\n";
        place.write("wild.toml", format!("{NETWORK}{schedule}"));
        let own = "training.distributed.batch_norm=own";
        let wild = ["--recipe", "wild.toml", "--set", own];
        let (output, time) = on_ranks(&place, 2, &wild).expect("MPI");
        let said = text(&output);
        assert!(said.contains(OWN_BATCH_NORM), "{said}");
        assert!(!output.status.success() && time < Duration::from_secs(30), "{time:?} {said}");
        assert_eq!(said.matches("error: rank ").count(), 1, "{said}");
        let log = place.read("runs/wild/001/rank-1.log");
        assert!(log.contains("error: rank 1 (") && log.contains("diverged"), "{log}");

        // What all ranks find, the first tells.
        let (output, _) = on_ranks(&place, 4, &["--recipe", "missing.toml"]).expect("MPI");
        let said = text(&output);
        assert_eq!(said.matches("missing.toml").count(), 1, "{said}");
        let error = said.lines().find(|line| line.contains("missing.toml")).unwrap_or_default();
        assert!(error.starts_with("error: rank 0 ("), "{said}");
    }
}
