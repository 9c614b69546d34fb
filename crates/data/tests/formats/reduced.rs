//! Images at a half, a quarter and an eighth of their size: against Pillow's `draft` and `reduce`
//! (`tests/reference/reduced.safetensors`, made by the script there).

use super::*;

#[test]
fn reduced_images_are_as_pillow_reduces_them() {
    let path = folder().with_file_name("reduced.safetensors");
    let bytes = std::fs::read(path).expect("the file is in the repository");
    let reference = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let names = reference.names();
    assert!(names.len() > 200, "{} images", names.len());
    for key in names {
        let (name, factor) = key.rsplit_once('/').expect("a name and a factor");
        let factor: usize = factor.parse().expect("a factor");
        let tensor = reference.tensor(key).expect("it has this name");
        let [height, width, 3] = *tensor.shape() else { panic!("{key}: {:?}", tensor.shape()) };
        let expected = Image::new(width, height, 3, tensor.data().to_vec()).unwrap();
        let bytes = bytes_of(name);
        let whole = Image::decode(&bytes, name).unwrap();
        let shorter = whole.height().min(whole.width());
        // The least side that this factor leaves, and the largest one.
        for least in [shorter / (2 * factor) + 1, shorter / factor] {
            let options = ReadOptions::default().with_reduce_to(least);
            let found = Image::decode_with(&bytes, name, &options).unwrap();
            let (largest, mean) = difference(key, &found, &expected);
            let most = if name.ends_with(".jpg") { (0, 0.0) } else { (1, 1.0) };
            assert!(largest <= most.0 && mean <= most.1, "{key}: {largest} levels, {mean}");
        }
    }
}

#[test]
fn the_shorter_side_of_a_reduced_image_keeps_so_many_pixels() {
    let png = black_png(80, 64);
    for (least, height) in
        [(0, 8), (8, 8), (9, 16), (16, 16), (17, 32), (32, 32), (33, 64), (99, 64)]
    {
        let options = ReadOptions::default().with_reduce_to(least);
        let found = Image::decode_with(&png, "a.png", &options).unwrap();
        assert_eq!((found.width(), found.height()), (height * 5 / 4, height), "{least}");
    }
}
