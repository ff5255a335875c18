//! Certificates of a public CA, by [RFC 8555](https://www.rfc-editor.org/rfc/rfc8555): what is wanted, one order after the other.
mod client;
mod order;
pub(crate) mod proofs;
mod renewal;
mod shelf;
mod wanted;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration as StdDuration,
};

use instant_acme::{Account, CertificateIdentifier, NewAccount};
use rustls::crypto::aws_lc_rs;
use time::{Duration, OffsetDateTime};
use tokio::sync::Notify;

use self::{
    client::Client,
    order::{Failed, Tries, Wanted},
    proofs::Proofs,
    renewal::{Record, Step},
    shelf::Shelf,
    wanted::{Set, everything_below, wanted},
};
use crate::{Config, Error, Names, Txt, authority::Authority, metrics::Metrics, pair::Pair};

/// The CA, if the config names none.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Most orders in an hour, whatever is wanted: a mistake must not use up what a CA allows.
const ORDERS_AN_HOUR: usize = 20;

/// How soon a folder that could not be used is tried again, and what its trouble is kept under.
const AGAIN: StdDuration = StdDuration::from_secs(10);
const FOLDER: &str = "";

/// What serves while certificates of a public CA do: those that there are, and the local CA for names that have none.
#[derive(Debug)]
pub(crate) struct Public {
    pub(crate) pairs: Vec<Pair>,
    pub(crate) local: Arc<Authority>,
}

impl Public {
    /// The certificate that covers `name` and lasts longest.
    pub(crate) fn pair(&self, name: &str) -> Option<&Pair> {
        self.pairs.iter().filter(|pair| pair.covers(name)).max_by_key(|pair| pair.validity().until)
    }
}

/// Orders certificates and keeps them.
pub(crate) struct Acme {
    pub(crate) proofs: Proofs,
    names: Arc<dyn Names>,
    txt: Arc<dyn Txt>,
    /// The account in use, and the directory that it is at.
    account: Mutex<Option<(String, Account, Client)>>,
    /// Whether what an order that was broken off had said is taken away.
    is_clean: AtomicBool,
    /// What someone should look at, by the names that it is about.
    troubles: Mutex<BTreeMap<String, String>>,
    /// Something else is to be looked at.
    pub(crate) changed: Notify,
}

impl Acme {
    pub(crate) fn new(names: Arc<dyn Names>, txt: Arc<dyn Txt>) -> Self {
        Self {
            proofs: Proofs::default(),
            names,
            txt,
            account: Mutex::default(),
            is_clean: AtomicBool::new(false),
            troubles: Mutex::new([(FOLDER.to_owned(), "certificates are looked for".to_owned())].into()),
            changed: Notify::new(),
        }
    }

    /// What someone should look at.
    pub(crate) fn troubles(&self) -> Vec<String> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Does all that is due; `serve` is called with all certificates, before and after each order. Returns how long there is nothing
    /// to do, if nothing else changes.
    pub(crate) async fn round(&self, config: &Config, metrics: &Metrics, serve: impl Fn(Vec<Pair>)) -> StdDuration {
        let done = self.do_all(config, metrics, serve).await;
        self.trouble(FOLDER, done.as_ref().err().map(|error| format!("certificates cannot be kept: {error}")));
        done.map_or(AGAIN, |rest| rest.max(Duration::SECOND).unsigned_abs())
    }

