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
    acme::{
        Public,
        proofs::{ACME_TLS, Proofs},
    },
    authority::Authority,
    metrics::{Metrics, Refusal},
    pair::Pair,
    validity::Validity,
};

/// Where certificates come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// Made here, when asked for.
    Local(Arc<Authority>),
    /// Made by a public CA, and here for what has none of it yet.
    Public(Public),
    /// Made elsewhere.
    Files(Pair),
}

impl Source {
    /// What someone should look at.
    pub(crate) fn trouble(&self, domain: &str, now: OffsetDateTime) -> Option<String> {
        match self {
            Self::Local(authority) => authority.validity().trouble("the local CA", now, NOTICE_DAYS),
            Self::Files(pair) => pair.trouble(domain, now),
            // Whoever orders them says what is wrong.
            Self::Public(_) => None,
        }
    }

    /// The local CA, if certificates may be made here.
    pub(crate) fn authority(&self) -> Option<&Arc<Authority>> {
        match self {
            Self::Local(authority) => Some(authority),
            Self::Public(public) => Some(&public.local),
            Self::Files(_) => None,
        }
    }

    fn validity(&self) -> Validity {
        match self {
            Self::Local(authority) => authority.validity(),
            Self::Files(pair) => pair.validity(),
            Self::Public(public) => public.local.validity(),
        }
    }
}

/// Chooses the certificate of each handshake.
pub(crate) struct Resolver {
    source: ArcSwap<Source>,
    names: Arc<dyn Names>,
    /// What a public CA asks for in a handshake of its own.
    proofs: Proofs,
    metrics: Metrics,
    /// A name that is served and that `source` cannot vouch for, if one was asked for.
    uncovered: Mutex<Option<String>>,
}

impl Resolver {
    pub(crate) fn new(source: Source, names: Arc<dyn Names>, proofs: Proofs, registry: &Registry) -> Self {
        let metrics = Metrics::register(registry);
        metrics.expires(source.validity().until);
        Self { source: ArcSwap::from_pointee(source), names, proofs, metrics, uncovered: Mutex::new(None) }
    }

    /// The certificate for `name` at `now`.
    pub(crate) fn certificate(&self, name: Option<&str>, now: OffsetDateTime) -> Result<Arc<CertifiedKey>, Refusal> {
        let Some(name) = name else { return self.address_certificate().ok_or(Refusal::NoName) };
        let name = name.to_ascii_lowercase();
        if !self.names.serves(&name) {
            return Err(Refusal::NotServed);
        }
        let source = self.source.load();
        let pair = match &**source {
            Source::Files(pair) => Some(pair).filter(|pair| pair.covers(&name)),
            Source::Public(public) => public.pair(&name),
            Source::Local(_) => None,
        };
        if let Some(pair) = pair {
            return Ok(pair.key());
        }
        match source.authority().filter(|authority| authority.covers(&name)) {
            Some(authority) => authority.leaf(&name, now, &self.metrics).map_err(|error| {
                tracing::error!(%name, %error, "no certificate");
                Refusal::Failed
            }),
            None => {
                // Of those that are ordered it is said anyway which ones there are not.
                if !matches!(**source, Source::Public(_)) {
                    *self.uncovered.lock().unwrap_or_else(PoisonError::into_inner) = Some(name);
                }
                Err(Refusal::NotCovered)
            }
        }
    }

    /// The certificate for those who come by address: they name nothing
    /// ([RFC 6066, section 3](https://www.rfc-editor.org/rfc/rfc6066#section-3)).
    fn address_certificate(&self) -> Option<Arc<CertifiedKey>> {
        match &**self.source.load() {
            Source::Public(public) => public.address_pair().map(Pair::key),
            Source::Local(_) | Source::Files(_) => None,
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
        if hello.alpn().is_some_and(|mut offered| offered.next() == Some(ACME_TLS) && offered.next().is_none()) {
            return self.proofs.handshake(&hello.server_name()?.to_ascii_lowercase());
        }
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
