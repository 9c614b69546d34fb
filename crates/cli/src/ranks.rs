//! A run of several processes, which a launcher such as `mpirun` started.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use candle_vision::distributed::{Communicator, Launch, Launcher};

use crate::args::TrainArgs;
use crate::say;

/// The processes of a run.
#[derive(Debug, Clone)]
pub(crate) struct Ranks {
    pub(crate) communicator: Arc<dyn Communicator>,
    launch: Launch,
    /// The computer of each rank.
    pub(crate) hosts: Vec<String>,
}

/// The job that this process belongs to, until it ends.
static JOB: Mutex<Option<Arc<dyn Communicator>>> = Mutex::new(None);

/// The processes that `args` ask for. `None` for a run of one.
///
/// # Errors
/// If there is no launcher, or one that tells ranks nothing of each other.
pub(crate) fn join(args: &TrainArgs) -> Result<Option<Ranks>> {
    let launch = Launch::from_env()?;
    join_of(args, launch).inspect_err(|_| let_lower_ranks_speak(launch.rank))
}

fn join_of(args: &TrainArgs, launch: Launch) -> Result<Option<Ranks>> {
    let example = "mpirun -n 2 candle-vision train --distributed ...";
    let tells_no_ways = matches!(launch.launcher, Launcher::Torchrun | Launcher::Slurm);
    match (args.distributed, launch.launcher) {
        (false, Launcher::Nobody) => return Ok(None),
        // One process needs no ways to others.
        (distributed, _) if launch.size == 1 && (tells_no_ways || !distributed) => return Ok(None),
        (false, launcher) if !tells_no_ways => bail!(
            "{launcher} started this as rank {} of {}, and each of them would train the same run; add --distributed, or start \
             one process",
            launch.rank,
            launch.size
        ),
        (true, Launcher::Nobody) => {
            bail!("--distributed needs processes that a launcher started: `{example}`")
        }
        (_, launcher) if tells_no_ways => bail!(
            "{launcher}: this is rank {} of {}, and nothing says how ranks reach each other; start them by MPI (`{example}`, \
             or `srun --mpi=pmix candle-vision train --distributed ...`), or start one process",
            launch.rank,
            launch.size
        ),
        _ => {}
    }
    let communicator = start(args, launch)?;
    *JOB.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&communicator));
    if communicator.rank() > 0 {
        say::to_nobody();
    }
    let hosts = communicator.all_gather(communicator.host().as_bytes())?;
    let hosts = hosts.iter().map(|host| String::from_utf8_lossy(host).into_owned()).collect();
    Ok(Some(Ranks { communicator, launch, hosts }))
}

/// Refuses a command that cannot share its work, if MPI's launcher started it more than once.
///
/// # Errors
/// If there are several processes.
pub(crate) fn refuse() -> Result<()> {
    let launch = Launch::from_env()?;
    let by_mpi = matches!(launch.launcher, Launcher::OpenMpi | Launcher::Pmi | Launcher::Pmix);
    if !by_mpi || launch.size == 1 {
        return Ok(());
    }
    let_lower_ranks_speak(launch.rank);
    bail!(
        "{} started this as rank {} of {}, and each of them would do all of the work, which `train --distributed` alone can \
         share; start one process",
        launch.launcher,
        launch.rank,
        launch.size
    )
}

#[cfg(feature = "mpi")]
fn start(args: &TrainArgs, launch: Launch) -> Result<Arc<dyn Communicator>> {
    use candle_vision::distributed::{Mpi, MpiOptions};

    let timeout = std::time::Duration::from_secs(args.rank_timeout.max(1));
    let options = MpiOptions::default().timeout(timeout).timeout_option("--rank-timeout");
    let mpi = Mpi::start(options)?;
    // An MPI of another make than the launcher starts as many jobs of one process.
    if mpi.size() == 1 && launch.size > 1 {
        bail!(
            "{} started {} processes, but the MPI that this program was built with sees one; start it with the launcher of \
             that MPI",
            launch.launcher,
            launch.size
        )
    }
    Ok(mpi)
}

#[cfg(not(feature = "mpi"))]
fn start(_: &TrainArgs, _: Launch) -> Result<Arc<dyn Communicator>> {
    bail!(
        "this program was built without MPI; build it with the cargo feature `mpi` (on Debian it takes libopenmpi-dev, \
         openmpi-bin and libclang-dev)"
    )
}

