//! Chooses an algorithm by its time.

use std::sync::Arc;

use candle_core::Result;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaStream, sys::CUevent_flags};

use super::plan::Choice;

/// The choice that takes the least time. Ties go to the first. A choice that fails, for example for lack of
/// memory, is skipped. If all fail, the result is the first, whose error the caller then gets.
///
/// `choices` must not be empty.
pub(super) fn fastest(choices: &[Choice], mut time: impl FnMut(Choice) -> Result<f32>) -> Choice {
    let mut best = (f32::INFINITY, choices[0]);
    for &choice in choices {
        if let Ok(time) = time(choice) {
            // A NaN is not a time.
            if time < best.0 {
                best = (time, choice);
            }
        }
    }
    best.1
}

/// The time in milliseconds that the device takes for the work that `run` puts on the stream. It is the
/// smallest of three runs, after one that does not count, because that one may load kernels.
pub(super) fn milliseconds(
    stream: &Arc<CudaStream>,
    mut run: impl FnMut() -> Result<()>,
) -> Result<f32> {
    const COUNTED: usize = 3;
    run()?;
    let mut least = f32::INFINITY;
    for _ in 0..COUNTED {
        let start = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).w()?;
        run()?;
        let end = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).w()?;
        least = least.min(start.elapsed_ms(&end).w()?);
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use candle_core::bail;

    use super::*;

    fn choices(count: i32) -> Vec<Choice> {
        (0..count).map(|algorithm| Choice { algorithm, math: 0, workspace: 0 }).collect()
    }

    #[track_caller]
    fn check(times: &[Option<f32>], expected: i32) {
        let found = fastest(&choices(times.len() as i32), |choice| {
            match times[choice.algorithm as usize] {
                Some(time) => Ok(time),
                None => bail!("out of memory"),
            }
        });
        assert_eq!(found.algorithm, expected, "{times:?}");
    }

    #[test]
    fn the_least_time_wins() {
        check(&[Some(2.0), Some(1.0), Some(3.0)], 1);
        check(&[Some(1.0), Some(1.0)], 0);
        check(&[None, Some(9.0)], 1);
        check(&[Some(f32::NAN), Some(9.0)], 1);
        check(&[None, None], 0);
    }
}
