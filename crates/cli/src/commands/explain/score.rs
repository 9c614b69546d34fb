//! Prints the table of `--score`.

use anyhow::Result;
use candle_core::Tensor;
use candle_vision::explain::faithfulness::{self, Score};
use candle_vision::explain::{CamOptions, ClassActivationMap, Method};
use candle_vision::models::Model;
use comfy_table::{CellAlignment, Table};

use crate::say;
use crate::table::table;

/// Number of random maps. The baseline is their mean.
const BASELINES: u64 = 5;

/// Prints the scores of the map beside those of random maps, and how much the map depends on the learned
/// weights.
pub(super) fn print(
    method: &Method,
    model: &dyn Model,
    untrained: &dyn Model,
    input: &Tensor,
    map: &ClassActivationMap,
    options: &CamOptions,
) -> Result<()> {
    let own = faithfulness::score(model, input, map, None)?;
    let mut random = Vec::new();
    for seed in 0..BASELINES {
        random.push(faithfulness::score(model, input, &faithfulness::random_map(map, seed), None)?);
    }
    let mean = |value: fn(&Score) -> f64| random.iter().map(value).sum::<f64>() / BASELINES as f64;
    let mut scores = table();
    scores.set_header(["map", "deletion (low is good)", "insertion (high)", "ROAD (high)"]);
    scores.add_row(row(method.name(), [own.deletion, own.insertion, own.road]));
    let random = [mean(|s| s.deletion), mean(|s| s.insertion), mean(|s| s.road)];
    scores.add_row(row("random maps", random));
    align(&mut scores, &[1, 2, 3]);
    say::result(scores)?;

    let mut sanity = table();
    sanity.set_header([
        "layers with initial weights",
        "down to",
        "rank correlation (near 0 is good)",
    ]);
    for stage in faithfulness::weight_randomisation(model, untrained, input, method, options)? {
        let correlation = shown(stage.correlation);
        sanity.add_row([stage.layers.to_string(), stage.down_to, correlation]);
    }
    align(&mut sanity, &[0, 2]);
    say::result(sanity)?;
    Ok(())
}

fn row(name: &str, values: [f64; 3]) -> [String; 4] {
    let [deletion, insertion, road] = values.map(shown);
    [name.to_owned(), deletion, insertion, road]
}

/// Three decimals. A 0 has no sign.
fn shown(value: f64) -> String {
    format!("{:.3}", (1000.0 * value).round() / 1000.0 + 0.0)
}

/// Aligns columns of numbers to the right.
fn align(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
