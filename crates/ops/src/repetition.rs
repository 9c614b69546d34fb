//! When work that is done again and again is captured.

use candle_core::{DType, Tensor};

use crate::cuda_graphs;

/// Decides when work on batches of images is captured, and keeps what was captured.
///
/// After some plain runs with images of the same shape, which load kernels and make what is made once, the next one is to be
/// captured ([`Captured`](crate::Captured)). From then on it is repeated. A batch with fewer images, such as the last of a
/// data set, is a plain run, and what was captured stays for the next. Other shapes begin anew. On other devices than CUDA
/// devices, and with [`set_cuda_graphs`](crate::set_cuda_graphs) off, all runs are plain.
#[derive(Debug)]
pub struct Repetition<T> {
    plain_runs: usize,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    New,
    /// Plain runs so far, all of this form.
    Plain(Form, usize),
    Captured(Form, T),
    Refused,
}

/// What must not change from run to run.
#[derive(Debug, Clone, PartialEq)]
struct Form {
    images: Vec<usize>,
    dtype: DType,
}

impl Form {
    fn of(images: &Tensor) -> Self {
        Self { images: images.dims().to_vec(), dtype: images.dtype() }
    }

    /// Whether it is that of fewer images.
    fn is_part_of(&self, other: &Self) -> bool {
        let is_smaller = self.images.first() < other.images.first();
        is_smaller && self.images.get(1..) == other.images.get(1..) && self.dtype == other.dtype
    }
}

/// How the next run is done.
#[derive(Debug)]
pub enum Turn<'a, T> {
    /// As if there were no graphs.
    Plain,
    /// It is to be captured, and then [kept](Repetition::keep) or [refused](Repetition::refuse).
    Capture,
    /// This is to be repeated.
    Repeat(&'a mut T),
}

impl<T> Repetition<T> {
    /// Captures after `plain_runs` plain runs.
    pub fn after(plain_runs: usize) -> Self {
        Self { plain_runs, state: State::New }
    }

    /// How the run with `images`, `[batch, ..]`, is done. It counts as a run.
    pub fn turn(&mut self, images: &Tensor) -> Turn<'_, T> {
        if !images.device().is_cuda() || !cuda_graphs() {
            return Turn::Plain;
        }
        self.turn_of(Form::of(images))
    }

    fn turn_of(&mut self, form: Form) -> Turn<'_, T> {
        let known = match &self.state {
            State::Refused => return Turn::Plain,
            State::Plain(known, _) | State::Captured(known, _) => Some(known),
            State::New => None,
        };
        if known.is_some_and(|known| form.is_part_of(known)) {
            return Turn::Plain;
        }
        if known != Some(&form) {
            self.state = State::Plain(form, 0);
        }
        match &mut self.state {
            State::Plain(_, runs) if *runs < self.plain_runs => {
                *runs += 1;
                Turn::Plain
            }
            State::Captured(_, captured) => Turn::Repeat(captured),
            State::New | State::Plain(..) | State::Refused => Turn::Capture,
        }
    }

    /// Keeps what the run with `images` has captured.
    pub fn keep(&mut self, images: &Tensor, captured: T) {
        self.state = State::Captured(Form::of(images), captured);
    }

    /// Makes all runs plain ones from now on, because the work cannot be captured.
    pub fn refuse(&mut self) {
        self.state = State::Refused;
    }

    /// Forgets what was captured, because the next runs are others. What was refused stays so.
    pub fn reset(&mut self) {
        if !self.is_refused() {
            self.state = State::New;
        }
    }

    /// What was captured.
    pub fn captured(&mut self) -> Option<&mut T> {
        match &mut self.state {
            State::Captured(_, captured) => Some(captured),
            State::New | State::Plain(..) | State::Refused => None,
        }
    }

    /// Whether something was captured.
    pub fn is_captured(&self) -> bool {
        matches!(self.state, State::Captured(..))
    }

    /// Whether nothing is to be captured.
    pub fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result};

    use super::*;

    fn form(count: usize, side: usize) -> Form {
        Form { images: vec![count, 3, side, side], dtype: DType::F32 }
    }

    fn turn(repetition: &mut Repetition<u8>, count: usize, side: usize) -> char {
        match repetition.turn_of(form(count, side)) {
            Turn::Plain => 'p',
            Turn::Capture => 'c',
            Turn::Repeat(_) => 'r',
        }
    }

    #[test]
    fn runs_of_one_form_are_captured_and_smaller_ones_are_plain() -> Result<()> {
        let mut repetition = Repetition::after(2);
        let turns = |repetition: &mut Repetition<u8>, batches: &[(usize, usize)]| -> String {
            batches.iter().map(|(count, side)| turn(repetition, *count, *side)).collect()
        };
        assert_eq!(turns(&mut repetition, &[(8, 4), (3, 4), (8, 4), (8, 4)]), "pppc");
        repetition.keep(&Tensor::zeros((8, 3, 4, 4), DType::F32, &Device::Cpu)?, 0);
        assert!(repetition.is_captured());
        assert_eq!(turns(&mut repetition, &[(8, 4), (3, 4), (8, 4)]), "rpr");
        // Another size and a larger batch begin anew.
        assert_eq!(turns(&mut repetition, &[(8, 5), (8, 5), (8, 5)]), "ppc");
        assert_eq!(turns(&mut repetition, &[(9, 5), (9, 5), (9, 5)]), "ppc");
        repetition.reset();
        assert_eq!(turns(&mut repetition, &[(9, 5), (9, 5), (9, 5)]), "ppc");
        repetition.refuse();
        repetition.reset();
        assert_eq!(turns(&mut repetition, &[(9, 5), (9, 5), (9, 5)]), "ppp");
        Ok(())
    }

    #[test]
    fn on_a_cpu_all_runs_are_plain() -> Result<()> {
        let mut repetition = Repetition::<u8>::after(0);
        let images = Tensor::zeros((1, 3, 2, 2), DType::F32, &Device::Cpu)?;
        assert!(matches!(repetition.turn(&images), Turn::Plain));
        Ok(())
    }
}
