//! What is counted.
use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::{Denied, Token, list::List};

pub(crate) struct Metrics {
    /// Tokens that are kept, expired ones included.
    kept: IntGauge,
    /// Tokens made.
    pub(crate) created: IntCounter,
    /// Tokens revoked.
    pub(crate) revoked: IntCounter,
    /// Tokens shown, by result.
    checks: IntCounterVec,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let checks = Opts::new("kube_tokens_checks_total", "Tokens that somebody showed, by what came of it.");
        let metrics = Self {
            kept: IntGauge::new("kube_tokens_kept", "Tokens that are kept, expired ones included.")?,
            created: IntCounter::new("kube_tokens_created_total", "Tokens made.")?,
            revoked: IntCounter::new("kube_tokens_revoked_total", "Tokens revoked.")?,
            checks: IntCounterVec::new(checks, &["result"])?,
        };
        for result in ["valid", "unknown", "expired"] {
            metrics.checks.with_label_values(&[result]);
        }
        registry.register(Box::new(metrics.kept.clone()))?;
        registry.register(Box::new(metrics.created.clone()))?;
        registry.register(Box::new(metrics.revoked.clone()))?;
        registry.register(Box::new(metrics.checks.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn show(&self, list: &List) {
        self.kept.set(i64::try_from(list.tokens().len()).unwrap_or(i64::MAX));
    }

    pub(crate) fn checked(&self, checked: &Result<Arc<Token>, Denied>) {
        let result = match checked {
            Ok(_) => "valid",
            Err(Denied::Unknown) => "unknown",
            Err(Denied::Expired) => "expired",
        };
        self.checks.with_label_values(&[result]).inc();
    }
}
