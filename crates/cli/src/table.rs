//! How tables look.

use comfy_table::{LineStyle, Table, presets};

/// An empty table: lines around it and under its header, none between its rows.
pub(crate) fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    table
}
