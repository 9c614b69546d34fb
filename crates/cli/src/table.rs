//! The style of tables.

use comfy_table::{LineStyle, Table, presets};

/// An empty table with a border and a line below its header, without lines between its rows.
pub(crate) fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    table
}
