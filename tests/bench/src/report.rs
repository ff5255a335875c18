//! Medians and ranges, as a page of Markdown.
use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    load::{Protocol, Sample},
    server::Server,
};

/// What a figure is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Figure {
    pub(crate) file: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) server: &'static str,
}

/// Every sample of every figure.
#[derive(Debug, Default)]
pub(crate) struct Report(BTreeMap<Figure, Vec<Sample>>);

/// Median, least and most.
struct Spread(f64, f64, f64);

impl Report {
    pub(crate) fn add(&mut self, figure: Figure, sample: Sample) {
        self.0.entry(figure).or_default().push(sample);
    }

    /// The page; the first server is the one that the others are compared with.
    pub(crate) fn page(&self, facts: &str, servers: &[Server]) -> String {
        let mut page = format!("{HEAD}\n{facts}\n");
        let names: Vec<_> = servers.iter().map(|server| server.name).collect();
        let columns: String = names.iter().map(|name| format!(" {name} |")).collect();
        let ratios: String = names[1..].iter().map(|name| format!(" {name} / {} |", names[0])).collect();
        // Writing to a String cannot fail.
        writeln!(page, "| file | protocol |{columns}{ratios}").ok();
        writeln!(page, "|---|---|{}", "---|".repeat(2 * names.len() - 1)).ok();
        let mut rows: Vec<_> = self.0.keys().map(|figure| (figure.file, figure.protocol)).collect();
        rows.dedup();
        for (file, protocol) in rows {
            write!(page, "| {file} | {protocol} |").ok();
            let spreads: Vec<_> = names
                .iter()
                .map(|server| self.spread(Figure { file, protocol, server }, |sample| sample.cpu.as_secs_f64() * 1e6))
                .collect();
            for Spread(median, least, most) in &spreads {
                write!(page, " {median:.1} ({least:.1} to {most:.1}) |").ok();
            }
            for spread in &spreads[1..] {
                write!(page, " {:.2} |", spread.0 / spreads[0].0).ok();
            }
            page.push('\n');
        }
        page.push_str("\nMemory right after a load, in MiB (PSS; median, least and most of all loads):");
        for server in names {
            let samples = self.0.iter().filter(|(figure, _)| figure.server == server).flat_map(|(_, samples)| samples);
            let Spread(median, least, most) = spread(samples.map(|sample| sample.memory as f64 / f64::from(1 << 20)));
            write!(page, " {server} {median:.1} ({least:.1} to {most:.1});").ok();
        }
        page.pop();
        page.push_str(".\n");
        page
    }

    fn spread(&self, figure: Figure, value: impl Fn(&Sample) -> f64) -> Spread {
        spread(self.0.get(&figure).into_iter().flatten().map(value))
    }
}

fn spread(values: impl Iterator<Item = f64>) -> Spread {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    Spread(at(values.len() / 2), at(0), at(values.len().saturating_sub(1)))
}

const HEAD: &str = "\
# Benchmarks

Written by `make bench`. CPU time of the server for one request over TLS, in microseconds: the median of five interleaved
rounds, with the least and the most. Every file was fetched and compared before and after every load, and every byte
counted during it.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_the_least_and_the_most() {
        let Spread(median, least, most) = spread([3.0, 1.0, 9.0, 2.0, 4.0].into_iter());
        assert_eq!((median, least, most), (3.0, 1.0, 9.0));
    }
}
