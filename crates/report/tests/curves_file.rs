//! The image of the curves follows a run.

use candle_vision_report::CurvesFile;
use candle_vision_train::{Callback, Control, EpochRecord, Event, History};

type TestResult = Result<(), Box<dyn std::error::Error>>;

fn epoch(epoch: usize) -> EpochRecord {
    let mut record = EpochRecord::new(epoch);
    record.train_loss = 1.0 / epoch as f64;
    record.train_accuracy = 0.5;
    record.val_loss = 0.7;
    record.val_accuracy = 0.6;
    record.lr = 1e-3;
    record.seconds = 1.0;
    record.images_per_second = 8.0;
    record
}

#[test]
fn each_epoch_draws_the_curves_anew() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("curves.png");
    let mut curves = CurvesFile::new(&path, "a run");
    let mut history = History::default();
    let mut images = Vec::new();
    for number in 1..=2 {
        let record = epoch(number);
        history.epochs.push(record.clone());
        let end = Event::EpochEnd { record: &record, history: &history, is_best: true };
        assert_eq!(curves.on_event(&end)?, Control::Continue);
        images.push(std::fs::read(&path)?);
    }
    assert_ne!(images[0], images[1]);
    let image = image::load_from_memory(&images[1])?;
    assert_eq!((image.width(), image.height()), (1800, 600));
    Ok(())
}

#[test]
fn a_image_that_cannot_be_written_ends_the_run_with_its_path() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("curves.png");
    std::fs::create_dir(&path)?;
    let mut curves = CurvesFile::new(&path, "a run");
    let (record, history) = (epoch(1), History::default());
    let end = Event::EpochEnd { record: &record, history: &history, is_best: true };
    let error = curves.on_event(&end).expect_err("a folder is in the way");
    let cause = std::error::Error::source(&error).expect("the cause").to_string();
    assert!(cause.contains("curves.png"), "{cause}");
    Ok(())
}
