//! Sums between cards. With several ranks on the emulated device, where threads may share the one card.

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_ops::{AcrossRanks, Captured, CardRanks, cuda_device};

use crate::twins::{cuda, skipped};

/// What `work` gives on each of so many ranks, each with a device of its own. `None` where there is no NCCL, or no card for
/// each.
fn on_ranks<T: Send>(
    ranks: usize,
    work: impl Fn(usize, &Device, &CardRanks) -> Result<T> + Sync,
) -> Option<Vec<T>> {
    let cuda = cuda()?;
    if let Err(error) = CardRanks::find_library() {
        assert!(!is_emulated(&cuda.device), "{error}");
        skipped(&error);
        return None;
    }
    let cards = if is_emulated(&cuda.device) { 1 } else { ranks };
    let devices: Result<Vec<Device>> = (0..ranks).map(|rank| cuda_device(rank % cards)).collect();
    let devices = devices.map_err(|error| skipped(&error)).ok()?;
    let (id, work) = (CardRanks::new_id().expect("an id"), &work);
    let found = std::thread::scope(|scope| {
        let ranks: Vec<_> = devices
            .iter()
            .enumerate()
            .map(|(rank, device)| {
                let id = &id;
                scope.spawn(move || {
                    let joined = CardRanks::join(device, id, rank, ranks)?;
                    work(rank, device, &joined)
                })
            })
            .collect();
        let found = ranks.into_iter().map(|rank| rank.join().expect("no panic"));
        found.collect::<Result<Vec<T>>>()
    });
    Some(found.expect("ranks that are done"))
}

fn is_emulated(device: &Device) -> bool {
    let Device::Cuda(device) = device else { return false };
    device.cuda_stream().context().name().is_ok_and(|name| name == "emulated")
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

#[test]
fn ranks_sum_what_their_cards_hold() {
    for ranks in [1, 2, 3] {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            let found = on_ranks(ranks, |rank, device, joined| {
                let own = Tensor::arange(0f32, 6.0, device)?.reshape((2, 3))?.to_dtype(dtype)?;
                let own = (own + rank as f64)?;
                // A part of a tensor, whose other values stay.
                let part = own.narrow(0, 1, 1)?;
                let doubled = (&own * 2.0)?;
                joined.sum(&part)?;
                joined.sum(&doubled)?;
                joined.wait()?;
                // Work of the card that reads the sums without a wait of the host.
                Ok((numbers(&(own + 1.0)?)?, numbers(&doubled)?))
            });
            let Some(found) = found else { return };
            let n = ranks as f64;
            let others: f64 = (0..ranks).map(|rank| rank as f64).sum();
            for (rank, (part, doubled)) in found.into_iter().enumerate() {
                let own = |i: usize| i as f64 + rank as f64 + 1.0;
                let sum = |i: usize| n * i as f64 + others;
                let expected: Vec<f64> =
                    (0..3).map(own).chain((3..6).map(|i| sum(i) + 1.0)).collect();
                assert_eq!(part, expected, "{ranks} ranks, {dtype:?}");
                let expected: Vec<f64> = (0..6).map(|i| 2.0 * sum(i)).collect();
                assert_eq!(doubled, expected, "{ranks} ranks, {dtype:?}");
            }
        }
    }
}

#[test]
fn ranks_gather_what_their_cards_hold() {
    for ranks in [1, 3] {
        let found = on_ranks(ranks, |rank, device, joined| {
            let own = Tensor::arange(0f64, 6.0, device)?.reshape((2, 3))?;
            // Not in order in memory.
            let all = joined.all_gather(&(own + 10.0 * rank as f64)?.t()?)?;
            all.iter().map(|tensor| tensor.to_vec2::<f64>()).collect::<Result<Vec<_>>>()
        });
        let Some(found) = found else { return };
        for all in found {
            assert_eq!(all.len(), ranks);
            for (rank, found) in all.into_iter().enumerate() {
                let ten = 10.0 * rank as f64;
                assert_eq!(
                    found,
                    [[ten, ten + 3.0], [ten + 1.0, ten + 4.0], [ten + 2.0, ten + 5.0]]
                );
            }
        }
    }
}

#[test]
fn what_cannot_be_summed_is_said() {
    let said = on_ranks(1, |_, device, joined| {
        let square = Tensor::zeros((3, 3), DType::F32, device)?;
        let on_host = Tensor::zeros(3, DType::F32, &Device::Cpu)?;
        let whole_numbers = Tensor::zeros(3, DType::U32, device)?;
        let id = CardRanks::new_id()?;
        let errors = [
            joined.sum(&square.narrow(1, 0, 2)?),
            joined.sum(&on_host),
            joined.sum(&whole_numbers),
            CardRanks::join(device, &id[1..], 0, 1).map(drop),
            CardRanks::join(device, &id, 2, 2).map(drop),
            CardRanks::join(&Device::Cpu, &id, 0, 1).map(drop),
        ];
        Ok(errors.map(|error| error.expect_err("an error").to_string()))
    });
    let Some(said) = said else { return };
    let expected = [
        "contiguous",
        "a tensor on a CUDA device",
        "sums of U32 are not supported",
        "an id has 128 bytes, got 127",
        "there is no rank 2 among 2",
        "expected a CUDA device",
    ];
    for (error, expected) in said[0].iter().zip(expected) {
        assert!(error.contains(expected), "{error}");
    }
}

/// All ranks capture before one launches.
#[test]
fn sums_are_a_part_of_graphs() {
    for ranks in [1, 2] {
        let found = on_ranks(ranks, |rank, device, joined| {
            joined.check_capturable()?;
            let own = Tensor::new(&[1f32 + rank as f32, 10.0], device)?;
            let work = || -> Result<Tensor> {
                let doubled = (&own * 2.0)?;
                joined.sum(&doubled)?;
                joined.wait()?;
                let all = joined.all_gather(&(doubled + 1.0)?)?;
                all.iter().skip(1).try_fold(all[0].copy()?, |sum, other| sum + other)
            };
            let plain = numbers(&work()?)?;
            let (sums, mut graph) = Captured::prepare(device, work)?.launch()?;
            let first = numbers(&sums)?;
            own.slice_set(&(&own * 3.0)?, 0, 0)?;
            graph.launch()?;
            let again = numbers(&sums)?;
            drop(sums);
            Ok([plain, first, again])
        });
        let Some(found) = found else { return };
        let n = ranks as f64;
        let of = |times: f64| {
            let ones: f64 = (0..ranks).map(|rank| 1.0 + rank as f64).sum();
            vec![n * (times * ones + 1.0), n * (times * 10.0 * n + 1.0)]
        };
        assert!(found.iter().all(|found| *found == [of(2.0), of(2.0), of(6.0)]), "{found:?}");
    }
}
