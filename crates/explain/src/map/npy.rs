//! Maps as NumPy arrays.

use super::ClassActivationMap;

/// The magic string and the version of the format.
const BEGINNING: &[u8] = b"\x93NUMPY\x01\x00";

impl ClassActivationMap {
    /// The map as the bytes of a file that `numpy.load` reads: little-endian 32-bit floats, `[height, width]`
    /// (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).
    ///
    /// ```
    /// # use candle_vision_explain::ClassActivationMap;
    /// # let map = ClassActivationMap {
    /// #     map: vec![0.0, 1.0], height: 1, width: 2, class: 1, probability: 0.9, positive: true,
    /// #     layer: "layer4".into(),
    /// # };
    /// let bytes = map.to_npy();
    /// assert!(bytes.starts_with(b"\x93NUMPY"));
    /// assert_eq!(bytes.len() % 64, 2 * 4);
    /// ```
    pub fn to_npy(&self) -> Vec<u8> {
        let shape = format!("({}, {})", self.height, self.width);
        let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        // The header ends with a line end, and the values begin at a multiple of 64 bytes.
        let filled = BEGINNING.len() + 2 + header.len() + 1;
        header.push_str(&" ".repeat(filled.next_multiple_of(64) - filled));
        header.push('\n');
        let length = u16::try_from(header.len()).expect("two numbers fit into the header");
        let values = self.map.iter().flat_map(|value| value.to_le_bytes());
        let beginning = BEGINNING.iter().copied().chain(length.to_le_bytes());
        beginning.chain(header.into_bytes()).chain(values).collect()
    }
}
