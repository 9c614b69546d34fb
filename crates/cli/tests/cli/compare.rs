//! `compare`: several runs on one page and in one image.

use candle_vision::data::Image;

use crate::support::Place;

fn two_runs() -> Place {
    let place = Place::new();
    place.small(&[]).succeeds();
    place
        .small(&["--epochs", "1", "--set", "model.architecture=mlp", "--name", "other"])
        .succeeds();
    place
}

const RUNS: [&str; 3] = ["compare", "runs/small/001", "runs/other/001"];

#[test]
fn runs_share_a_page_a_image_and_a_table() {
    let place = two_runs();
    let run = place.run(&RUNS).succeeds();
    assert!(run.stdout.ends_with("compare.html\ncompare.png\n"), "{}", run.stdout);
    let page = place.read("compare.html");
    for part in ["small 001", "other 001", "gap_cnn", "mlp", "23,714"] {
        assert!(page.contains(part), "{part}");
    }
    for part in ["small 001", "other 001", "gap_cnn", "mlp", " %", " 23714 ", "s per epoch"] {
        assert!(run.stdout.contains(part), "{part} is not in\n{}", run.stdout);
    }
    // The column of memory has a value on systems that tell it.
    let is_known = cfg!(target_os = "linux");
    assert_eq!(run.stdout.contains("MiB"), is_known, "{}", run.stdout);
    assert_eq!(page.contains("MiB</td>"), is_known);
    let image = Image::open(place.path("compare.png")).expect("an image");
    assert_eq!(image.width(), 1800);

    place.run(&[RUNS.as_slice(), &["-o", "both/cnn.png"]].concat()).succeeds();
    assert!(place.path("both/cnn.html").is_file() && place.path("both/cnn.png").is_file());
}

#[test]
fn runs_of_the_same_name_go_by_their_paths() {
    let place = Place::new();
    place.small(&["--epochs", "1"]).succeeds();
    place.small(&["--epochs", "1", "--runs", "more"]).succeeds();
    let run = place.run(&["compare", "runs/small/001", "more/small/001"]).succeeds();
    assert!(run.stdout.contains(" runs/small/001 "), "{}", run.stdout);
    assert!(run.stdout.contains(" more/small/001 "), "{}", run.stdout);
}

#[test]
fn what_is_no_run_is_named() {
    let place = two_runs();
    place.run(&RUNS[..2]).is_misuse("2 values required");
    place.run(&["compare", "runs/small/001", "nowhere"]).fails(&["`nowhere`"]);
    place.write("runs/small/002/config.toml", place.read("small.toml"));
    let run = place.run(&["compare", "runs/small/001", "runs/small/002"]);
    run.fails(&["`runs/small/002`", "no finished epoch"]);
    // A run that is kept without its checkpoints has its curves still.
    std::fs::remove_file(place.path("runs/other/001/best.safetensors")).expect("it was written");
    place.run(&RUNS).succeeds();
}

#[cfg(unix)]
#[test]
fn a_browser_draws_the_curves_of_all_runs() {
    let Some(browser) = crate::browser::Browser::start() else { return };
    let place = two_runs();
    place.run(&[RUNS.as_slice(), &["-o", "report"]].concat()).succeeds();
    for (width, scheme) in [(1280, "light"), (390, "dark")] {
        browser.open(&place.path("report.html"), width, scheme);
        let wide = browser.value("document.documentElement.scrollWidth");
        assert!(wide.as_u64().is_some_and(|wide| wide <= u64::from(width)), "{wide}");
    }
    let marks = "[...document.querySelectorAll('svg.plot')].map((plot) =>
        plot.querySelectorAll('.curve circle, .curve rect').length)";
    // Two epochs and one.
    assert_eq!(browser.value(marks), serde_json::json!([3, 3, 3]));
    assert_eq!(browser.value("document.querySelectorAll('th button').length"), 12);
    assert_eq!(browser.requests(), Vec::<String>::new());
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
