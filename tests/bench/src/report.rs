//! Medians and ranges, as tables of Markdown.
mod agreement;
mod bars;

use std::fmt::{self, Write as _};

use crate::workloads::{Row, Sample};

pub(crate) use agreement::compare;
pub(crate) use bars::Bars;

/// The figures of one suite: CPU time, memory, and times on the clock.
#[derive(Debug)]
pub(crate) struct Figures {
    cpu: Table,
    memory: Table,
    times: Table,
    /// The most that the load generator was busy, as a share of its core.
    load: f64,
}

impl Figures {
    /// No figures yet; the first server is the one that the others are compared with.
    pub(crate) fn of(servers: &[&'static str]) -> Self {
        Self {
            cpu: Table::new(&["work", "CPU time for one"], servers, Ratio::Shown),
            memory: Table::new(&["memory after"], servers, Ratio::Shown),
            times: Table::new(&["time"], servers, Ratio::Hidden),
            load: 0.0,
        }
    }

    pub(crate) fn add(&mut self, row: &Row, server: usize, sample: Sample) {
        self.cpu.add(&[&row.work, &row.unit], server, sample.cpu.as_secs_f64() * 1e6);
        if let Some((after, bytes)) = sample.memory {
            self.memory.add(&[after], server, bytes as f64 / f64::from(1 << 20));
        }
        for (of, time) in &sample.times {
            self.times.add(&[of], server, time.as_secs_f64() * 1e3);
        }
        self.load = self.load.max(sample.load);
    }

    /// A section with the tables, if there are figures.
    pub(crate) fn section(&self, heading: &str, text: &str) -> String {
        if self.cpu.rows.is_empty() {
            return String::new();
        }
        let mut section = format!("\n## {heading}\n\n{text}\nCPU time in microseconds:\n\n{}", self.cpu);
        if !self.memory.rows.is_empty() {
            write!(section, "\nMemory in MiB (PSS):\n\n{}", self.memory).ok();
        }
        if !self.times.rows.is_empty() {
            write!(section, "\n{ORIENTATION}\n\n{}", self.times).ok();
        }
        if self.load > 0.0 {
            write!(section, "\nThe load generator was busy for {:.0} % of the time at most.\n", 100.0 * self.load).ok();
        }
        section
    }
}

const ORIENTATION: &str = "Milliseconds on the clock, for orientation: they depend on how many clients wait at once.";

/// Whether a table compares the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ratio {
    Shown,
    Hidden,
}

/// Rows in the order in which they came, with a column for each server.
#[derive(Debug)]
struct Table {
    heads: Vec<&'static str>,
    servers: Vec<&'static str>,
    ratio: Ratio,
    rows: Vec<(Vec<String>, Vec<Vec<f64>>)>,
}

impl Table {
    fn new(heads: &[&'static str], servers: &[&'static str], ratio: Ratio) -> Self {
        Self { heads: heads.to_vec(), servers: servers.to_vec(), ratio, rows: Vec::new() }
    }

    fn add(&mut self, cells: &[&str], server: usize, value: f64) {
        let index = self.rows.iter().position(|(known, _)| known == cells).unwrap_or(self.rows.len());
        if index == self.rows.len() {
            let cells = cells.iter().map(|cell| (*cell).to_owned()).collect();
            self.rows.push((cells, vec![Vec::new(); self.servers.len()]));
        }
        self.rows[index].1[server].push(value);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compared = if self.ratio == Ratio::Shown { &self.servers[1..] } else { &[] };
        let mut heads: Vec<String> = self.heads.iter().chain(&self.servers).map(|head| (*head).to_owned()).collect();
        heads.extend(compared.iter().map(|server| format!("{server} / {}", self.servers[0])));
        writeln!(f, "| {} |", heads.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(heads.len()))?;
        for (cells, values) in &self.rows {
            let mut cells = cells.clone();
            cells.extend(values.iter().map(|values| Spread::of(values).to_string()));
            cells.extend(values[1..=compared.len()].iter().map(|values_of_it| {
                // Of each round by itself: what moved both servers at a time moves their ratio little.
                let ratios: Vec<f64> = values_of_it.iter().zip(&values[0]).map(|(it, first)| it / first).collect();
                if ratios.is_empty() { "-".to_owned() } else { figure(Spread::of(&ratios).median) }
            }));
            writeln!(f, "| {} |", cells.join(" | "))?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { median: at(values.len() / 2), least: at(0), most: at(values.len().saturating_sub(1)) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.median.is_nan() {
            return f.write_str("-");
        }
        write!(f, "{} ({} to {})", figure(self.median), figure(self.least), figure(self.most))
    }
}

/// Three digits, which is more than any of this is good for.
fn figure(value: f64) -> String {
    let decimals = match value {
        0.0 => 0,
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_the_least_and_the_most() {
        let spread = Spread::of(&[3.0, 1.0, 9.0, 2.0, 4.0]);
        assert_eq!(spread, Spread { median: 3.0, least: 1.0, most: 9.0 });
        assert_eq!(spread.to_string(), "3.00 (1.00 to 9.00)");
    }

    #[test]
    fn a_ratio_is_the_median_of_the_ratios_of_the_rounds() {
        let mut table = Table::new(&["work"], &["old", "new"], Ratio::Shown);
        for (round, slower) in [1.0, 10.0, 2.0].into_iter().enumerate() {
            table.add(&["w"], 0, 4.0 * slower);
            table.add(&["w"], 1, slower + 0.001 * round as f64);
        }
        assert!(table.to_string().ends_with("| w | 8.00 (4.00 to 40.0) | 2.00 (1.00 to 10.0) | 0.250 |\n"), "{table}");
        // A server that does not get through has no figure.
        table.add(&["x"], 0, 1.0);
        assert!(table.to_string().ends_with("| x | 1.00 (1.00 to 1.00) | - | - |\n"), "{table}");
    }
}
