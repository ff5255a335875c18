//! What is wrong now, said once when it changes.
use std::collections::BTreeMap;

use crate::{
    metrics::{Metrics, PROBLEMS},
    name::Name,
    problem::{Problem, Skipped},
};

/// Names at most this many apps in the reason of the module's health.
const MOST_NAMED: usize = 3;

/// Everything that someone should look at.
#[derive(Debug, Default)]
pub(crate) struct Status {
    /// Why the apps folder cannot be read.
    pub(crate) folder: Option<String>,
    /// Why not everything is watched.
    pub(crate) blind: Option<String>,
    /// Why the index cannot be written.
    pub(crate) store: Option<String>,
    apps: BTreeMap<Name, Problem>,
    skipped: BTreeMap<Name, Skipped>,
    strangers: Vec<String>,
}

impl Status {
    /// The apps that cannot be read.
    pub(crate) fn apps(&self) -> impl Iterator<Item = &Name> {
        self.apps.keys()
    }

    /// An app cannot be read.
    pub(crate) fn fail(&mut self, name: &Name, problem: Problem) {
        if self.apps.get(name) != Some(&problem) {
            tracing::warn!(app = %name, %problem, "keeps its version");
            self.apps.insert(name.clone(), problem);
        }
    }

    /// An app was read.
    pub(crate) fn heal(&mut self, name: &Name) {
        if self.apps.remove(name).is_some() {
            tracing::info!(app = %name, "can be read again");
        }
    }

    /// Some of an app's entries are not served.
    pub(crate) fn skip(&mut self, name: &Name, skipped: Skipped) {
        let old = self.skipped.remove(name).unwrap_or_default();
        if skipped.is_empty() {
            return;
        }
        if old != skipped {
            tracing::warn!(app = %name, %skipped, "not served");
        }
        self.skipped.insert(name.clone(), skipped);
    }

    /// An app is gone, and all that was wrong with it.
    pub(crate) fn forget(&mut self, name: &Name) {
        self.apps.remove(name);
        self.skipped.remove(name);
    }

    /// Folders that have no app's name.
    pub(crate) fn set_strangers(&mut self, strangers: Vec<String>) {
        if self.strangers != strangers && !strangers.is_empty() {
            tracing::warn!(folders = strangers.join(", "), "ignored: not the name of an app");
        }
        self.strangers = strangers;
    }

    /// The reason for being degraded, if there is one.
    pub(crate) fn reason(&self) -> Option<String> {
        let store = self.store.as_ref().map(|why| format!("the index of contents cannot be written: {why}"));
        let whole = [self.folder.clone(), self.blind.clone(), store].into_iter().flatten();
        let apps = self.apps.iter().take(MOST_NAMED).map(|(name, problem)| format!("app {name}: {problem}"));
        let more = self.apps.len().saturating_sub(MOST_NAMED);
        let more = (more > 0).then(|| format!("and {more} more apps"));
        let reasons: Vec<String> = whole.chain(apps).chain(more).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Sets the problem gauges.
    pub(crate) fn count(&self, metrics: &Metrics) {
        let mut counts: BTreeMap<&str, usize> = PROBLEMS.iter().map(|kind| (*kind, 0)).collect();
        let mut add = |kind, count| *counts.entry(kind).or_default() += count;
        add("folder", usize::from(self.folder.is_some()));
        add("watch", usize::from(self.blind.is_some()));
        add("store", usize::from(self.store.is_some()));
        add("name", self.strangers.len());
        self.apps.values().for_each(|problem| add(problem.kind(), 1));
        self.skipped.values().flat_map(Skipped::counts).for_each(|(skip, count)| add(skip.kind(), count));
        for (kind, count) in counts {
            metrics.problems.with_label_values(&[kind]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
