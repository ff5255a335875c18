//! Programs that KUBE keeps: what they take from it, and what it takes. Each file is some rows of the report.
mod company;
mod crashes;
mod lines;
mod many;

use std::fmt;

use anyhow::Result;

use crate::checks::files::Files;

/// One figure, and what it may be.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// What is measured, and in what.
    pub(crate) what: String,
    /// What it may be at most.
    pub(crate) bar: Option<f64>,
    pub(crate) value: f64,
}

impl Measured {
    pub(crate) fn new(what: impl Into<String>, value: f64) -> Self {
        Self { what: what.into(), bar: None, value }
    }

    pub(crate) fn at_most(self, bar: f64) -> Self {
        Self { bar: Some(bar), ..self }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:.3}", self.what, self.value)
    }
}

/// Measures once.
pub(crate) type Measure = fn(&Files) -> Result<Vec<Measured>>;

/// All of them, with their names.
pub(crate) const ALL: [(&str, Measure); 4] = [
    ("processes: many", many::measure),
    ("processes: crashes", crashes::measure),
    ("processes: lines", lines::measure),
    ("processes: bad company", company::measure),
];
