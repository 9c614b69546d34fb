//! `report.html`: that each run has one, that nothing keeps a run from ending well, and what a
//! browser makes of it.

use crate::support::Place;

#[test]
fn a_run_ends_with_its_report() {
    let place = Place::new();
    let run = place.small(&[]).succeeds();
    assert!(run.stdout.contains("runs/small/001/report.html"), "{}", run.stdout);
    let page = place.read("runs/small/001/report.html");
    for expected in [
        "small 001",
        "of 16 right; 95 % interval",
        "Most confused pairs",
        "precision",
        "Expected calibration error",
        "Reliability diagram",
        "Where it was most wrong",
        "23,714 parameters",
        "fingerprint",
        "candle 0.",
        "architecture = &quot;gap_cnn&quot;",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    // The twelve worst, each with its map.
    assert_eq!(page.matches("<img ").count(), 2 * 12);
}

#[test]
fn a_network_without_maps_shows_its_images() {
    let place = Place::new();
    place.small(&["--set", "model.architecture=mlp", "--epochs", "1"]).succeeds();
    let page = place.read("runs/small/001/report.html");
    assert!(page.contains("This network keeps no maps"));
    assert_eq!(page.matches("<img ").count(), 12);
}

#[test]
fn a_report_can_be_made_anew() {
    let (place, _) = Place::trained();
    std::fs::remove_file(place.path("runs/small/001/report.html")).expect("it was written");
    let run = place.run(&["report", "runs/small/001"]).succeeds();
    assert_eq!(run.stdout, "runs/small/001/report.html\n");
    let metrics = place.read("runs/small/001/metrics.csv");
    let losses = metrics.lines().skip(1).filter_map(|line| line.split(',').nth(3)?.parse().ok());
    let losses: Vec<String> = losses.map(|loss: f64| format!("<dd>{loss:.4}</dd>")).collect();
    let page = place.read("runs/small/001/report.html");
    assert!(losses.iter().any(|loss| page.contains(loss)), "{losses:?}");

    place.run(&["report", "nowhere"]).fails(&["`nowhere`"]);
    std::fs::create_dir(place.path("runs/small/002")).expect("a folder");
    place.run(&["report", "runs/small/002"]).fails(&["runs/small/002", "best.safetensors"]);
    place.write("runs/small/001/metrics.csv", "epoch\n1,0.5\n");
    place.run(&["report", "runs/small/001"]).fails(&["metrics.csv` line 2"]);
}

#[cfg(unix)]
mod browser {
    use super::*;
    use crate::browser::Browser;

    /// Where the first point of the validation curve lies on the screen, and its value in words.
    const PLACE: &str = "(async () => {
        const plot = document.querySelector('svg.plot');
        plot.scrollIntoView({ block: 'center' });
        // Scrolling takes the words away, a frame later.
        for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
        const curve = plot.querySelector('[data-label=validation]');
        const point = JSON.parse(curve.dataset.points)[0];
        const box = plot.getBoundingClientRect();
        const scale = box.width / plot.viewBox.baseVal.width;
        return [box.left + point[0] * scale, box.top + point[1] * scale, point[3]];
    })()";

    /// First cells of a table before and after clicks on one of its headings.
    const SORT: &str = "(() => {
        const table = document.querySelector('#classes table');
        const column = 4;
        const values = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[column].textContent));
        const button = table.tHead.rows[0].cells[column].querySelector('button');
        button.click();
        const up = values();
        button.click();
        return [up, values(), table.tHead.rows[0].cells[column].getAttribute('aria-sort')];
    })()";

    #[test]
    fn a_browser_shows_it_whole_without_asking_for_more() {
        let Some(browser) = Browser::start() else { return };
        let (place, _) = Place::trained();
        let page = place.path("runs/small/001/report.html");
        for (width, scheme) in [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")] {
            browser.open(&page, width, scheme);
            // Nothing sticks out of the screen, and every image was decoded.
            let wide = browser.value("document.documentElement.scrollWidth");
            assert!(wide.as_u64().is_some_and(|wide| wide <= u64::from(width)), "{wide}");
            let images = "[...document.images].every((i) => i.naturalWidth > 0 && i.alt !== '')";
            assert_eq!(browser.value(images), true);
            let dark = "getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 128";
            assert_eq!(browser.value(dark), scheme == "dark");
        }
        assert_eq!(browser.requests(), Vec::<String>::new());
        assert_eq!(browser.complaints(), Vec::<String>::new());
    }

    #[test]
    fn curves_are_drawn_and_say_their_values() {
        let Some(browser) = Browser::start() else { return };
        let (place, _) = Place::trained();
        browser.open(&place.path("runs/small/001/report.html"), 1280, "light");
        let drawn = "[...document.querySelectorAll('svg.plot')].map((plot) =>
            [...plot.querySelectorAll('polyline')].filter((line) => line.getTotalLength() > 20).length)";
        assert_eq!(browser.value(drawn), serde_json::json!([3, 2, 1]));
        let bars = "[...document.querySelectorAll('.bar')].some((bar) => bar.getBBox().height > 0)";
        assert_eq!(browser.value(bars), true);

        let at = browser.value(PLACE);
        assert_eq!(browser.value("document.getElementById('tip').hidden"), true);
        browser.point_at(at[0].as_f64().expect("x"), at[1].as_f64().expect("y"));
        let said = browser.value("document.getElementById('tip').textContent");
        let expected = format!("validation, epoch 1: {}", at[2].as_str().expect("a value"));
        assert_eq!(said, expected.as_str());
        assert_eq!(browser.value("document.getElementById('tip').hidden"), false);
        assert_eq!(browser.complaints(), Vec::<String>::new());
    }

    #[test]
    fn tables_are_sorted_by_a_click() {
        let Some(browser) = Browser::start() else { return };
        let place = Place::new();
        // 13 validation images: 7 ants, 6 bees.
        place.small(&["--epochs", "1", "--set", "data.val_images=13"]).succeeds();
        browser.open(&place.path("runs/small/001/report.html"), 1280, "light");
        let sorted = browser.value(SORT);
        assert_eq!(sorted, serde_json::json!([[6, 7], [7, 6], "descending"]));
    }
}
