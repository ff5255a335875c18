//! Certificates: which one a handshake gets, where it comes from, and how long it lasts.
//!
//! # What it does
//! [`Tls`] answers every TLS handshake through one resolver. Certificates come from a public CA, by ACME (RFC 8555), which it
//! orders and renews; from a certificate authority of this KUBE's own, made on first run; or from a pair of PEM files that
//! someone else renews.
//!
//! # What it promises
//! - *The name rule*: only names that [`Names`] serves get a certificate. Any other name ends the handshake with an alert, and is
//!   counted; so does none, unless there is a certificate for addresses.
//! - *The fence rule*: the local CA can vouch for the domain and what is below it, and for nothing else in the world, so
//!   that trusting it is a small step.
//! - *The old-pair rule*: a new pair of files that is not usable leaves the old one serving, and says why. So does a public CA
//!   that issues none: its last certificate serves on, and before there is one, the local CA does.
//! - A renewal begins with more than a quarter of a certificate's time left, and no mistake makes more orders than a CA allows.
//! - *The key-first rule*: the key of a certificate and the address of its order are on disk before the CA signs. Wherever an order
//!   is broken off, by a crash or a full disk, it is gone on with, or nothing was lost; and it ends after five minutes.
//! - Private keys are readable by their owner alone, and what is written is written whole or not at all.
//!
//! # How it works
//! ```text
//!   hosting --handshake(name)--> resolver --> Names: is it served? --no--> alert
//!                                   |
//!                                   v swapped whole
//!                         local CA: leaf from the cache, or signed now (7 days, anew after two thirds)
//!                         files:    the pair, if it covers the name
//!                         acme:     the certificate that covers it; a leaf of the local CA if there is none
//!                                   ^
//!   run, every 10 s: files changed? --+--> load, check, swap          CA expired? --> make it anew
//!
//!   acme:  wanted (hosts, challenge) -> names         (pure)     order:   names -> account, proofs, key and chain
//!          domains (names outside of the domain)                 -> names, and which of them lead elsewhere
//!          renewal (record, certificate, now) -> order, ask, rest (pure)
//!          proofs: a page, a handshake, a TXT record             shelf:   accounts/, certificates/ in the data folder
//! ```
//!
//! # What a person can set
//! The issuer, the public CAs, how names are proved to them, and the two files; see [`Config`].
//!
//! # What it deliberately does not do
//! It opens no port and knows no app. It installs its CA nowhere: [`local_ca`] says where it is.
mod acme;
mod authority;
mod cache;
mod certificate;
mod config;
mod error;
mod import;
mod metrics;
mod pair;
mod ports;
mod public;
mod resolver;
mod store;
mod validity;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube_contract::{Commit, Context, Module};
use prometheus::Registry;
use rustls::server::ResolvesServerCert;
use time::OffsetDateTime;
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep},
};

pub use acme::proofs::ACME_TLS;
pub use certificate::Certificate;
pub use config::{Challenge, Config, Directory, ExternalAccount, Issuer, PublicCa};
pub use error::Error;
pub use import::{Import, Outcome, import};
pub use ports::{Lead, Names, Txt};

use acme::{Acme, Public};
use authority::Authority;
use pair::Pair;
use resolver::{Resolver, Source};
use store::Stamp;

/// How often the files are looked at. People who renew a certificate wait for it.
const POLL: Duration = Duration::from_secs(10);
/// Why there is nothing to renew.
const NOTHING_ORDERED: &str = "no certificate is ordered here: [tls] issuer is not \"acme\"";
/// How many days before something expires the module's health says so.
const NOTICE_DAYS: i64 = 14;

/// The keeper of certificates.
#[derive(Debug)]
pub struct Tls {
    resolver: Arc<Resolver>,
    acme: Acme,
    live: Mutex<Live>,
    /// Something is to be looked at: by those who follow files, and by who orders certificates.
    committed: Notify,
    reconfigured: Notify,
}

/// What serves now, and how the last attempt to change it went.
#[derive(Debug)]
struct Live {
    config: Config,
    /// The files as they were when they were last looked at.
    seen: Option<[Stamp; 2]>,
    /// Why the files as they are now do not serve.
    refused: Option<String>,
}

/// Where the local CA's certificate is, in PEM, for people and programs that want to trust it.
///
/// It exists once a KUBE with this config has run.
pub fn local_ca(config: &Config) -> PathBuf {
    authority::certificate_path(&config.data, &config.domain)
}

