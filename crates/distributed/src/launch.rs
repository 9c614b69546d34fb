//! What the environment says about the launcher that started this process.

use std::fmt;

use crate::error::{Error, Result};

/// A program that starts the ranks of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Launcher {
    /// Open MPI's `mpirun`.
    OpenMpi,
    /// A launcher that speaks PMI: MPICH's `mpiexec`, or Slurm's `srun --mpi=pmi2`.
    Pmi,
    /// A launcher that speaks PMIx: `srun --mpi=pmix`, or `prterun`.
    Pmix,
    /// Slurm's `srun` without an `--mpi`, which tells ranks nothing that MPI could use.
    Slurm,
    /// A program that sets `RANK` and `WORLD_SIZE`, such as `torchrun`.
    Torchrun,
    /// None: one process.
    Nobody,
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenMpi => "Open MPI's mpirun",
            Self::Pmi => "a PMI launcher",
            Self::Pmix => "a PMIx launcher",
            Self::Slurm => "srun without --mpi",
            Self::Torchrun => "RANK and WORLD_SIZE",
            Self::Nobody => "nobody",
        })
    }
}

/// Who started this process, and as which rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Launch {
    /// Who started it.
    pub launcher: Launcher,
    /// The rank, as the launcher has it.
    pub rank: usize,
    /// The number of ranks.
    pub size: usize,
    /// The number among the ranks of this computer, if the launcher tells it. A rank takes the card of this number.
    pub local_rank: Option<usize>,
}

/// For each launcher the variables that hold rank, size and local rank.
const VARIABLES: [(Launcher, &str, &[&str], &str); 5] = [
    (
        Launcher::OpenMpi,
        "OMPI_COMM_WORLD_RANK",
        &["OMPI_COMM_WORLD_SIZE"],
        "OMPI_COMM_WORLD_LOCAL_RANK",
    ),
    (
        Launcher::Pmix,
        "PMIX_RANK",
        &["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "PRTE_JOB_SIZE"],
        "SLURM_LOCALID",
    ),
    (Launcher::Pmi, "PMI_RANK", &["PMI_SIZE"], "MPI_LOCALRANKID"),
    // Not SLURM_NTASKS: the shell of a batch script has it, too, where nobody started several processes.
    (Launcher::Slurm, "SLURM_PROCID", &["SLURM_STEP_NUM_TASKS"], "SLURM_LOCALID"),
    (Launcher::Torchrun, "RANK", &["WORLD_SIZE"], "LOCAL_RANK"),
];

impl Launch {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// If a variable is no number, or the rank is not below the number of ranks.
    ///
    /// ```
    /// use candle_vision_distributed::{Launch, Launcher};
    ///
    /// let launch = Launch::from_env()?;
    /// assert_eq!((launch.launcher, launch.size), (Launcher::Nobody, 1));
    /// # candle_vision_distributed::Result::Ok(())
    /// ```
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let number = |name: &str| -> Result<Option<usize>> {
            let Some(text) = variable(name).filter(|text| !text.is_empty()) else {
                return Ok(None);
            };
            let wrong =
                |_| Error::Launch(format!("{name} is `{text}`, which is no number from 0 on"));
            text.trim().parse().map(Some).map_err(wrong)
        };
        for (launcher, rank_name, size_names, local_name) in VARIABLES {
            // The other variable may have nothing to do with a launcher.
            let is_vague = matches!(launcher, Launcher::Slurm | Launcher::Torchrun);
            if is_vague && size_names.iter().all(|name| variable(name).is_none()) {
                continue;
            }
            let Some(rank) = number(rank_name)? else { continue };
            let mut size = None;
            for name in size_names {
                size = size.or(number(name)?.map(|size| (*name, size)));
            }
            // A PMIx server tells the size by itself alone.
            let Some((size_name, size)) = size else {
                if launcher == Launcher::Pmix {
                    return Ok(Self { launcher, rank, size: rank + 1, local_rank: None });
                }
                let expected = size_names.join(" or ");
                return Err(Error::Launch(format!(
                    "{rank_name} is {rank}, but {expected} is not set; the launcher sets both"
                )));
            };
            // Slurm sets its variables for a program that it started as one task, too.
            if launcher == Launcher::Slurm && size == 1 {
                continue;
            }
            if rank >= size {
                return Err(Error::Launch(format!(
                    "{rank_name} is {rank} and {size_name} is {size}; a rank lies below the number of ranks"
                )));
            }
            return Ok(Self { launcher, rank, size, local_rank: number(local_name)? });
        }
        Ok(Self { launcher: Launcher::Nobody, rank: 0, size: 1, local_rank: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> std::result::Result<Launch, String> {
        let found =
            |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
        Launch::from_variables(found).map_err(|error| error.to_string())
    }

    #[test]
    fn launchers_are_told_by_their_variables() {
        let launch =
            |launcher, rank, size, local_rank| Ok(Launch { launcher, rank, size, local_rank });
        assert_eq!(of(&[]), launch(Launcher::Nobody, 0, 1, None));
        let open_mpi = [
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
        ];
        assert_eq!(of(&open_mpi), launch(Launcher::OpenMpi, 1, 2, Some(1)));
        assert_eq!(of(&[("PMI_RANK", "0"), ("PMI_SIZE", "4")]), launch(Launcher::Pmi, 0, 4, None));
        let slurm = [("SLURM_PROCID", "3"), ("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_LOCALID", "3")];
        assert_eq!(of(&slurm), launch(Launcher::Slurm, 3, 8, Some(3)));
        let pmix = [slurm.as_slice(), &[("PMIX_RANK", "3")]].concat();
        assert_eq!(of(&pmix), launch(Launcher::Pmix, 3, 8, Some(3)));
        let torchrun = [("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")];
        assert_eq!(of(&torchrun), launch(Launcher::Torchrun, 1, 2, Some(0)));
        // A program in a job of one task is no distributed one.
        let one = [("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", "1")];
        assert_eq!(of(&one), launch(Launcher::Nobody, 0, 1, None));
        let batch_script = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8")];
        assert_eq!(of(&batch_script), launch(Launcher::Nobody, 0, 1, None));
        // torchrun within a Slurm step of one task.
        let both = [one.as_slice(), &torchrun].concat();
        assert_eq!(of(&both), launch(Launcher::Torchrun, 1, 2, Some(0)));
    }

    #[test]
    fn what_cannot_be_is_said() {
        let message = of(&[("RANK", "0"), ("WORLD_SIZE", "0")]).expect_err("no ranks");
        assert_eq!(message, "RANK is 0 and WORLD_SIZE is 0; a rank lies below the number of ranks");
        let message = of(&[("RANK", "2"), ("WORLD_SIZE", "2")]).expect_err("rank 2 of 0 and 1");
        assert!(message.starts_with("RANK is 2 and WORLD_SIZE is 2"), "{message}");
        let message = of(&[("PMI_RANK", "0")]).expect_err("no size");
        assert!(message.contains("PMI_SIZE is not set"), "{message}");
        // A variable that means something else.
        assert!(of(&[("RANK", "colonel")]).is_ok_and(|launch| launch.launcher == Launcher::Nobody));
        let message = of(&[("PMI_RANK", "first"), ("PMI_SIZE", "2")]).expect_err("no number");
        assert_eq!(message, "PMI_RANK is `first`, which is no number from 0 on");
    }
}