/// Ends this process's part of its job, if it is in one. After a failure all other ranks end too: they would wait for this
/// one for ever.
pub(crate) fn end(result: Result<ExitCode>) -> Result<ExitCode> {
    let job = JOB.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (result, job) {
        (Err(error), Some(job)) => {
            let (rank, host) = (job.rank(), job.host());
            let error = error.context(format!("rank {rank} ({host})"));
            if rank > 0 {
                // Into its file, if there is one by now.
                say::error(&error);
                let_lower_ranks_speak(rank);
                say::to_stderr();
            }
            say::error(&error);
            job.abort(1)
        }
        (result, job) => {
            // The last one closes the connection, which waits for the other ranks.
            drop(job);
            result
        }
    }
}

/// Many errors are those of all ranks. The rank with the lowest number tells such an error, and its end is that of the others
/// before they do.
fn let_lower_ranks_speak(rank: usize) {
    if rank > 0 {
        std::thread::sleep(FIRST_SPEAKS + NEXT_SPEAKS * rank.min(20) as u32);
    }
}

const FIRST_SPEAKS: Duration = Duration::from_secs(1);
const NEXT_SPEAKS: Duration = Duration::from_millis(100);

impl Ranks {
    /// Whether this process writes the files of the run and speaks to the person.
    pub(crate) fn is_first(&self) -> bool {
        self.communicator.rank() == 0
    }

    /// The card of this process, counted from 0 on its computer.
    pub(crate) fn card(&self) -> Option<usize> {
        self.launch.local_rank
    }

    /// Waits until all processes are here. One that fails ends the job.
    pub(crate) fn meet(&self) -> Result<()> {
        Ok(self.communicator.barrier()?)
    }

    /// The folder of the run, which the first process made. The others write what they have to say to a file there.
    pub(crate) fn share_folder(&self, made: Option<&Path>) -> Result<()> {
        let made = made.map(std::path::absolute).transpose()?;
        let path = made.map(|path| path.into_os_string().into_encoded_bytes());
        let mut bytes = path.unwrap_or_default();
        self.communicator.broadcast(&mut bytes, 0)?;
        if !self.is_first() {
            let path = PathBuf::from(String::from_utf8_lossy(&bytes).into_owned());
            let log = path.join(format!("rank-{}.log", self.communicator.rank()));
            say::to_file(&log).with_context(|| {
                format!("cannot write `{}`; all ranks need the folder of the run", log.display())
            })?;
        }
        Ok(())
    }

    /// Number of ranks on the computer of this one, which share its memory.
    pub(crate) fn on_this_host(&self) -> usize {
        let own = self.communicator.host();
        self.hosts.iter().filter(|host| *host == own).count().max(1)
    }

    /// The smallest of the numbers of all ranks.
    pub(crate) fn smallest(&self, own: usize) -> Result<usize> {
        let all = self.communicator.all_gather(&(own as u64).to_le_bytes())?;
        let numbers = all.iter().filter_map(|bytes| bytes.as_slice().try_into().ok());
        let smallest = numbers.map(u64::from_le_bytes).min();
        Ok(smallest.map_or(own, |number| usize::try_from(number).unwrap_or(own)))
    }

    /// How the launcher starts a program as so many ranks.
    pub(crate) fn launcher(&self) -> String {
        let command = match self.launch.launcher {
            Launcher::Pmi => "mpiexec",
            Launcher::Pmix => "srun --mpi=pmix",
            _ => "mpirun",
        };
        format!("{command} -n {}", self.communicator.size())
    }

    /// What a person should know of the job.
    pub(crate) fn told(&self, batch_size: usize, accumulate: usize) -> String {
        let (ranks, launcher) = (self.communicator.size(), self.launch.launcher);
        let times = ranks * accumulate;
        if times == 1 {
            return format!("ranks: 1, started by {launcher}; a batch has {batch_size} images");
        }
        let (step, one) = match accumulate {
            1 => (String::new(), "process"),
            _ => {
                let step = format!(
                    "; {accumulate} batches make one step of {} images",
                    times * batch_size
                );
                (step, "batch of one process")
            }
        };
        format!(
            "ranks: {ranks}, started by {launcher}; a batch has {} images, {batch_size} on each rank{step}; the learning rate is \
             the recipe's (for {times} times the images of one {one}, the linear rule would multiply it by {times})",
            ranks * batch_size
        )
    }
}
