//! The baseline of every measure: a map that knows nothing.

use candle_vision_ops::Generator;
use rand::{RngExt, SeedableRng};

use crate::ClassActivationMap;
use crate::scale::to_input_size;

/// The side of a random map before it is enlarged: that of a ResNet's last stage at 224.
const SIDE: usize = 7;

/// A map of random patches for the same picture and class as `like`; the seed decides it.
///
/// ```
/// # use candle_vision_explain::{ClassActivationMap, measure};
/// # let map = ClassActivationMap {
/// #     map: vec![0.0; 64], height: 8, width: 8, class: 1, probability: 0.9, positive: false,
/// #     layer: "layer4".into(),
/// # };
/// let random = measure::random_map(&map, 0);
/// assert_eq!((random.map.len(), random.class), (64, 1));
/// assert_ne!(random.map, measure::random_map(&map, 1).map);
/// ```
pub fn random_map(like: &ClassActivationMap, seed: u64) -> ClassActivationMap {
    let mut generator = Generator::seed_from_u64(seed);
    let coarse: Vec<f32> = (0..SIDE * SIDE).map(|_| generator.random()).collect();
    ClassActivationMap {
        map: to_input_size(&coarse, [SIDE; 2], [like.height, like.width]),
        positive: true,
        layer: "random".to_owned(),
        ..like.clone()
    }
}
