//! Finds `mpirun` and starts a program with it, as several processes ("ranks") on this machine.

use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::available_parallelism;

use anyhow::{Result, bail};

use crate::cuda::Program;

/// The names under which MPI's makers install their launcher.
const NAMES: [&str; 2] = ["mpirun", "mpiexec"];

/// The environment variable with the number of threads of a rank.
const THREADS: &str = "RAYON_NUM_THREADS";

/// Options of Open MPI for ranks that share one machine:
/// - more ranks than cores are allowed;
/// - a rank may use all cores. With two ranks the default is one core for each, however many threads a rank has;
/// - a rank that waits lets others run. By default it asks again and again, and keeps a core from the threads that compute;
/// - after Ctrl-C a run has ten seconds to save. The default is a second, and then ranks are killed. Open MPI 4 waits twice
///   that long, also where all ranks have ended, so a minute would leave a person before a still terminal.
const OPEN_MPI: [&str; 9] = [
    "--oversubscribe",
    "--bind-to",
    "none",
    "--mca",
    "mpi_yield_when_idle",
    "1",
    "--mca",
    "odls_base_sigkill_timeout",
    "10",
];

/// Open MPI starts nothing for root unless these are set, because a mistake of root's can do more harm. They are set where root
/// asks for ranks: root would start the same program without `mpirun`, too.
const ALLOW_ROOT: [&str; 4] = [
    "OMPI_ALLOW_RUN_AS_ROOT",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
    "PRTE_ALLOW_RUN_AS_ROOT",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM",
];

/// A launcher of MPI on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mpirun {
    path: PathBuf,
    make: Make,
    /// Whether this process is root's.
    root: bool,
}

/// Who made an MPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Make {
    OpenMpi,
    /// MPICH and those that take its options.
    Other,
}

impl Make {
    fn of(version: &str) -> Self {
        if version.contains("Open MPI") || version.contains("OpenRTE") || version.contains("PRRTE")
        {
            Self::OpenMpi
        } else {
            Self::Other
        }
    }
}

impl Mpirun {
    /// The launcher in the PATH.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn find() -> Result<Self> {
        Self::find_among(&NAMES)
    }

    fn find_among(names: &[&str]) -> Result<Self> {
        for name in names {
            let asked = Command::new(name).arg("--version").stdin(Stdio::null()).output();
            let Ok(output) = asked else { continue };
            let version = String::from_utf8_lossy(&output.stdout).into_owned();
            let version = version + &String::from_utf8_lossy(&output.stderr);
            return Ok(Self { path: name.into(), make: Make::of(&version), root: is_root() });
        }
        bail!(
            "there is no `mpirun`, which several processes need; on Debian: apt-get install libopenmpi-dev openmpi-bin \
             libclang-dev"
        )
    }

    /// The command that starts `ranks` processes of a program. The caller adds the program's arguments.
    ///
    /// The processes share the machine's cores evenly, unless RAYON_NUM_THREADS is set.
    pub(crate) fn command(&self, ranks: u16, program: &Program) -> Command {
        let own = program.command();
        let mut command = Command::new(&self.path);
        command.args(["-n", &ranks.to_string()]);
        if self.make == Make::OpenMpi {
            command.args(OPEN_MPI);
            if self.root {
                command.envs(ALLOW_ROOT.map(|name| (name, "1")));
            }
        }
        command.arg(own.get_program());
        // Ranks on this machine get the launcher's environment.
        let variables = own.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.envs(variables);
        if std::env::var_os(THREADS).is_none() {
            let cores = available_parallelism().map_or(1, NonZero::get);
            command.env(THREADS, threads_of_rank(cores, ranks));
        }
        command
    }
}

fn threads_of_rank(cores: usize, ranks: u16) -> OsString {
    (cores / usize::from(ranks)).max(1).to_string().into()
}

/// Where there is no `id`, nobody is root.
fn is_root() -> bool {
    let id = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mpirun(make: Make, root: bool) -> Mpirun {
        Mpirun { path: "mpirun".into(), make, root }
    }

    fn words(command: &Command) -> Vec<&str> {
        command.get_args().map(|word| word.to_str().unwrap()).collect()
    }

    fn sets(command: &Command, name: &str) -> bool {
        command.get_envs().any(|(found, value)| found == name && value.is_some())
    }

    #[test]
    fn makers_are_told_by_their_version() {
        assert_eq!(Make::of("mpirun (Open MPI) 4.1.4\n\nReport bugs to"), Make::OpenMpi);
        assert_eq!(Make::of("mpirun (OpenRTE) 4.0.3"), Make::OpenMpi);
        assert_eq!(Make::of("HYDRA build details:\n    Version: 4.0.2"), Make::Other);
    }

    #[test]
    fn ranks_share_the_machine_and_have_time_to_save() {
        let program = Program::plain("/bin/candle-vision".into());
        let command = mpirun(Make::OpenMpi, false).command(2, &program);
        let words = words(&command);
        assert_eq!(words[..2], ["-n", "2"]);
        assert_eq!(words.last(), Some(&"/bin/candle-vision"));
        let options = words.join(" ");
        for option in ["--oversubscribe", "--bind-to none", "odls_base_sigkill_timeout 10"] {
            assert!(options.contains(option), "{options}");
        }
        assert!(sets(&command, THREADS) || std::env::var_os(THREADS).is_some());
    }

    #[test]
    fn root_alone_is_allowed_what_root_needs() {
        let program = Program::plain("p".into());
        let sets_for = |make, root| sets(&mpirun(make, root).command(2, &program), ALLOW_ROOT[0]);
        assert!(sets_for(Make::OpenMpi, true));
        assert!(!sets_for(Make::OpenMpi, false) && !sets_for(Make::Other, true));
    }

    #[test]
    fn another_maker_gets_no_option_of_open_mpi() {
        let command = mpirun(Make::Other, false).command(3, &Program::plain("p".into()));
        assert_eq!(words(&command), ["-n", "3", "p"]);
    }

    #[test]
    fn a_machine_without_mpi_is_told_how_to_get_it() {
        let error = Mpirun::find_among(&["no-such-launcher"]).unwrap_err().to_string();
        assert!(error.contains("apt-get install") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn cores_are_shared_evenly() {
        let threads = [(8, 2), (9, 2), (2, 4)].map(|(cores, ranks)| threads_of_rank(cores, ranks));
        assert_eq!(threads, ["4", "4", "1"]);
    }
}
