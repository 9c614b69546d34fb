//! The progress of a run on stderr: bars on a terminal, plain lines elsewhere. A bar prints nothing without
//! a terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use candle_core::Device;
use candle_vision::registry::one_line;
use candle_vision::train::{
    BatchRecord, Callback, Control, EpochRecord, Event, Result, memory_in_use,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::machine_memory::Bytes;
use crate::say;

/// Interval between progress lines in a long epoch without a terminal.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// The same for a run of several processes, of which the slowest is looked for. Launchers leave most of them no terminal.
const SIGN_OF_RANKS: Duration = Duration::from_secs(10);

/// How long the bar of such a run names the same rank. In a single step, chance decides which one is slow.
const RANK_ON_BAR: Duration = Duration::from_secs(2);

/// Interval between looks at the memory in use. A batch may take less time than a question to the system.
const MEMORY_LOOK: Duration = Duration::from_millis(500);

/// Shows a run.
pub(crate) struct Progress {
    bar: ProgressBar,
    plain: bool,
    epoch: usize,
    epochs: usize,
    last_line: Instant,
    device: Device,
    /// The memory in use at the last look, and when that was.
    memory: Option<(Instant, Option<u64>)>,
    /// Of all epochs so far.
    waiting: Waiting,
    ranks: SinceLook,
    /// What the bar says of them.
    slowest: Option<String>,
}

/// What several processes did since they were last looked at.
#[derive(Debug, Clone)]
struct SinceLook {
    /// The computer of each.
    hosts: Vec<String>,
    /// Number of their images.
    images: usize,
    /// The seconds that each had waited for others by then.
    waited: Vec<f64>,
    /// The time that their batches took, and the end of the last one. What they do between epochs does not count.
    time: Duration,
    last: Instant,
}

impl SinceLook {
    fn new(hosts: &[String]) -> Self {
        let (waited, time) = (Vec::new(), Duration::ZERO);
        Self { hosts: hosts.to_vec(), images: 0, waited, time, last: Instant::now() }
    }

    fn add(&mut self, images: usize) {
        self.images += images;
        self.time += self.last.elapsed();
        self.last = Instant::now();
    }

    /// `slowest rank 1 (node7)`: the one that waited least, because the others waited for it. `None` for one process.
    fn slowest(&self, waited: &[f64]) -> Option<String> {
        let before = |rank: usize| self.waited.get(rank).copied().unwrap_or_default();
        let since = waited.iter().enumerate().map(|(rank, now)| (rank, now - before(rank)));
        let (slowest, _) = since.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        // Its name comes from another computer.
        let host = self.hosts.get(slowest).map(|host| format!(" ({})", one_line(host)));
        Some(format!("slowest rank {slowest}{}", host.unwrap_or_default()))
    }

    fn images_per_second(&self) -> f64 {
        self.images as f64 / self.time.as_secs_f64().max(1e-9)
    }

    fn start_anew(&mut self, waited: &[f64]) {
        (self.images, self.time, self.waited) = (0, Duration::ZERO, waited.to_vec());
    }
}

/// What the training steps of several processes spent on each other.
#[derive(Debug, Clone, Copy, Default)]
struct Waiting {
    seconds: f64,
    of_seconds: f64,
    bytes: u64,
    steps: usize,
}

impl Waiting {
    /// `4.2 % of the step waiting, 44.7 MB a step`. `None` without a step of several processes.
    fn told(&self) -> Option<String> {
        let Self { seconds, of_seconds, bytes, steps } = *self;
        let share = 100.0 * seconds / of_seconds;
        let megabytes = bytes as f64 / 1e6 / steps as f64;
        (steps > 0 && of_seconds > 0.0)
            .then(|| format!("{share:.1} % of the step waiting, {megabytes:.1} MB a step"))
    }
}

impl Progress {
    /// Shows a run on `device`.
    pub(crate) fn new(device: &Device) -> Self {
        let plain = !std::io::stderr().is_terminal();
        Self {
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            plain,
            epoch: 0,
            epochs: 0,
            last_line: Instant::now(),
            device: device.clone(),
            memory: None,
            waiting: Waiting::default(),
            ranks: SinceLook::new(&[]),
            slowest: None,
        }
    }

    /// Shows a run of processes on these computers.
    pub(crate) fn of_ranks(self, hosts: &[String]) -> Self {
        Self { ranks: SinceLook::new(hosts), ..self }
    }

    /// Shows a run in lines, without bars.
    pub(crate) fn plain(device: &Device) -> Self {
        Self { plain: true, ..Self::new(device) }
    }

    /// `  412 MiB`: the memory in use, as it was a moment ago. Empty where the system does not say.
    fn memory(&mut self) -> String {
        let recent = self.memory.filter(|(when, _)| when.elapsed() < MEMORY_LOOK);
        let (when, bytes) = recent.unwrap_or_else(|| (Instant::now(), memory_in_use(&self.device)));
        self.memory = Some((when, bytes));
        shown(bytes)
    }

    /// Prints a line that stays, above the bar if there is one.
    fn line(&mut self, text: &str) {
        if self.plain {
            say::note(text);
        } else {
            self.bar.suspend(|| say::note(text));
        }
        self.last_line = Instant::now();
    }

    fn start_bar(&mut self, what: &str, length: usize) {
        if self.plain {
            return;
        }
        self.bar.finish_and_clear();
        self.bar = bar(length);
        self.bar.set_prefix(format!("epoch {}/{} {what}", self.epoch, self.epochs));
    }

    fn batch(
        &mut self,
        record: &BatchRecord,
        (batch, batches): (usize, usize),
        accuracy: f64,
        (samples, waited): (usize, &[f64]),
    ) {
        let learned = format!("loss {:.4}  acc {:.1} %", record.loss, 100.0 * accuracy);
        let state = format!("{learned}  lr {}{}", short(record.lr), self.memory());
        self.ranks.add(samples);
        if !self.plain {
            if self.ranks.time >= RANK_ON_BAR {
                self.slowest = self.ranks.slowest(waited);
                self.ranks.start_anew(waited);
            }
            self.bar.set_position(batch as u64);
            // All of it would not fit in a line of 80.
            let of_ranks = self.slowest.as_ref().map(|slowest| format!("{learned}  {slowest}"));
            return self.bar.set_message(of_ranks.unwrap_or(state));
        }
        let interval = if waited.is_empty() { SIGN_OF_LIFE } else { SIGN_OF_RANKS };
        if batch < batches && self.last_line.elapsed() >= interval {
            let speed = self.ranks.images_per_second();
            let told = |slowest| format!("  {speed:.0} images/s  {slowest}");
            let ranks = self.ranks.slowest(waited).map_or_else(String::new, told);
            self.ranks.start_anew(waited);
            let (epoch, epochs) = (self.epoch, self.epochs);
            self.line(&format!("epoch {epoch}/{epochs}  batch {batch}/{batches}  {state}{ranks}"));
        }
    }

    fn epoch_end(&mut self, record: &EpochRecord, is_best: bool) {
        self.bar.finish_and_clear();
        let text = format!(
            "epoch {}/{}  train loss {:.4} accuracy {:.2} %  val loss {:.4} accuracy {:.2} %{}  \
             lr {}  {:.1} s ({:.0} images/s){}{}",
            record.epoch,
            self.epochs,
            record.train_loss,
            100.0 * record.train_accuracy,
            record.val_loss,
            100.0 * record.val_accuracy,
            metrics(record),
            short(record.lr),
            record.seconds,
            record.images_per_second,
            shown(record.peak_memory),
            if is_best { "  best" } else { "" }
        );
        self.line(&text);
    }
}

/// `  macro_f1 0.9123`, for each metric beside loss and accuracy.
fn metrics(record: &EpochRecord) -> String {
    record.metrics.iter().map(|(name, value)| format!("  {name} {value:.4}")).collect()
}

/// `  412 MiB`, or nothing if it is not known.
fn shown(memory: Option<u64>) -> String {
    memory.map_or_else(String::new, |bytes| format!("  {}", Bytes(bytes as usize)))
}

fn bar(length: usize) -> ProgressBar {
    let template = "{prefix} {wide_bar:.cyan/dim} {pos}/{len}  {msg}  {eta}";
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length as u64).with_style(style.progress_chars("━╸─"))
}

