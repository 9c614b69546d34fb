//! The confusion matrix: the whole matrix if a terminal can show it, otherwise a summary.

use std::fmt::Write;

use candle_vision::train::metrics::{ClassScores, class_scores, confused_pairs};
use comfy_table::{CellAlignment, Table};

use crate::table::table;

/// Largest number of classes for the whole matrix. A larger one is wider than a terminal.
pub(crate) const MOST_CLASSES: usize = 20;
const MOST_PAIRS: usize = 10;
const MOST_SCORES: usize = 5;

/// The whole matrix as a table, with one row per true class.
pub(crate) fn matrix(confusion: &[Vec<usize>], classes: &[String]) -> Table {
    let mut table = table();
    let taken_for = classes.iter().map(|class| format!("taken for {class}"));
    table.set_header(std::iter::once("class".to_owned()).chain(taken_for));
    for (class, row) in classes.iter().zip(confusion) {
        let counts = row.iter().map(usize::to_string);
        table.add_row(std::iter::once(class.clone()).chain(counts));
    }
    table
}

/// A summary: the pairs that are confused most often, and the classes that are recognised worst and best.
pub(crate) fn summary(confusion: &[Vec<usize>], classes: &[String]) -> String {
    let name = |class: usize| classes.get(class).cloned().unwrap_or_default();
    let mut pairs = table();
    pairs.set_header(["most confused", "taken for", "images", "of its class"]);
    for pair in confused_pairs(confusion, MOST_PAIRS) {
        let (count, share) = (pair.count.to_string(), percent(Some(pair.share)));
        pairs.add_row([name(pair.label), name(pair.predicted), count, share]);
    }
    align(&mut pairs, &[2, 3]);

    let scores = class_scores(confusion);
    let recall = |class: &usize| scores[*class].recall.unwrap_or(0.0);
    let mut measured: Vec<usize> =
        (0..scores.len()).filter(|&class| scores[class].support > 0).collect();
    measured.sort_by(|a, b| recall(a).total_cmp(&recall(b)));
    let unseen = scores.len() - measured.len();
    let worst = measured.len().min(MOST_SCORES);
    let best = MOST_SCORES.min(measured.len() - worst);
    let mut text =
        format!("{pairs}\n{}", score_table("worst recognised", &measured[..worst], &scores, name));
    if best > 0 {
        measured.reverse();
        let _ =
            write!(text, "\n{}", score_table("best recognised", &measured[..best], &scores, name));
    }
    if unseen > 0 {
        let _ = write!(text, "\n{unseen} of {} classes have no image here", scores.len());
    }
    text
}

fn score_table(
    title: &str,
    which: &[usize],
    scores: &[ClassScores],
    name: impl Fn(usize) -> String,
) -> Table {
    let mut table = table();
    table.set_header([title, "recall", "precision", "images"]);
    for &class in which {
        let score = &scores[class];
        let (recall, precision) = (percent(score.recall), percent(score.precision));
        table.add_row([name(class), recall, precision, score.support.to_string()]);
    }
    align(&mut table, &[1, 2, 3]);
    table
}

/// The scores of classes of which an image may have several: all, or the worst recognised ones of many.
pub(crate) fn label_table(scores: &[ClassScores], classes: &[String]) -> Table {
    let mut shown: Vec<usize> = (0..scores.len()).collect();
    let is_large = shown.len() > MOST_CLASSES;
    if is_large {
        shown.retain(|&class| scores[class].f1.is_some());
        shown.sort_by(|&a, &b| scores[a].f1.unwrap_or(0.0).total_cmp(&scores[b].f1.unwrap_or(0.0)));
        shown.truncate(MOST_CLASSES);
    }
    let mut table = table();
    let title = if is_large { "worst recognised" } else { "class" };
    table.set_header([title, "precision", "recall", "F1", "images"]);
    for class in shown {
        let score = &scores[class];
        let shares = [score.precision, score.recall, score.f1].map(percent);
        let name = classes.get(class).cloned().unwrap_or_default();
        table.add_row(std::iter::once(name).chain(shares).chain([score.support.to_string()]));
    }
    align(&mut table, &[1, 2, 3, 4]);
    table
}

/// The scores of all classes as CSV. What cannot be said is empty.
pub(crate) fn label_csv(scores: &[ClassScores], classes: &[String]) -> String {
    let mut text = "class,precision,recall,f1,images\n".to_owned();
    let share = |share: Option<f64>| share.map_or_else(String::new, |share| format!("{share:.4}"));
    for (score, class) in scores.iter().zip(classes) {
        let [precision, recall, f1] = [score.precision, score.recall, score.f1].map(share);
        let _ = writeln!(text, "{},{precision},{recall},{f1},{}", quoted(class), score.support);
    }
    text
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}

fn align(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// The whole matrix as CSV, with one row per true class and one column per predicted class.
pub(crate) fn csv(confusion: &[Vec<usize>], classes: &[String]) -> String {
    let mut text = "true".to_owned();
    for class in classes {
        text.push(',');
        text += &quoted(class);
    }
    text.push('\n');
    for (class, row) in classes.iter().zip(confusion) {
        text += &quoted(class);
        for count in row {
            let _ = write!(text, ",{count}");
        }
        text.push('\n');
    }
    text
}

/// Quotes a field as RFC 4180 asks.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_classes_are_summed_up() {
        // Each class is right nine times and taken once for the next; class 7 is lost entirely, and
        // class 999 does not occur.
        let names: Vec<String> = (0..1000).map(|class| format!("class {class}")).collect();
        let mut confusion = vec![vec![0; 1000]; 1000];
        for class in 0..999 {
            confusion[class][class] = 9;
            confusion[class][class + 1] = 1;
        }
        confusion[7][7] = 0;
        confusion[7][3] = 9;
        let text = summary(&confusion, &names);
        assert!(text.len() < 8000, "{} bytes", text.len());
        let line = |start: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(start));
            line.unwrap_or_else(|| panic!("`{start}` in {text}")).to_owned()
        };
        let pair = line("class 7 ");
        assert!(pair.contains("class 3") && pair.contains("90.0 %"), "{pair}");
        let lost = text.lines().skip_while(|line| !line.contains("worst recognised")).nth(2);
        assert!(
            lost.is_some_and(|line| line.contains("class 7") && line.contains("0.0 %")),
            "{text}"
        );
        assert!(text.contains("1 of 1000 classes have no image here"), "{text}");

        let csv = csv(&confusion, &names);
        assert_eq!(csv.lines().count(), 1001);
        let row: Vec<&str> =
            csv.lines().nth(8).map(|row| row.split(',').collect()).unwrap_or_default();
        assert_eq!((row[0], row[4], row[9], row.len()), ("class 7", "9", "1", 1001));
    }

    #[test]
    fn names_are_quoted_where_csv_asks_for_it() {
        let names = ["a,b".to_owned(), "say \"x\"".to_owned()];
        let text = csv(&[vec![1, 2], vec![3, 4]], &names);
        assert_eq!(text, "true,\"a,b\",\"say \"\"x\"\"\"\n\"a,b\",1,2\n\"say \"\"x\"\"\",3,4\n");
    }
}