    async fn do_all(&self, config: &Config, metrics: &Metrics, serve: impl Fn(Vec<Pair>)) -> Result<Duration, Error> {
        if !self.is_clean.swap(true, Ordering::Relaxed) && self.txt.has(&config.domain) {
            order::unsay(&*self.txt, &order::record(&config.domain)).await;
        }
        let shelf = Shelf::new(&config.data);
        let (all, hosts) = (everything_below(&config.domain), self.names.hosts());
        let possible: Vec<_> = [all.clone()].into_iter().chain(hosts.iter().map(|host| vec![host.clone()])).collect();
        let mut look = shelf.look(possible.clone()).await?;
        serve(look.pairs.clone());
        let failed = look.record(&all).failures > 0 && look.held(&all, OffsetDateTime::now_utc()).is_none();
        let failures = |names: &[String]| look.record(names).failures;
        let sets = wanted(config, &hosts, self.txt.has(&config.domain), failed, failures);
        self.forget_troubles_but_of(&sets);
        let (mut rest, mut earliest) = (Duration::DAY, None);
        for set in sets {
            let (now, lot) = (OffsetDateTime::now_utc(), lot());
            let held = look.held(&set.names, now).cloned();
            let (record, is_spare) = (look.record(&set.names), set.names == all && look.covers(&hosts, now));
            let mut work = Work { config, shelf: &shelf, set: &set, record, held, is_spare, lot };
            match work.record.step(work.held.as_ref().map(Pair::validity), now, lot) {
                Step::Rest(until) => rest = rest.min(until - now),
                Step::Ask => {
                    self.ask(&mut work).await?;
                    rest = Duration::ZERO;
                }
                Step::Order if look.orders_in_hour(now) >= ORDERS_AN_HOUR => {
                    let why = format!("{set} waits: {ORDERS_AN_HOUR} orders in an hour are enough");
                    self.trouble(&set.to_string(), Some(why));
                    rest = rest.min(Duration::MINUTE);
                    continue;
                }
                Step::Order => {
                    let Some(_taken) = shelf.take().await? else {
                        // Another KUBE with this folder orders: what it gets is found later.
                        rest = rest.min(Duration::MINUTE);
                        continue;
                    };
                    self.trouble(&set.to_string(), work.trouble(now));
                    let done = self.order(&mut work).await?;
                    metrics.ordered(done);
                    look = shelf.look(possible.clone()).await?;
                    serve(look.pairs.clone());
                    work.held = look.held(&set.names, now).cloned();
                    rest = Duration::ZERO;
                }
            }
            self.trouble(&set.to_string(), work.trouble(OffsetDateTime::now_utc()));
            let until = work.held.map(|held| held.validity().until);
            earliest = earliest.into_iter().chain(until).min();
        }
        if let Some(until) = earliest {
            metrics.expires(until);
        }
        Ok(rest)
    }

    /// Orders a certificate; says whether there is one.
    async fn order(&self, work: &mut Work<'_>) -> Result<bool, Error> {
        let Work { shelf, set, .. } = *work;
        work.record.begun(OffsetDateTime::now_utc());
        shelf.keep_record(&set.names, &work.record).await?;
        tracing::info!(names = %set, way = %set.way, "a certificate is ordered");
        let mut ordered = self.get(work).await;
        if let Err((Failed::Acme(error), _)) = &ordered
            && order::is_account_unknown(error)
        {
            tracing::warn!("the CA does not know its account any more: {error}");
            self.forget_account();
            shelf.forget_account(&authority(directory(work.config))).await?;
            ordered = self.get(work).await;
        }
        let kept = match ordered {
            Ok(pem) => shelf.keep(&set.names, pem).await.map_err(|error| (error.into(), None)),
            Err(failed) => Err(failed),
        };
        match kept {
            Ok(()) => {
                tracing::info!(names = %set, "a new certificate serves");
                work.record.succeeded(OffsetDateTime::now_utc());
                shelf.keep_record(&set.names, &work.record).await?;
                Ok(true)
            }
            Err((error, rest)) => self.failed(work, error, rest).await.map(|()| false),
        }
    }

    /// Gets a certificate, with its key, in PEM; or an error, and how long the CA wants to be left alone, if it says so.
    async fn get(&self, work: &Work<'_>) -> Result<String, (Failed, Option<StdDuration>)> {
        let (account, client) = self.account(work.config, work.shelf).await.map_err(|error| (error, None))?;
        // Not after a failure: this may have been why.
        let replaced = work.held.as_ref().filter(|_| work.record.is_advised() && work.record.failures == 0);
        let replaces = replaced.and_then(|held| CertificateIdentifier::try_from(held.certificate()).ok());
        let (set, profile) = (work.set, work.config.profile.as_deref());
        let wanted = Wanted { names: &set.names, way: set.way, replaces, profile };
        let ordered = order::order(&account, &wanted, &self.proofs, &*self.txt).await;
        ordered.map_err(|error| (error, client.rest()))
    }

    /// Takes note of a failed order. `rest` is how long the CA wants to be left alone, if it said so.
    async fn failed(&self, work: &mut Work<'_>, error: Failed, rest: Option<StdDuration>) -> Result<(), Error> {
        tracing::warn!(names = %work.set, way = %work.set.way, "no certificate: {error}");
        let rest = rest.and_then(|rest| rest.try_into().ok());
        work.record.failed(error.to_string(), rest, OffsetDateTime::now_utc(), work.lot);
        // The CA may be somewhere else by now.
        self.forget_account();
        work.shelf.keep_record(&work.set.names, &work.record).await
    }

    /// Asks the CA when a certificate is to be renewed.
    async fn ask(&self, work: &mut Work<'_>) -> Result<(), Error> {
        let asked = async {
            let id = CertificateIdentifier::try_from(work.held.as_ref()?.certificate()).ok()?;
            let (account, _) = self.account(work.config, work.shelf).await.ok()?;
            account.renewal_info(&id).await.ok()
        };
        let (asked, now) = (asked.await, OffsetDateTime::now_utc());
        match asked {
            Some((info, after)) => {
                let window = (info.suggested_window.start, info.suggested_window.end);
                work.record.advised(window, after.try_into().unwrap_or(Duration::DAY), now, work.lot);
            }
            None => work.record.unadvised(now),
        }
        work.shelf.keep_record(&work.set.names, &work.record).await
    }

