//! What every figure depends on: that the answers were right.
pub(crate) mod documents;
pub(crate) mod files;
pub(crate) mod names;

/// Says that the answers of a server were right: no sample is made without.
#[derive(Debug)]
pub(crate) struct Checked(());
