//! How well two runs agree: on their ratios, which are what is said of the servers.
use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context as _, Result, ensure};

/// Compares the ratios of two reports, and says which agree least.
///
/// # Errors
/// The reports are not of the same figures.
pub(crate) fn compare(one: &str, other: &str) -> Result<String> {
    let (one, other) = (ratios(one), ratios(other));
    ensure!(!one.is_empty() && one.keys().eq(other.keys()), "the reports are not of the same figures");
    let mut lines: Vec<(f64, String)> = one
        .iter()
        .zip(other.values())
        .map(|((name, one), other)| {
            let apart = (one / other).max(other / one) - 1.0;
            (apart, format!("{:5.1} %  {one} and {other}: {name}", 100.0 * apart))
        })
        .collect();
    lines.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (most, _) = lines.first().context("a report has ratios")?;
    let mut said = format!("the ratios of the two runs are {:.1} % apart at most\n", 100.0 * most);
    for (_, line) in lines {
        writeln!(said, "{line}").ok();
    }
    Ok(said)
}

/// The ratios in the tables of a report, by heading, row and column.
fn ratios(page: &str) -> BTreeMap<String, f64> {
    let (mut section, mut heads, mut found) = ("", Vec::new(), BTreeMap::new());
    for line in page.lines() {
        section = line.strip_prefix("## ").unwrap_or(section);
        let Some(row) = line.strip_prefix("| ") else {
            if !line.starts_with("|---") {
                heads.clear();
            }
            continue;
        };
        let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
        if heads.is_empty() {
            heads = cells;
            continue;
        }
        // A ratio for each server but the first: the cells before the servers name the row.
        let compared = heads.iter().filter(|head| head.contains(" / ")).count();
        let name = &cells[..(cells.len() - 2 * compared).saturating_sub(1)];
        for (head, cell) in heads.iter().zip(&cells).filter(|(head, _)| head.contains(" / ")) {
            if let Ok(ratio) = cell.parse() {
                found.insert(format!("{section}: {}: {head}", name.join(", ")), ratio);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_that_two_runs_agree_on_least_comes_first() {
        let page = |first: &str, second: &str| {
            format!(
                "## Sync\n\n| work | unit | a | b | b / a |\n|---|---|---|---|---|\n| x | y | 1 | 2 | {first} |\n\
                 | z | y | 3 | 1 | {second} |\n"
            )
        };
        let said = compare(&page("2.00", "0.300"), &page("2.10", "0.360")).unwrap();
        assert!(
            said.starts_with(
                "the ratios of the two runs are 20.0 % apart at most\n 20.0 %  0.3 and 0.36: Sync: z, y: b / a\n"
            ),
            "{said}"
        );
    }
}
