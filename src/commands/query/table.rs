//! Columns of texts, for people and for spreadsheets.

use std::collections::BTreeSet;

use promontory_model::METRIC_NAME;

use super::answer::LabelSet;

/// Rows of as many texts as there are columns.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<String>,
    /// Columns that are labels, by their names; the others are the last ones.
    labels: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: Vec<String>) -> Self {
        Self { columns, labels: Vec::new(), rows: Vec::new() }
    }

    /// A column for each label of some of `sets`, then `more`; that of the name is called `metric` and comes first.
    pub(super) fn of_labels(sets: &[LabelSet], more: &[&str]) -> Self {
        let names: BTreeSet<&str> = sets.iter().flat_map(|set| set.keys().map(String::as_str)).collect();
        let (metric, others): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| *name == METRIC_NAME);
        let labels: Vec<String> = metric.into_iter().chain(others).map(str::to_owned).collect();
        let shown = |name: &String| if name == METRIC_NAME { "metric".to_owned() } else { name.clone() };
        let columns = labels.iter().map(shown).chain(more.iter().map(|name| (*name).to_owned())).collect();
        Self { columns, labels, rows: Vec::new() }
    }

    /// Adds a row of labels and what follows.
    pub(super) fn push(&mut self, labels: &LabelSet, more: &[String]) {
        let of = |name: &String| labels.get(name).cloned().unwrap_or_default();
        self.rows.push(self.labels.iter().map(of).chain(more.iter().cloned()).collect());
    }

    pub(super) fn push_row(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Columns side by side; the last one, when it holds numbers, ends at the right.
    pub(super) fn text(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let all = || std::iter::once(&self.columns).chain(&self.rows);
        let widths: Vec<usize> =
            (0..self.columns.len()).map(|i| all().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
        let is_value = self.columns.last().is_some_and(|name| name == "value");
        let mut out = String::new();
        for row in all() {
            let mut line = String::new();
            for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let pad = " ".repeat(width - cell.chars().count());
                let is_right = is_value && i + 1 == row.len();
                line.push_str(&if is_right { pad + cell } else { cell.clone() + &pad });
                line.push_str("  ");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// Values with commas between them (RFC 4180, with line feeds alone).
    pub(super) fn csv(&self) -> String {
        let mut out = String::new();
        for row in std::iter::once(&self.columns).chain(&self.rows) {
            let cells: Vec<String> = row.iter().map(|cell| quoted(cell)).collect();
            out.push_str(&cells.join(","));
            out.push('\n');
        }
        out
    }
}

fn quoted(cell: &str) -> String {
    if cell.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}
