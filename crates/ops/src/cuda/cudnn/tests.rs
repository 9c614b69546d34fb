//! On a device, which the emulator is too; skipped where there is none.

use std::sync::MutexGuard;

use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{CudaDevice, Device, WithDType};
use half::{bf16, f16};

use super::arithmetic::math;
use super::*;
use crate::cuda::device::alone;
use crate::cuda_device;

const DIRECTIONS: [Direction; 3] =
    [Direction::Forward, Direction::InputGradient, Direction::KernelGradient];

struct Opened {
    device: CudaDevice,
    cudnn: Cudnn,
    _alone: MutexGuard<'static, ()>,
}

/// `None` without a device or without cuDNN.
fn open() -> Option<Opened> {
    let _alone = alone();
    let Ok(Device::Cuda(device)) = cuda_device(0) else { return None };
    let cudnn = Cudnn::open(&device).expect("cuDNN opens or is not there")?;
    Some(Opened { device, cudnn, _alone })
}

/// The emulator's algorithms have numbers, times and math types that are known.
fn is_emulated(device: &CudaDevice) -> bool {
    device.cuda_stream().context().name().is_ok_and(|name| name == "emulated")
}

fn shape(batch: usize) -> ConvShape {
    ConvShape {
        batch,
        in_size: [5, 4],
        in_channels: 8,
        out_size: [5, 4],
        out_channels: 16,
        kernel: [3; 2],
        stride: [1; 2],
        padding: [1; 2],
        dilation: [1; 2],
        groups: 1,
        exact: false,
    }
}

/// Small whole numbers, whose sums have no rounding to speak of in any number type.
fn numbers<T: Element + WithDType>(
    device: &CudaDevice,
    count: usize,
    first: usize,
) -> CudaSlice<T> {
    let numbers: Vec<T> =
        (first..first + count).map(|i| T::from_f64((i * 7 % 5) as f64 - 2.0)).collect();
    device.clone_htod(&numbers).expect("room")
}

/// What a direction makes of a batch, and whether cuDNN made it.
fn run<T: Element + WithDType>(
    Opened { device, cudnn, .. }: &mut Opened,
    direction: Direction,
    batch: usize,
    benchmark: bool,
) -> (bool, Vec<f64>) {
    let shape = shape(batch);
    let x = numbers::<T>(device, shape.input_len(), 0);
    let kernel = numbers::<T>(device, shape.kernel_len(), 1);
    let y = numbers::<T>(device, shape.output_len(), 2);
    let operands = Operands { x: x.slice(..), kernel: kernel.slice(..), y: y.slice(..) };
    let taken = cudnn
        .convolve(direction, &operands, &shape, OnCuda { tf32: true, benchmark })
        .expect("cuDNN does not fail");
    let [_, _, result] = direction.in_order([&x, &kernel, &y]);
    let result = device.clone_dtoh(result).expect("a result");
    (taken, result.into_iter().map(T::to_f64).collect())
}

fn key<T: Element>(direction: Direction, batch: usize, timed: bool) -> Key {
    let arithmetic = Arithmetic::of(T::CUDNN, true);
    Key { direction, shape: shape(batch), data: T::CUDNN, arithmetic, timed }
}

fn check_math<T: Element + WithDType>(expected: std::ffi::c_int) {
    let Some(mut opened) = open() else { return };
    for direction in DIRECTIONS {
        let (taken, _) = run::<T>(&mut opened, direction, 2, false);
        assert!(taken, "{direction:?} of {:?} is not cuDNN's", T::CUDNN);
        let plan = opened.cudnn.plans.get(&key::<T>(direction, 2, false)).and_then(Option::as_mut);
        let choice = plan.expect("a plan").choice;
        if is_emulated(&opened.device) {
            assert_eq!(choice.math, expected, "{direction:?} of {:?}", T::CUDNN);
        }
    }
}

#[test]
fn half_precision_is_cudnn_s_and_has_the_math_type_of_the_record() {
    check_math::<f16>(math::TENSOR_OP);
    check_math::<bf16>(math::TENSOR_OP);
    check_math::<f32>(Arithmetic::of(DataType::Float, true).asked());
}

#[test]
fn a_timed_choice_is_the_fastest_and_computes_the_same() {
    let Some(mut opened) = open() else { return };
    for (direction, fastest) in DIRECTIONS.into_iter().zip([0, 4, 4]) {
        let (_, expected) = run::<bf16>(&mut opened, direction, 3, false);
        let (taken, found) = run::<bf16>(&mut opened, direction, 3, true);
        let again = run::<bf16>(&mut opened, direction, 3, true).1;
        assert!(taken, "{direction:?}");
        assert_eq!(found, expected, "{direction:?}");
        assert_eq!(found, again, "{direction:?}");
        if !is_emulated(&opened.device) {
            continue;
        }
        let mut choice = |timed| {
            let plan = opened.cudnn.plans.get(&key::<bf16>(direction, 3, timed));
            plan.and_then(Option::as_mut).expect("a plan").choice
        };
        assert_eq!((choice(false).algorithm, choice(false).math), (1, math::TENSOR_OP));
        // Faster ones want 4 GiB, may differ from run to run, or take no channels-last images.
        assert_eq!((choice(true).algorithm, choice(true).math), (fastest, math::FMA));
    }
}

#[test]
fn a_batch_in_parts_gives_what_it_gives_at_once() {
    let Some(mut opened) = open() else { return };
    for direction in DIRECTIONS {
        let (_, expected) = run::<f32>(&mut opened, direction, 7, false);
        // The kernel's own elements have to fit too: three times those of an image of the output.
        for images in [4, 5] {
            opened.cudnn.most_elements = images * shape(1).output_len();
            let (taken, found) = run::<f32>(&mut opened, direction, 7, false);
            assert!(taken, "{direction:?}");
            assert_eq!(found, expected, "{direction:?} in parts of {images}");
        }
        opened.cudnn.most_elements = MOST_ELEMENTS;
    }
}

#[test]
fn plans_are_kept_up_to_a_number() {
    let Some(mut opened) = open() else { return };
    opened.cudnn.plans = Bounded::new(4);
    for batch in 1..=9 {
        for _ in 0..2 {
            assert!(run::<f32>(&mut opened, Direction::Forward, batch, false).0);
        }
    }
    assert_eq!(opened.cudnn.plans.len(), 4);
    assert!(opened.cudnn.plans.contains(&key::<f32>(Direction::Forward, 9, false)));
    assert!(!opened.cudnn.plans.contains(&key::<f32>(Direction::Forward, 1, false)));
}
