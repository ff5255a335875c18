//! The answer to a handshake.
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use prometheus::Registry;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use time::OffsetDateTime;

use crate::{
    NOTICE_DAYS, Names,
    authority::Authority,
    metrics::{Metrics, Refusal},
    pair::Pair,
    validity::Validity,
};

/// Where certificates come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// Made here, when asked for.
    Local(Box<Authority>),
    /// Made elsewhere.
    Files(Pair),
}

impl Source {
    /// What someone should look at.
    pub(crate) fn trouble(&self, domain: &str, now: OffsetDateTime) -> Option<String> {
        match self {
            Self::Local(authority) => authority.validity().trouble("the local CA", now, NOTICE_DAYS),
            Self::Files(pair) => pair.trouble(domain, now),
        }
    }

    fn validity(&self) -> Validity {
        match self {
            Self::Local(authority) => authority.validity(),
            Self::Files(pair) => pair.validity(),
        }
    }
}

/// Chooses the certificate of each handshake.
pub(crate) struct Resolver {
    source: ArcSwap<Source>,
    names: Arc<dyn Names>,
    metrics: Metrics,
    /// A name that is served and that `source` cannot vouch for, if one was asked for.
    uncovered: Mutex<Option<String>>,
}

impl Resolver {
    pub(crate) fn new(source: Source, names: Arc<dyn Names>, registry: &Registry) -> Self {
        let metrics = Metrics::register(registry);
        metrics.expires(source.validity().until);
        Self { source: ArcSwap::from_pointee(source), names, metrics, uncovered: Mutex::new(None) }
    }

    /// The certificate for `name` at `now`.
    pub(crate) fn certificate(&self, name: Option<&str>, now: OffsetDateTime) -> Result<Arc<CertifiedKey>, Refusal> {
        let name = name.ok_or(Refusal::NoName)?.to_ascii_lowercase();
        if !self.names.serves(&name) {
            return Err(Refusal::NotServed);
        }
        match &**self.source.load() {
            Source::Files(pair) if pair.covers(&name) => Ok(pair.key()),
            Source::Local(authority) if authority.covers(&name) => {
                authority.leaf(&name, now, &self.metrics).map_err(|error| {
                    tracing::error!(%name, %error, "no certificate");
                    Refusal::Failed
                })
            }
            Source::Files(_) | Source::Local(_) => {
                *self.uncovered.lock().unwrap_or_else(PoisonError::into_inner) = Some(name);
                Err(Refusal::NotCovered)
            }
        }
    }

    /// Serves from `source` from now on.
    pub(crate) fn swap(&self, source: Source) {
        self.metrics.cached.set(0);
        self.metrics.expires(source.validity().until);
        self.source.store(Arc::new(source));
        *self.uncovered.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A name that somebody asked for, that is served, and that has no certificate.
    pub(crate) fn uncovered(&self) -> Option<String> {
        let name = self.uncovered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        name.filter(|name| self.names.serves(name))
    }

    pub(crate) fn source(&self) -> Arc<Source> {
        self.source.load_full()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certificate(hello.server_name(), OffsetDateTime::now_utc())
            .inspect_err(|refusal| self.metrics.refused(*refusal))
            .ok()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("source", &self.source).finish_non_exhaustive()
    }
}