impl Tls {
    /// Opens the local CA, or makes it, or loads the files.
    ///
    /// # Errors
    /// Whatever stands in the way of a usable certificate, by file and reason.
    pub fn bind(config: &Config, names: Arc<dyn Names>, txt: Arc<dyn Txt>, registry: &Registry) -> Result<Self, Error> {
        let (source, seen) = open(config, OffsetDateTime::now_utc())?;
        let acme = Acme::new(&config.data, Arc::clone(&names), txt);
        let resolver = Arc::new(Resolver::new(source, names, acme.proofs.clone(), registry));
        let live = Live { config: config.clone(), seen, refused: None };
        let (committed, reconfigured) = (Notify::new(), Notify::new());
        Ok(Self { resolver, acme, live: Mutex::new(live), committed, reconfigured })
    }

    /// What a public CA fetches to prove a name: it is to be at `/.well-known/acme-challenge` of every host, over plain HTTP.
    pub fn router(&self) -> axum::Router {
        self.acme.proofs.router()
    }

    /// What a TLS listener asks for certificates. It stays the same object when certificates change.
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::clone(&self.resolver) as Arc<dyn ResolvesServerCert>
    }

    /// Whether the certificate for `name`, a host name in lower case, is one that everyone trusts: of an authority that this machine's
    /// own list has, whoever ordered it. Never while the local CA vouches for that name.
    pub fn is_public(&self, name: &str) -> bool {
        match &*self.resolver.source() {
            Source::Public(public) => public.pair(name).is_some_and(Pair::is_public),
            Source::Files(pair) => pair.covers(name) && pair.is_public(),
            Source::Local(_) => false,
        }
    }

    /// Every certificate that serves, or is to. The local CA makes its own for each name: it stands for all of them.
    pub fn certificates(&self) -> Vec<Certificate> {
        let (source, config) = (self.resolver.source(), self.live().config.clone());
        let (names, issuer, validity) = match &*source {
            Source::Public(_) => return self.acme.certificates(),
            Source::Local(authority) => {
                (acme::everything_below(&config.domain), "the local CA".to_owned(), authority.validity())
            }
            Source::Files(pair) => {
                let file = config.files().map(|(certificate, _)| certificate.display().to_string());
                (pair.names().to_vec(), file.unwrap_or_default(), pair.validity())
            }
        };
        let (from, until) = (Some(validity.from), Some(validity.until));
        vec![Certificate { names, issuer, proof: None, from, until, renewal: None, error: None }]
    }

    /// Orders the certificate with this name anew, and waits for it; a minute or two, if the CA is slow.
    ///
    /// # Errors
    /// There is none, in words.
    pub async fn renew(&self, name: &str) -> Result<Certificate, String> {
        if self.live().config.issuer != Issuer::Acme {
            return Err(NOTHING_ORDERED.to_owned());
        }
        let answered = self.acme.renew(name);
        self.reconfigured.notify_one();
        answered.await.unwrap_or_else(|_| Err("it was not ordered: `kube status` says why".to_owned()))
    }

    /// Gives the accounts at public CAs new keys; returns the hosts of the CAs. It takes a minute or two, if a CA is slow.
    ///
    /// # Errors
    /// Not all have one, in words.
    pub async fn change_keys(&self) -> Result<Vec<String>, String> {
        let config = self.live().config.clone();
        if config.issuer != Issuer::Acme {
            return Err(NOTHING_ORDERED.to_owned());
        }
        self.acme.change_keys(&config).await
    }

    /// What CAA records call the public CAs that make certificates, as far as is known.
    pub fn issuers(&self) -> Vec<String> {
        let config = self.live().config.clone();
        if config.issuer != Issuer::Acme {
            return Vec::new();
        }
        let known = config.authorities().into_iter().filter_map(|ca| Some(ca.directory.caa()?.to_owned()));
        self.acme.issuers().into_iter().chain(known).collect()
    }

    /// Loads the files if they changed; keeps what serves if they are not usable.
    async fn follow_files(&self, now: OffsetDateTime) {
        let (config, seen) = {
            let live = self.live();
            (live.config.clone(), live.seen)
        };
        let Some(seen) = seen else { return };
        let loaded = spawn_blocking(move || {
            let looked = stamps(&config);
            (looked != Some(seen)).then(|| (open(&config, now), looked, config))
        });
        let Ok(Some((opened, looked, config))) = loaded.await else { return };
        let mut live = self.live();
        if live.config != config {
            return; // A reload was faster, and knows better.
        }
        match opened {
            Ok((source, seen)) => {
                tracing::info!("the new certificate serves");
                self.resolver.swap(source);
                (live.seen, live.refused) = (seen, None);
            }
            Err(error) => {
                self.resolver.metrics().rejected_files.inc();
                (live.seen, live.refused) = (looked, Some(format!("the old certificate serves on: {error}")));
            }
        }
    }

    /// Makes the local CA anew when it is over, as `bind` would.
    async fn follow_authority(&self, now: OffsetDateTime) {
        let source = self.resolver.source();
        if !source.authority().is_some_and(|authority| authority.validity().is_over(now)) {
            return;
        }
        let config = self.live().config.clone();
        let opened = spawn_blocking(move || (open(&config, now), config));
        let Ok((opened, config)) = opened.await else { return };
        let mut live = self.live();
        if live.config != config {
            return;
        }
        match opened {
            Ok((source, _)) => {
                self.resolver.swap(source);
                live.refused = None;
            }
            Err(error) => live.refused = Some(error.to_string()),
        }
    }

    /// Follows the files, the local CA and the clock, and tells how things are.
    async fn follow(&self, cx: &Context) {
        let mut tick = interval(POLL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.committed.notified() => {}
                () = self.acme.changed.notified() => {}
            }
            let now = OffsetDateTime::now_utc();
            self.follow_files(now).await;
            self.follow_authority(now).await;
            match self.trouble(now) {
                None => cx.ready(),
                Some(why) => cx.degraded(why),
            }
        }
    }

    /// Orders certificates of a public CA, if it is to.
    async fn order(&self) {
        loop {
            let config = self.live().config.clone();
            let mut rest = POLL;
            if config.issuer == Issuer::Acme {
                rest = self.acme.round(&config, self.resolver.metrics(), |pairs| self.serve(pairs)).await.min(POLL);
            } else {
                self.acme.permit_all(&config).await;
            }
            tokio::select! {
                () = sleep(rest) => {}
                () = self.reconfigured.notified() => {}
            }
        }
    }

    /// Serves these certificates of a public CA, if such are served and they are others.
    fn serve(&self, pairs: Vec<Pair>) {
        let source = self.resolver.source();
        let Source::Public(public) = &*source else { return };
        let same = |(one, other): (&Pair, &Pair)| one.certificate() == other.certificate();
        if pairs.len() != public.pairs.len() || !pairs.iter().zip(&public.pairs).all(same) {
            self.resolver.swap(Source::Public(Public { pairs, local: Arc::clone(&public.local) }));
        }
    }

    /// What someone should look at.
    fn trouble(&self, now: OffsetDateTime) -> Option<String> {
        let live = self.live();
        let mut troubles = Vec::new();
        if live.config.issuer == Issuer::Acme {
            troubles.extend(self.acme.troubles());
        }
        troubles.extend(live.refused.clone());
        troubles.extend(self.resolver.source().trouble(&live.config.domain, now));
        troubles.extend(self.resolver.uncovered().map(|name| format!("no certificate covers {name}, which is served")));
        (!troubles.is_empty()).then(|| troubles.join("; "))
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens what `config` asks for, and remembers the state of the files, if it is files.
fn open(config: &Config, now: OffsetDateTime) -> Result<(Source, Option<[Stamp; 2]>), Error> {
    config.check()?;
    // Before loading: a change meanwhile is then seen at the next look.
    let seen = stamps(config);
    let source = match config.files() {
        Some((certificate, key)) => Source::Files(Pair::load(certificate, key)?),
        None => {
            let local = Arc::new(Authority::open(&config.data, &config.domain, now)?);
            match config.issuer {
                Issuer::Acme => Source::Public(Public { pairs: acme::pairs(config)?, local }),
                Issuer::Local | Issuer::Files => Source::Local(local),
            }
        }
    };
    Ok((source, seen))
}

fn stamps(config: &Config) -> Option<[Stamp; 2]> {
    config.files().map(|(certificate, key)| [Stamp::of(certificate), Stamp::of(key)])
}

impl Module for Tls {
    type Config = Config;
    type Error = Error;
    const NAME: &'static str = "tls";

    async fn run(&self, cx: Context) -> Result<(), Error> {
        tokio::select! {
            () = self.follow(&cx) => Ok(()),
            () = self.order() => Ok(()),
            () = cx.stopped() => Ok(()),
        }
    }

    fn prepare(&self, new: &Config) -> Result<Commit<'_>, Error> {
        let (source, seen) = open(new, OffsetDateTime::now_utc())?;
        let config = new.clone();
        Ok(Commit::new(move || {
            *self.live() = Live { config, seen, refused: None };
            self.resolver.swap(source);
            self.committed.notify_one();
            self.reconfigured.notify_one();
        }))
    }
}

#[cfg(test)]
mod tests;
