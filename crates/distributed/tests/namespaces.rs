//! Ranks on two hosts: network namespaces of this machine with a cable between them, where root may make them. A test starts this
//! program again by `mpirun`, in which the same test is a rank.
#![cfg(all(feature = "mpi", target_os = "linux"))]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use candle_vision_distributed::{Communicator, Launch, Launcher, Mpi, MpiOptions, Result};

/// In the environment of ranks: where they say what they do.
const PLACE: &str = "CANDLE_VISION_TEST_PLACE";

/// Two namespaces with the addresses 10.77.0.1 and 10.77.0.2. They go with this.
struct Hosts {
    names: [String; 2],
    place: tempfile::TempDir,
}

impl Hosts {
    /// `None`, with a line that says why, where there can be none.
    fn new(test: &str) -> Option<Self> {
        let made = Self::made(test);
        if let Err(reason) = &made {
            let _ = writeln!(std::io::stderr(), "skipped: no network namespaces here: {reason}");
        }
        made.ok()
    }

    fn made(test: &str) -> std::result::Result<Self, String> {
        let mpirun = text_of("mpirun --version")?;
        if !mpirun.contains("Open MPI") {
            return Err("their launch agent is Open MPI's".to_owned());
        }
        let own = format!("{}-{test}", std::process::id());
        let place = tempfile::tempdir().map_err(|error| error.to_string())?;
        let hosts = Self { names: ["a", "b"].map(|name| format!("{name}{own}")), place };
        let [a, b] = &hosts.names;
        text_of(&format!("ip netns add {a}"))?;
        text_of(&format!("ip netns add {b}"))?;
        text_of(&format!("ip link add cable netns {a} type veth peer name cable netns {b}"))?;
        for (number, name) in hosts.names.iter().enumerate() {
            let address = format!("10.77.0.{}/24", number + 1);
            text_of(&format!("ip -n {name} address add {address} dev cable"))?;
            text_of(&format!("ip -n {name} link set lo up"))?;
            text_of(&format!("ip -n {name} link set cable up"))?;
            text_of(&format!("ip netns exec {name} unshare --uts hostname {name}"))?;
        }
        // What Open MPI calls in place of `ssh HOST COMMAND`.
        let agent = format!(
            "#!/bin/sh\ncase \"$1\" in *.1) name={a};; *) name={b};; esac\nshift\n\
             exec ip netns exec $name unshare --uts sh -c 'hostname '$name'; exec sh -c \"$0\"' \"$*\"\n"
        );
        let path = hosts.path("agent");
        fs::write(&path, agent).map_err(|error| error.to_string())?;
        text_of(&format!("chmod +x {}", path.display()))?;
        Ok(hosts)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Starts a rank of the test `name` on each host.
    fn start(&self, name: &str, more: &[&str]) -> Child {
        let [own, _] = &self.names;
        let (place, agent) = (self.place.path(), self.path("agent"));
        let said = fs::File::create(self.path("said")).expect("a file");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", own, "unshare", "--uts", "sh", "-c"]);
        command.arg(format!("hostname {own}; exec mpirun \"$@\"")).arg("sh");
        command.args(["-n", "2", "--host", "10.77.0.1,10.77.0.2", "--mca", "btl", "tcp,self"]);
        command.args(["--mca", "btl_tcp_if_include", "10.77.0.0/24"]);
        command.args(["--mca", "oob_tcp_if_include", "10.77.0.0/24"]);
        command.args(["--mca", "mpi_yield_when_idle", "1"]);
        command.args(["--mca", "plm_rsh_agent"]).arg(agent).args(more);
        command.args(["-x", PLACE]).arg(std::env::current_exe().expect("a test is a program"));
        command.args([name, "--exact", "--nocapture", "--test-threads=1"]);
        command.env(PLACE, place).env("OMPI_ALLOW_RUN_AS_ROOT", "1");
        command.env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1").env("RUST_BACKTRACE", "0");
        command.stdin(Stdio::null()).stdout(said.try_clone().expect("a file")).stderr(said);
        command.spawn().expect("`ip` was there")
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("said")).expect("a file")).into_owned()
    }

    /// Waits until both ranks are at work, cuts the cable, and gives the time until `is_over`. Ends the launcher, which may wait on.
    fn cut(&self, mut launcher: Child, mut is_over: impl FnMut(&mut Child) -> bool) -> Duration {
        let at_work = || ["0", "1"].iter().all(|rank| self.path(rank).exists());
        let began = within(Duration::from_secs(30), at_work);
        let cut = text_of(&format!("ip -n {} link set cable down", self.names[0]));
        let started = Instant::now();
        let ended = within(Duration::from_secs(30), || is_over(&mut launcher));
        let time = started.elapsed();
        let _ = launcher.kill();
        let _ = launcher.wait();
        assert!(began && cut.is_ok(), "{cut:?} {}", self.said());
        assert!(ended, "{time:?} {}", self.said());
        time
    }

    /// Whether a rank is no more.
    fn has_ended(&self, rank: &str) -> bool {
        let pid = fs::read_to_string(self.path(rank)).expect("its number");
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            // A launcher that was killed leaves its processes on the other host.
            for pid in text_of(&format!("ip netns pids {name}")).unwrap_or_default().lines() {
                let _ = text_of(&format!("kill -9 {pid}"));
            }
            let _ = text_of(&format!("ip netns delete {name}"));
        }
    }
}

