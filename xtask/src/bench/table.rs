//! A text table. The first column is aligned to the left, the others to the right.

use std::fmt;

#[derive(Debug)]
pub(super) struct Table {
    /// The rows, with the header first. All have the same length.
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Self {
        let head = head.iter().map(|&title| title.to_owned()).collect();
        Self { rows: std::iter::once(head).chain(rows).collect() }
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max();
        (0..self.rows[0].len()).map(|column| width(column).unwrap_or(0)).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for row in &self.rows {
            write!(f, "{:<width$}", row[0], width = widths[0])?;
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                write!(f, "  {cell:>width$}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["a", "12345", "x"]), row(["long name", "1", "-"])];
        let table = Table::new(&["job", "ms", "mode"], rows.into_iter()).to_string();
        assert_eq!(
            table,
            "job           ms  mode\n\
             a          12345     x\n\
             long name      1     -\n"
        );
    }
}
