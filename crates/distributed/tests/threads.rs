//! Ranks that are threads: every call, and what happens to the others when one ends.

use std::sync::Arc;

use candle_vision_distributed::{
    Buckets, Communicator, Compression, Error, OneProcess, Result, ThreadRank, threads,
};

/// What `work` gives on each of `size` ranks.
fn on_ranks<T: Send>(size: usize, work: impl Fn(ThreadRank) -> T + Sync) -> Vec<T> {
    let work = &work;
    std::thread::scope(|scope| {
        let ranks: Vec<_> =
            threads(size).into_iter().map(|rank| scope.spawn(move || work(rank))).collect();
        ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect()
    })
}

#[test]
fn every_call_gives_what_mpi_would() -> Result<()> {
    for size in [1, 2, 4] {
        let results = on_ranks(size, |ranks| -> Result<()> {
            let own = ranks.rank();
            for round in 0..50 {
                let mut values = [own as f32, round as f32, 0.1 * own as f32];
                ranks.all_reduce(&mut values)?;
                let sum = (size * (size - 1) / 2) as f32;
                assert_eq!(values[..2], [sum, (size * round) as f32]);
                let bytes = vec![own as u8; own + round % 3];
                let expected: Vec<Vec<u8>> =
                    (0..size).map(|rank| vec![rank as u8; rank + round % 3]).collect();
                assert_eq!(ranks.all_gather(&bytes)?, expected);
                let pieces: Vec<Vec<u8>> = (0..size).map(|to| vec![own as u8, to as u8]).collect();
                let got = ranks.all_to_all(&pieces)?;
                let expected: Vec<Vec<u8>> =
                    (0..size).map(|from| vec![from as u8, own as u8]).collect();
                assert_eq!(got, expected);
                let mut bytes = vec![own as u8; own + 1];
                ranks.broadcast(&mut bytes, round % size)?;
                assert_eq!(bytes, vec![(round % size) as u8; round % size + 1]);
                ranks.barrier()?;
            }
            assert!(ranks.traffic().calls == 250);
            Ok(())
        });
        results.into_iter().collect::<Result<()>>()?;
    }
    Ok(())
}

#[test]
fn a_rank_that_ends_ends_the_calls_of_the_others() {
    let results = on_ranks(3, |ranks| {
        ranks.barrier().expect("all are there");
        if ranks.rank() == 1 {
            return None;
        }
        Some(ranks.all_gather(&[1]).expect_err("rank 1 has gone"))
    });
    for (rank, error) in results.into_iter().enumerate().filter_map(|(r, e)| Some((r, e?))) {
        match error {
            // The other rank may have gone first with its own error.
            Error::RankEnded { rank: ended, waiting, call: "all_gather" } => {
                assert!(ended != rank && waiting == rank);
            }
            error => panic!("{error}"),
        }
    }
}

#[test]
fn rows_of_other_lengths_are_told() {
    let results = on_ranks(2, |ranks| {
        let mut values = vec![0f32; 1 + ranks.rank()];
        ranks.all_reduce(&mut values).expect_err("other lengths").to_string()
    });
    let expected =
        "all_reduce: rank 1 gave 8 bytes where rank 0 gave 4; all ranks must make the same calls";
    assert_eq!(results, [expected; 2]);
}

#[test]
fn duplicates_do_not_wait_for_each_other() -> Result<()> {
    let sums = on_ranks(2, |ranks| -> Result<f32> {
        let (first, second) = (ranks.duplicate()?, ranks.duplicate()?);
        let mut values = [1.0];
        // In another order on each rank.
        std::thread::scope(|scope| {
            let other = scope.spawn(|| second.all_reduce(&mut [0.0]));
            first.all_reduce(&mut values)?;
            other.join().expect("no panic")
        })?;
        Ok(values[0])
    });
    assert_eq!(sums.into_iter().collect::<Result<Vec<f32>>>()?, [2.0, 2.0]);
    Ok(())
}

#[test]
fn buckets_sum_rows_of_any_length() -> Result<()> {
    let lens = [3, 0, 5, 1, 17, 2];
    let value = |rank: usize, row: usize, i: usize| ((rank + 1) * (row + 2)) as f32 + i as f32;
    for full in [1, 4, 1000] {
        let sums = on_ranks(3, |ranks| -> Result<Vec<Vec<f32>>> {
            let own = ranks.rank();
            let mut buckets = Buckets::new(Arc::new(ranks), Compression::None, full)?;
            let mut last = Vec::new();
            for _ in 0..3 {
                for (row, len) in lens.into_iter().enumerate() {
                    let values: Vec<f32> = (0..len).map(|i| value(own, row, i)).collect();
                    match row % 2 {
                        0 => buckets.push(&values),
                        _ => buckets.push_shared(values, len),
                    }
                }
                last = buckets.finish()?;
            }
            Ok(last)
        });
        for sums in sums {
            for (row, sums) in sums?.iter().enumerate() {
                let of = |i| (0..3).map(|rank| value(rank, row, i)).sum::<f32>();
                assert_eq!(*sums, (0..lens[row]).map(of).collect::<Vec<f32>>());
            }
        }
    }
    // One rank sums nothing, and needs no thread.
    let mut alone = Buckets::new(Arc::new(OneProcess), Compression::Bf16, 2)?;
    alone.push(&[1.5, 2.5, 3.5]);
    alone.push_shared(vec![4.5], 1);
    assert_eq!(alone.finish()?, [vec![1.5, 2.5, 3.5], vec![4.5]]);
    Ok(())
}

/// Rounding to `bf16` before and after the sum: 2^-8 of each.
#[test]
fn compressed_sums_are_near_in_half_of_the_bytes() -> Result<()> {
    let values =
        |rank: usize| (0..1001).map(move |i| ((i * 7 + rank * 3) % 101) as f32 * 0.37 - 15.0);
    let results = on_ranks(4, |ranks| -> Result<Vec<f32>> {
        let own: Vec<f32> = values(ranks.rank()).collect();
        let mut buckets = Buckets::new(Arc::new(ranks), Compression::Bf16, 100)?;
        buckets.push(&own);
        Ok(buckets.finish()?.concat())
    });
    let results = results.into_iter().collect::<Result<Vec<_>>>()?;
    for i in 0..1001 {
        let terms: Vec<f32> = (0..4).filter_map(|rank| values(rank).nth(i)).collect();
        let (sum, size) = (terms.iter().sum::<f32>(), terms.iter().map(|x| x.abs()).sum::<f32>());
        assert!((results[0][i] - sum).abs() <= size / 128.0, "{i}: {} {sum}", results[0][i]);
        // All ranks have the same bits.
        assert!(results.iter().all(|other| other[i].to_bits() == results[0][i].to_bits()));
    }
    Ok(())
}
