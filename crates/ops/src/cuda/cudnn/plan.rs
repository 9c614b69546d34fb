//! How one convolution is computed: descriptors, an algorithm, and the memory that it needs.

use std::ffi::c_int;
use std::sync::Arc;

use candle_core::Result;

use super::descriptors::Descriptors;
use super::ends::EndsDescriptors;
use super::library::{Algorithms, Convolve, Functions, Handle, Performance, SUCCESS, Workspace};
use super::{Arithmetic, DataType, Direction};
use candle_vision_kernels::conv_shape::ConvShape;

/// Largest workspace in bytes. Algorithms that need more are not used.
const MOST_WORKSPACE: usize = 1 << 30;

/// Everything that a plan depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) direction: Direction,
    pub(super) shape: ConvShape,
    pub(super) data: DataType,
    pub(super) arithmetic: Arithmetic,
    /// Whether the algorithm is chosen by time instead of by cuDNN's recommendation.
    pub(super) timed: bool,
}

/// An algorithm that cuDNN recommends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) algorithm: c_int,
    /// The math type of its performance record. The descriptor must have this math type. With another one
    /// the results are the same, but half precision is up to a hundred times slower.
    pub(super) math: c_int,
    pub(super) workspace: usize,
}

pub(super) struct Plan {
    pub(super) descriptors: Descriptors,
    pub(super) choice: Choice,
    /// What finishes the convolution in the same operation. `None` until it is first asked for.
    pub(super) ends: Option<EndsPlan>,
}

/// How a convolution is finished.
pub(super) enum EndsPlan {
    /// With these descriptors.
    Fused(EndsDescriptors),
    /// cuDNN has no such operation.
    Unsupported,
}

impl Plan {
    /// Switches the same convolution to another algorithm.
    pub(super) fn choose(&mut self, functions: &Functions, choice: Choice) -> Result<()> {
        self.descriptors.set_math(functions, choice.math)?;
        self.choice = choice;
        Ok(())
    }
}

/// The functions of a direction.
pub(super) struct Routine {
    algorithms: Algorithms,
    workspace: Workspace,
    pub(super) convolve: Convolve,
}

impl Routine {
    pub(super) fn of(functions: &Functions, direction: Direction) -> Self {
        let f = functions;
        match direction {
            Direction::Forward => Self {
                algorithms: f.forward_algorithms,
                workspace: f.forward_workspace,
                convolve: f.forward,
            },
            Direction::InputGradient => Self {
                algorithms: f.input_gradient_algorithms,
                workspace: f.input_gradient_workspace,
                convolve: f.input_gradient,
            },
            Direction::KernelGradient => Self {
                algorithms: f.kernel_gradient_algorithms,
                workspace: f.kernel_gradient_workspace,
                convolve: f.kernel_gradient,
            },
        }
    }
}

/// The algorithms that cuDNN recommends for `key`, in its order. Only those are returned that give the same
/// bits every time, round no more than allowed and fit the workspace. The plan uses the first one. `None`
/// if there is none.
pub(super) fn plan(
    functions: &Arc<Functions>,
    handle: Handle,
    key: &Key,
) -> Result<Option<(Plan, Vec<Choice>)>> {
    let asked = key.arithmetic.asked();
    let descriptors = Descriptors::new(functions, &key.shape, key.data, asked)?;
    let routine = Routine::of(functions, key.direction);
    let mut choices = Vec::new();
    for record in recommended(&routine, handle, key.direction, &descriptors) {
        let math = key.arithmetic.of_record(record.math);
        let Some(math) = math.filter(|_| record.status == SUCCESS && record.determinism == 1)
        else {
            continue;
        };
        // The workspace size below depends on the descriptor's present state.
        descriptors.set_math(functions, math)?;
        let algorithm = record.algorithm;
        let wanted = workspace(&routine, handle, key.direction, &descriptors, algorithm);
        if let Some(workspace) = wanted.filter(|&bytes| bytes <= MOST_WORKSPACE) {
            choices.push(Choice { algorithm, math, workspace });
        }
        if !key.timed && !choices.is_empty() {
            break;
        }
    }
    let Some(&choice) = choices.first() else { return Ok(None) };
    let mut plan = Plan { descriptors, choice, ends: None };
    plan.choose(functions, choice)?;
    Ok(Some((plan, choices)))
}

/// cuDNN's records of a direction's algorithms, in its order. There are none for a shape that it does not
/// support.
fn recommended(
    routine: &Routine,
    handle: Handle,
    direction: Direction,
    descriptors: &Descriptors,
) -> Vec<Performance> {
    const WANTED: usize = 8;
    let [first, second, result] = direction.in_order(descriptors.raw().blocks());
    let mut found = 0;
    let mut records = [Performance::EMPTY; WANTED];
    // SAFETY: the descriptors are those that the direction's function takes, in its order, and there is
    // room for as many answers as are asked for.
    let status = unsafe {
        (routine.algorithms)(
            handle,
            first,
            second,
            descriptors.raw().convolution,
            result,
            WANTED as c_int,
            &raw mut found,
            records.as_mut_ptr(),
        )
    };
    let found = if status == SUCCESS { usize::try_from(found).unwrap_or(0) } else { 0 };
    records.into_iter().take(found).collect()
}

/// Number of bytes that an algorithm needs. `None` if it does not support the convolution as described.
fn workspace(
    routine: &Routine,
    handle: Handle,
    direction: Direction,
    descriptors: &Descriptors,
    algorithm: c_int,
) -> Option<usize> {
    let [first, second, result] = direction.in_order(descriptors.raw().blocks());
    let convolution = descriptors.raw().convolution;
    let mut bytes = 0;
    // SAFETY: the descriptors are those that the direction's function takes, in its order.
    let status = unsafe {
        (routine.workspace)(handle, first, second, convolution, result, algorithm, &raw mut bytes)
    };
    (status == SUCCESS).then_some(bytes)
}
