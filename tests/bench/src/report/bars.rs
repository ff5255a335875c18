//! Figures of KUBE alone, each with what it may be at most.
use std::fmt::Write as _;

use super::{Spread, figure};
use crate::workloads::processes::Measured;

/// Rows in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Bars(Vec<(Measured, Vec<f64>)>);

impl Bars {
    pub(crate) fn add(&mut self, measured: Measured) {
        let value = measured.value;
        match self.0.iter_mut().find(|(known, _)| known.what == measured.what) {
            Some((_, values)) => values.push(value),
            None => self.0.push((measured, vec![value])),
        }
    }

    /// A section with the table, if there are figures.
    pub(crate) fn section(&self, heading: &str, text: &str) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let mut section = format!("\n## {heading}\n\n{text}\n| measured | at most | KUBE |\n|---|---|---|\n");
        for (Measured { what, bar, .. }, values) in &self.0 {
            let bar = bar.map_or("-".to_owned(), |bar| bar.to_string());
            writeln!(section, "| {what} | {bar} | {} |", spread(values)).ok();
        }
        section
    }
}

/// One value, or the median with the least and the most.
fn spread(values: &[f64]) -> String {
    let spread = Spread::of(values);
    if spread.least < spread.most { spread.to_string() } else { figure(spread.median) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_it_may_be_and_what_it_was() {
        let mut bars = Bars::default();
        assert_eq!(bars.section("Processes", "Text.\n"), "");
        for value in [3.0, 1.0, 2.0] {
            bars.add(Measured::new("memory, MiB", value).at_most(60.0));
            bars.add(Measured::new("lines", 0.0));
        }
        let section = bars.section("Processes", "Text.\n");
        let rows = "| memory, MiB | 60 | 2.00 (1.00 to 3.00) |\n| lines | - | 0 |\n";
        assert!(section.starts_with("\n## Processes\n\nText.\n\n| measured |") && section.ends_with(rows), "{section}");
    }
}