    /// The account at the CA, which is made if there is none.
    async fn account(&self, config: &Config, shelf: &Shelf) -> Result<(Account, Client), Failed> {
        let directory = directory(config);
        if let Some((at, account, client)) = &*self.known_account()
            && at == directory
        {
            return Ok((account.clone(), client.clone()));
        }
        let client = Client::new(config.directory_ca.clone()).await?;
        let builder = || Account::builder_with_http(Box::new(client.clone()));
        let authority = authority(directory);
        let mut tries = Tries::default();
        let account = match shelf.account(&authority).await? {
            Some(credentials) => loop {
                let credentials = serde_json::from_value(credentials.clone()).map_err(instant_acme::Error::from)?;
                match builder().from_credentials(credentials).await {
                    Err(error) if tries.again(&error).await => {}
                    opened => break opened?,
                }
            },
            None => {
                let contact: Vec<String> = config.email.iter().map(|email| format!("mailto:{email}")).collect();
                let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
                let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
                let (account, credentials) = loop {
                    match builder().create(&new, directory.to_owned(), None).await {
                        Err(error) if tries.again(&error).await => {}
                        made => break made?,
                    }
                };
                shelf.keep_account(&authority, &credentials).await?;
                tracing::info!(%directory, account = account.id(), "an account at a CA was made");
                account
            }
        };
        *self.known_account() = Some((directory.to_owned(), account.clone(), client.clone()));
        Ok((account, client))
    }

    fn known_account(&self) -> MutexGuard<'_, Option<(String, Account, Client)>> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_account(&self) {
        *self.known_account() = None;
    }

    /// Takes note of what someone should know, if anything.
    fn trouble(&self, about: &str, trouble: Option<String>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match trouble.clone() {
            Some(trouble) => troubles.insert(about.to_owned(), trouble),
            None => troubles.remove(about),
        };
        drop(troubles);
        if before != trouble {
            self.changed.notify_one();
        }
    }

    fn forget_troubles_but_of(&self, sets: &[Set]) {
        let names: Vec<String> = sets.iter().map(Set::to_string).chain([FOLDER.to_owned()]).collect();
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).retain(|about, _| names.contains(about));
    }
}

/// What is done about one certificate.
struct Work<'a> {
    config: &'a Config,
    shelf: &'a Shelf,
    set: &'a Set,
    record: Record,
    /// The certificate that there is.
    held: Option<Pair>,
    /// Whether all hosts have one without it.
    is_spare: bool,
    lot: f64,
}

impl Work<'_> {
    /// What someone should know.
    fn trouble(&self, now: OffsetDateTime) -> Option<String> {
        let (set, authority) = (self.set, authority(directory(self.config)));
        let again = |at| format!("; it is tried again in {}", minutes(at - now));
        let again = self.record.tried_at().map(again).unwrap_or_default();
        match (&self.held, &self.record.error) {
            (None, _) if self.is_spare => None,
            (None, None) => Some(format!("there is no certificate of {authority} for {set} yet: the local CA serves")),
            (None, Some(error)) => Some(format!(
                "there is no certificate of {authority} for {set}, and the local CA serves, which visitors do not trust: \
                 {error}{again}"
            )),
            (Some(held), Some(error)) => {
                let days = held.validity().days_left(now);
                Some(format!("the certificate for {set} has {days} days left and is not renewed: {error}{again}"))
            }
            (Some(_), None) => None,
        }
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acme").field("troubles", &self.troubles).finish_non_exhaustive()
    }
}

/// The certificates that there are, before anything is ordered. Reads files.
///
/// # Errors
/// The folder cannot be made or read.
pub(crate) fn pairs(config: &Config) -> Result<Vec<Pair>, Error> {
    shelf::open(&config.data)
}

fn directory(config: &Config) -> &str {
    config.directory.as_ref().map_or(LETS_ENCRYPT, |directory| directory.as_str())
}

/// Host and port of a directory: what people call a CA.
fn authority(directory: &str) -> String {
    let uri: Option<http::Uri> = directory.parse().ok();
    uri.and_then(|uri| uri.authority().map(ToString::to_string)).unwrap_or_default()
}

fn minutes(time: Duration) -> String {
    match time.whole_minutes() {
        ..=1 => "a minute".to_owned(),
        minutes @ 2..120 => format!("{minutes} minutes"),
        minutes => format!("{} hours", minutes / 60),
    }
}

/// A random number of 0 to 1.
fn lot() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness all renew in the middle.
    match aws_lc_rs::default_provider().secure_random.fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}
