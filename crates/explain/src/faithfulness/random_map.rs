//! The baseline of every metric: a map that knows nothing.

use candle_vision_ops::Generator;
use rand::{RngExt, SeedableRng};

use crate::ClassActivationMap;
use crate::scale::{stretch, to_input_size};

/// The side of a random map before it is enlarged. It is that of a ResNet's last stage for images of 224
/// pixels.
const SIDE: usize = 7;

/// A map of random patches, for the same image and class as `like`. The same seed gives the same map.
///
/// ```
/// # use candle_vision_explain::{ClassActivationMap, faithfulness};
/// # let map = ClassActivationMap {
/// #     map: vec![0.0; 64], height: 8, width: 8, class: 1, probability: 0.9, positive: false,
/// #     layer: "layer4".into(),
/// # };
/// let random = faithfulness::random_map(&map, 0);
/// assert_eq!((random.map.len(), random.class), (64, 1));
/// assert_ne!(random.map, faithfulness::random_map(&map, 1).map);
/// ```
pub fn random_map(like: &ClassActivationMap, seed: u64) -> ClassActivationMap {
    let mut generator = Generator::seed_from_u64(seed);
    let side = SIDE + 2;
    let coarse: Vec<f32> = (0..side * side).map(|_| generator.random()).collect();
    // A ring of patches around the image is cut off. The outermost patches of an enlarged map end in plateaus,
    // so its peak would lie at an edge too often.
    let (height, width) = (like.height, like.width);
    let larger = [height, width].map(|length| (length * side).div_ceil(SIDE));
    let [top, left] = [(larger[0] - height) / 2, (larger[1] - width) / 2];
    let around = to_input_size(&coarse, [side; 2], larger);
    let rows = around.chunks(larger[1]).skip(top).take(height);
    let mut map: Vec<f32> = rows.flat_map(|row| &row[left..left + width]).copied().collect();
    stretch(&mut map);
    ClassActivationMap { map, positive: true, layer: "random".to_owned(), ..like.clone() }
}
