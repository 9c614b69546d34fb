//! Class activation maps of every row of the table of networks, without a layer's name. `cargo test` looks at one row of
//! each family, `cargo xtask parity-all` at all of them.

use candle_vision_test_support::reference;

use candle_core::Device;
use candle_vision_explain::{CamOptions, Error, Target, grad_cam};
use candle_vision_models::parity::ReferenceOutputs;
use candle_vision_models::{ModelSpec, NetworkEntry, Networks, Pass, build};

type TestResult = Result<(), Box<dyn std::error::Error>>;

/// The network declares where its maps are, and Grad-CAM shows something there.
fn is_explained(entry: &NetworkEntry) -> TestResult {
    let name = entry.name();
    let [channels, height, width] = entry.published_input();
    let stored = ReferenceOutputs::of(name)?;
    let own = || ModelSpec::new(name, 10).input([channels, height.min(64), width.min(64)]);
    let spec = stored.as_ref().map_or_else(own, ReferenceOutputs::spec);
    let model = build(&spec, 0, &Device::Cpu)?;
    // On the recipe's weights the signal reaches the end of deep networks.
    stored.map_or(Ok(()), |stored| stored.fill(&*model))?;
    let [channels, height, width] = spec.input;
    let images = reference::image_batch("explained", &[1, channels, height, width])?;
    let map_of = |class| {
        let options = CamOptions { target: Target::Class(class), ..CamOptions::default() };
        grad_cam(&*model, &images, &options)
    };
    if model.cam_layer().is_none() {
        // Only a network without maps has nothing to look at.
        let features = model.forward_features(&images, &mut Pass::eval())?;
        assert_eq!(features.rank(), 2, "{name}");
        let error = map_of(0).expect_err("it has no maps");
        assert!(matches!(error, Error::NoSpatialMaps { .. }), "{name}: {error}");
        return Ok(());
    }
    let mut shows = false;
    // Grad-CAM leaves out what speaks against a class, so the map of one class may be empty.
    for class in 0..10 {
        let map = &map_of(class)?[0];
        assert_eq!((map.height, map.width, map.map.len()), (height, width, height * width));
        assert!(map.map.iter().all(|value| value.is_finite()), "{name}");
        shows |= map.map.iter().any(|value| *value > 0.0);
        if shows {
            break;
        }
    }
    assert!(shows, "{name}: all maps are empty");
    Ok(())
}

#[test]
fn each_family_is_explained() -> TestResult {
    Networks::standard().families().try_for_each(is_explained)
}

#[test]
#[ignore = "builds networks of up to 645 million parameters; `cargo xtask parity-all` runs it"]
#[expect(clippy::print_stdout, reason = "the test takes long, and says how far it is")]
fn every_row_is_explained() -> TestResult {
    for entry in &Networks::standard() {
        println!("{}", entry.name());
        is_explained(entry)?;
    }
    Ok(())
}
