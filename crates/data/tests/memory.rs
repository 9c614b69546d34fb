//! The memory of a loader over many epochs. This is a test of its own, because others would change the memory of its process.

use std::sync::Arc;

use candle_core::Device;
use candle_vision_data::transforms::Compose;
use candle_vision_data::{DataLoader, Image, LoaderConfig, Samples};

/// The memory of this process in MiB. `None` where the system does not say.
fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
}

#[test]
fn memory_is_flat_over_ten_epochs() {
    let images = 64;
    let rows = (0..images).map(|seed: u8| (seed, 0));
    let set = Samples::new(["noise"], rows, |&seed| {
        let mut bytes = b"P6\n300 200\n255\n".to_vec();
        bytes.extend(
            (0..300 * 200 * 3_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed),
        );
        Image::decode(&bytes, "noise")
    });
    let config = LoaderConfig::new(8).shuffle(true).cache_bytes(0);
    let loader =
        DataLoader::new(Arc::new(set), Compose::imagenet_train(), config, Device::Cpu).unwrap();
    let mut after = Vec::new();
    for epoch in 0..12 {
        for batch in loader.epoch(epoch) {
            batch.unwrap();
        }
        after.extend(resident());
    }
    // The allocator hands memory back at times of its own, so the least of some epochs counts. An epoch has 11 MiB of images and
    // 37 MiB of batches: if it kept any, eight of them would keep more than the limit.
    if let [first @ .., _, _, _, _] = &after[..] {
        let least = |of: &[f64]| of.iter().copied().fold(f64::INFINITY, f64::min);
        let grown = least(&after[first.len()..]) - least(&first[..first.len().min(4)]);
        assert!(grown < 8.0, "{after:.1?} MiB");
    }
}
