//! Frozen features, judged by a linear layer and by their neighbours.

use candle_vision::data::Image;
use serde_json::Value;

use crate::support::Place;

/// A folder of dark and bright images: what any network's features tell apart.
fn place() -> Place {
    let place = Place::new();
    for (class, level) in [("bright", 200u8), ("dark", 40)] {
        for i in 0..10u8 {
            let image = Image::new(32, 32, 3, vec![level + 3 * i; 3 * 32 * 32]).expect("an image");
            let png = image::RgbImage::from_raw(32, 32, image.pixels().to_vec()).expect("pixels");
            let mut bytes = std::io::Cursor::new(Vec::new());
            png.write_to(&mut bytes, image::ImageFormat::Png).expect("an image can be encoded");
            place.write(&format!("levels/{class}/{i}.png"), bytes.into_inner());
        }
    }
    place
}

#[test]
fn features_of_an_untrained_network_tell_dark_from_bright() {
    let place = place();
    let probe = |more: &[&str]| {
        let fixed = ["probe", "levels", "--model", "gap_cnn", "--weights", "none"];
        place.run(&[&fixed[..], more].concat())
    };
    let run = probe(&["--k", "3", "--json"]).succeeds();
    let found: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!((&found["train_images"], &found["val_images"]), (&16.into(), &4.into()), "{found}");
    assert_eq!(found["linear_accuracy"], 1.0, "{found}");
    assert_eq!(found["knn_accuracy"], 1.0, "{found}");
    let shown = probe(&["--k", "3"]).succeeds().stdout;
    assert!(shown.contains("linear probe  100.00 %"), "{shown}");
    assert!(shown.contains("3-NN          100.00 %"), "{shown}");
    probe(&["--lr", "0"]).fails(&["`lr` is 0"]);
    probe(&["--k", "0"]).is_misuse("at least 1");
}

#[test]
fn checkpoints_and_backbones_without_a_head_are_probed() {
    let (place, checkpoint) = Place::trained();
    place.write_images("photos");
    let run = place.run(&["probe", "photos", "--checkpoint", &checkpoint, "--k", "2"]).succeeds();
    assert!(run.stdout.contains("8 images to train on, 4 to validate on"), "{}", run.stdout);
    place.run(&["probe", "photos"]).is_misuse("--checkpoint");
    place.run(&["probe", "photos", "--model", "vit_b_61"]).is_misuse("did you mean");
    let unpublished = ["probe", "photos", "--model", "gap_cnn"];
    place.run(&unpublished).fails(&["no published weights of `gap_cnn`"]);
    place.run(&["probe", "nowhere", "--checkpoint", &checkpoint]).fails(&["`nowhere`"]);
}