/// What a command says, or why it fails.
fn text_of(command: &str) -> std::result::Result<String, String> {
    let mut words = command.split(' ');
    let mut started = Command::new(words.next().unwrap_or_default());
    let output = started.args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{command}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{command}: {}", text(&output.stderr))),
    }
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

fn is_rank() -> Result<bool> {
    Ok(Launch::from_env()?.launcher != Launcher::Nobody)
}

/// Sums for ever, after it has said that it is at work.
fn sum_on(timeout: Duration) -> Result<()> {
    let ranks = Mpi::start(MpiOptions::default().timeout(timeout))?;
    ranks.all_reduce(&mut [0.0])?;
    let place = std::env::var_os(PLACE).expect("the test sets it");
    let path = Path::new(&place).join(ranks.rank().to_string());
    fs::write(path, std::process::id().to_string()).expect("the test's folder");
    loop {
        ranks.all_reduce(&mut [1.0; 1000])?;
    }
}

#[test]
fn ranks_on_two_hosts_sum_and_know_where_they_are() -> Result<()> {
    const NAME: &str = "ranks_on_two_hosts_sum_and_know_where_they_are";
    if is_rank()? {
        let ranks = Mpi::start(MpiOptions::default())?;
        let mut many = vec![ranks.rank() as f32 + 1.0; 1 << 20];
        ranks.all_reduce(&mut many)?;
        assert!(many.iter().all(|sum| *sum == 3.0));
        let hosts = ranks.all_gather(ranks.host().as_bytes())?;
        assert!(hosts[0].starts_with(b"a") && hosts[1].starts_with(b"b"), "{hosts:?}");
        writeln!(std::io::stdout(), "sums are right").expect("somebody listens");
        return Ok(());
    }
    let Some(hosts) = Hosts::new("sum") else { return Ok(()) };
    let mut launcher = hosts.start(NAME, &[]);
    let has_ended = || launcher.try_wait().is_ok_and(|ended| ended.is_some());
    let ended = within(Duration::from_secs(60), has_ended);
    let _ = launcher.kill();
    let status = launcher.wait().expect("it was started");
    let said = hosts.said();
    assert!(ended && status.success(), "{said}");
    assert_eq!(said.matches("sums are right").count(), 2, "{said}");
    Ok(())
}

#[test]
fn ranks_that_are_cut_off_end_with_the_names_of_those_that_did_not_come() -> Result<()> {
    const NAME: &str = "ranks_that_are_cut_off_end_with_the_names_of_those_that_did_not_come";
    if is_rank()? {
        return sum_on(Duration::from_secs(3));
    }
    let Some(hosts) = Hosts::new("cut") else { return Ok(()) };
    let launcher = hosts.start(NAME, &[]);
    let time = hosts.cut(launcher, |_| hosts.has_ended("0") && hosts.has_ended("1"));
    let said = hosts.said();
    assert!(time < Duration::from_secs(15), "{time:?} {said}");
    let missing = format!("error: rank 1 ({}) did not come to all_reduce", hosts.names[1]);
    assert!(said.contains(&missing), "{said}");
    Ok(())
}

#[test]
fn the_launcher_of_ranks_that_are_cut_off_ends_with_keepalive() -> Result<()> {
    const NAME: &str = "the_launcher_of_ranks_that_are_cut_off_ends_with_keepalive";
    if is_rank()? {
        return sum_on(Duration::from_secs(25));
    }
    let Some(hosts) = Hosts::new("keep") else { return Ok(()) };
    let [time, interval, probes] =
        ["time", "intvl", "probes"].map(|name| format!("oob_tcp_keepalive_{name}"));
    let keepalive = ["--mca", &time, "5", "--mca", &interval, "2", "--mca", &probes, "3"];
    let launcher = hosts.start(NAME, &keepalive);
    hosts.cut(launcher, |launcher| launcher.try_wait().is_ok_and(|ended| ended.is_some()));
    assert!(hosts.has_ended("0") && hosts.has_ended("1"), "{}", hosts.said());
    Ok(())
}
