//! Columns for people. Programs ask for `--json`.

use std::time::{Duration, SystemTime};

use indicatif::{BinaryBytes, HumanDuration};

/// Rows under a head, each column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with a head.
    pub(crate) fn new(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(str::to_owned)] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// The text, a line break behind each row.
    pub(crate) fn render(&self) -> String {
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..N).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// `3 minutes ago`.
pub(crate) fn age(then: SystemTime) -> String {
    let age = SystemTime::now().duration_since(then).unwrap_or_default();
    format!("{} ago", HumanDuration(Duration::from_secs(age.as_secs())))
}

/// `12.34 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    BinaryBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let mut table = Table::new(["A", "LONG"]);
        table.row(["ä-cell".into(), "x".into()]);
        table.row(["b".into(), String::new()]);
        assert_eq!(table.render(), "A       LONG\nä-cell  x\nb\n");
    }

    #[test]
    fn a_clock_that_went_back_makes_no_negative_age() {
        let future = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(age(future), "0 seconds ago");
    }
}