/// Counts batches or files on a progress bar, which is removed when this is dropped.
pub(crate) struct Count {
    what: &'static str,
    unit: &'static str,
    /// The bar. On a terminal it exists from the first batch on.
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Count {
    pub(crate) fn new(what: &'static str) -> Self {
        Self::of(what, "batch")
    }

    /// Counts images instead of batches.
    pub(crate) fn images(what: &'static str) -> Self {
        Self::of(what, "image")
    }

    /// Counts files instead of batches.
    pub(crate) fn files(what: &'static str) -> Self {
        Self::of(what, "file")
    }

    fn of(what: &'static str, unit: &'static str) -> Self {
        Self { what, unit, bar: None, last_line: Instant::now() }
    }

    pub(crate) fn show(&mut self, done: usize, total: usize) {
        if std::io::stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| bar(total).with_prefix(self.what));
            bar.set_position(done as u64);
        } else if done < total && self.last_line.elapsed() >= SIGN_OF_LIFE {
            say::note(format_args!("{}  {} {done}/{total}", self.what, self.unit));
            self.last_line = Instant::now();
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A learning rate with as few digits as possible: 0.001, 1e-5, 0.000123.
fn short(lr: f64) -> String {
    let plain = format!("{lr:.6}");
    let plain = plain.trim_end_matches('0').trim_end_matches('.');
    match plain.parse::<f64>() {
        Ok(value) if lr > 0.0 && ((value - lr) / lr).abs() < 1e-3 => plain.to_owned(),
        _ => format!("{lr:.2e}"),
    }
}

impl Callback for Progress {
    fn on_event(&mut self, event: &Event<'_>) -> Result<Control> {
        match event {
            Event::RunStart { epochs, first_epoch, .. } => {
                self.epochs = *epochs;
                if *first_epoch > 1 {
                    self.line(&format!("going on with epoch {first_epoch} of {epochs}"));
                }
            }
            Event::EpochStart { epoch, batches, first_batch, .. } => {
                self.epoch = *epoch;
                self.ranks.last = Instant::now();
                self.start_bar("train", *batches);
                self.bar.set_position(*first_batch as u64);
            }
            Event::BatchEnd { record, batch, batches, samples, accuracy, waited } => {
                self.batch(record, (*batch, *batches), *accuracy, (*samples, waited));
            }
            Event::ValidationBatchEnd { batch, batches } => {
                if *batch == 1 {
                    self.start_bar("val  ", *batches);
                }
                self.bar.set_position(*batch as u64);
            }
            Event::EpochEnd { record, is_best, .. } => self.epoch_end(record, *is_best),
            Event::Unfrozen { epoch, lr } => {
                let lr = short(*lr);
                self.line(&format!("epoch {epoch}: the whole network learns from now on, lr {lr}"));
            }
            Event::Ranks { epoch, slowest, host, seconds, of_seconds, bytes, steps } => {
                let sum = &mut self.waiting;
                sum.seconds += seconds;
                sum.of_seconds += of_seconds;
                sum.bytes += bytes;
                sum.steps += steps;
                let bytes = Bytes(usize::try_from(*bytes).unwrap_or(usize::MAX));
                self.line(&format!(
                    "epoch {epoch}: the others waited for rank {slowest} ({host}); this one waited {seconds:.1} s and sent {bytes}"
                ));
            }
            Event::GradientsThroughHost { reason } => self.line(&format!(
                "gradients go through the memory of the hosts, not by NCCL: {reason}"
            )),
            Event::SlowBackward { op } => self.line(&format!(
                "steps take longer than they need: {op} keeps the backward pass from its fast way"
            )),
            Event::NotCaptured { reason } => {
                self.line(&format!("the card waits for the host between kernels, because {reason}"))
            }
            Event::SampleSkipped { sample } => self.line(&say::left_out_line(sample)),
            Event::RunEnd { .. } => {
                self.bar.finish_and_clear();
                if let Some(told) = self.waiting.told() {
                    self.line(&format!("ranks: {told}"));
                }
            }
            _ => {}
        }
        Ok(Control::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_that_waited_least_since_the_last_look_is_the_slowest() {
        let hosts = ["a", "b"].map(str::to_owned);
        let mut ranks = SinceLook { waited: vec![1.0, 5.0], ..SinceLook::new(&hosts) };
        assert_eq!(ranks.slowest(&[4.0, 5.5]).as_deref(), Some("slowest rank 1 (b)"));
        assert_eq!(ranks.slowest(&[]), None);
        ranks.start_anew(&[4.0, 5.5]);
        assert_eq!(ranks.slowest(&[4.5, 8.0]).as_deref(), Some("slowest rank 0 (a)"));
        (ranks.images, ranks.time) = (640, Duration::from_secs(10));
        assert_eq!(ranks.images_per_second(), 64.0);
    }

    #[test]
    fn memory_is_shown_where_it_is_known() {
        assert_eq!((shown(Some(412 << 20)), shown(None)), ("  412 MiB".to_owned(), String::new()));
    }

    #[test]
    fn learning_rates_are_short() {
        let texts = [0.001, 0.1, 1e-5, 1.234e-4, 3e-8].map(short);
        assert_eq!(texts, ["0.001", "0.1", "0.00001", "1.23e-4", "3.00e-8"]);
    }

    #[test]
    fn waiting_is_told_of_the_steps_of_several_processes() {
        assert_eq!(Waiting::default().told(), None);
        let waiting = Waiting { seconds: 0.42, of_seconds: 10.0, bytes: 894_000_000, steps: 20 };
        let told = waiting.told().expect("there were steps");
        assert_eq!(told, "4.2 % of the step waiting, 44.7 MB a step");
    }
}
