//! Certificates of a public CA, by [RFC 8555](https://www.rfc-editor.org/rfc/rfc8555): what is wanted, one order after the other.
mod accounts;
mod client;
mod domains;
mod order;
pub(crate) mod proofs;
mod renewal;
pub(crate) mod shelf;
mod wanted;

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    slice,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration as StdDuration, Instant},
};

use futures_util::future::join_all;
use instant_acme::CertificateIdentifier;
use rustls::crypto::aws_lc_rs;
use time::{Duration, OffsetDateTime};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout_at,
};

use self::{
    accounts::Accounts,
    domains::{Places, is_outside},
    order::{Failed, Here, Issued, Wanted},
    proofs::Proofs,
    renewal::{Record, Step},
    shelf::{Look, Shelf},
    wanted::{Set, wanted},
};
pub(crate) use self::{domains::is_within, wanted::everything_below};
use crate::{
    Certificate, Config, Error, Names, Txt,
    authority::Authority,
    config::{PublicCa, Way},
    metrics::Metrics,
    pair::Pair,
};

/// Most orders in an hour, whatever is wanted: a mistake must not use up what a CA allows.
const ORDERS_AN_HOUR: usize = 20;
/// Most new certificates in a week: Let's Encrypt issues 50 for one domain.
const NEW_A_WEEK: usize = 40;
/// The profile of certificates that last some days: [its documentation](https://letsencrypt.org/docs/profiles/).
const SHORT_LIVED: &str = "shortlived";
/// How many troubles are told in full.
const TOLD: usize = 3;
/// How soon a folder that could not be used is tried again, and what its trouble is kept under.
const AGAIN: StdDuration = StdDuration::from_secs(10);
const FOLDER: &str = "";
/// Its trouble before it was looked at.
const LOOKED_FOR: &str = "certificates are looked for";

/// What serves while certificates of a public CA do: those that there are, and the local CA for names that have none.
#[derive(Debug)]
pub(crate) struct Public {
    pub(crate) pairs: Vec<Pair>,
    pub(crate) local: Arc<Authority>,
}

impl Public {
    /// The certificate that covers `name` and lasts longest.
    pub(crate) fn pair(&self, name: &str) -> Option<&Pair> {
        self.longest(|pair| pair.covers(name))
    }

    /// The certificate for addresses, which handshakes do not name, that lasts longest.
    pub(crate) fn address_pair(&self) -> Option<&Pair> {
        self.longest(Pair::has_address)
    }

    fn longest(&self, is_wanted: impl Fn(&Pair) -> bool) -> Option<&Pair> {
        self.pairs.iter().filter(|pair| is_wanted(pair)).max_by_key(|pair| pair.validity().until)
    }
}

/// Orders certificates and keeps them.
pub(crate) struct Acme {
    pub(crate) proofs: Proofs,
    shelf: Shelf,
    names: Arc<dyn Names>,
    txt: Arc<dyn Txt>,
    accounts: Accounts,
    /// What is done one after the other: rounds, and the change of a key.
    turn: tokio::sync::Mutex<()>,
    /// What CAA records say: of these domains, by these words.
    permitted: Mutex<(String, Vec<String>)>,
    /// Whether what an order that was broken off had said is taken away.
    is_clean: AtomicBool,
    /// What someone should look at, by the names that it is about.
    troubles: Mutex<BTreeMap<String, String>>,
    /// All certificates that are wanted, as they were when they were last looked at.
    known: Mutex<Vec<Certificate>>,
    /// Where names outside of the domain lead.
    places: Places,
    /// Who wants one to be renewed now.
    asked: Mutex<Vec<Asked>>,
    /// Something else is to be looked at.
    pub(crate) changed: Notify,
}

impl Acme {
    pub(crate) fn new(data: &Path, names: Arc<dyn Names>, txt: Arc<dyn Txt>) -> Self {
        let shelf = Shelf::new(data);
        Self {
            proofs: Proofs::default(),
            accounts: Accounts::new(shelf.clone()),
            shelf,
            names,
            txt,
            turn: tokio::sync::Mutex::default(),
            permitted: Mutex::default(),
            is_clean: AtomicBool::new(false),
            troubles: Mutex::new([(FOLDER.to_owned(), LOOKED_FOR.to_owned())].into()),
            known: Mutex::default(),
            places: Places::default(),
            asked: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// All certificates that are wanted, as they were when they were last looked at.
    pub(crate) fn certificates(&self) -> Vec<Certificate> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the certificate with this name ordered in the next round, which is to come soon; the answer comes after it.
    pub(crate) fn renew(&self, name: &str) -> oneshot::Receiver<Result<Certificate, String>> {
        let (answer, answered) = oneshot::channel();
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(Asked { name: name.to_owned(), answer });
        answered
    }

    /// What someone should look at.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let more = troubles.len().saturating_sub(TOLD);
        let more = (more > 0).then(|| format!("and {more} more of certificates: `kube certs` lists them"));
        troubles.values().take(TOLD).cloned().chain(more).collect()
    }

    /// Does all that is due; `serve` is called with all certificates, before and after each order. Returns how long there is nothing
    /// to do, if nothing else changes.
    pub(crate) async fn round(&self, config: &Config, metrics: &Metrics, serve: impl Fn(Vec<Pair>)) -> StdDuration {
        let _turn = self.turn.lock().await;
        let done = self.do_all(config, metrics, serve).await;
        self.trouble(FOLDER, done.as_ref().err().map(|error| format!("certificates cannot be kept: {error}")));
        done.map_or(AGAIN, |rest| rest.max(Duration::SECOND).unsigned_abs())
    }

    async fn do_all(&self, config: &Config, metrics: &Metrics, serve: impl Fn(Vec<Pair>)) -> Result<Duration, Error> {
        let record = order::record(&config.domain);
        let says_records = self.txt.has(&record).await;
        if !self.is_clean.swap(true, Ordering::Relaxed) && says_records {
            order::unsay(&*self.txt, &record).await;
        }
        let all = everything_below(&config.domain);
        let (others, hosts): (Vec<_>, Vec<_>) =
            self.names.hosts().into_iter().partition(|host| is_outside(host, &config.domain));
        let look = self.shelf.look(directories(config)).await?;
        serve(look.pairs.clone());
        self.permit(config, &look.issuers).await;
        let now = OffsetDateTime::now_utc();
        // In time before it is over, the others are tried too.
        let is_missed = look.held(&all, now).is_none_or(|held| held.validity().is_late(now));
        let failed = look.record(&all).rounds() > 0 && is_missed;
        let failures = |names: &[String]| look.record(names).rounds();
        let mut sets = wanted(config, &hosts, says_records, failed, failures);
        let can_say = join_all(others.iter().map(async |name| self.txt.has(&order::record(name)).await)).await;
        let can_say: Vec<_> =
            others.iter().zip(can_say).filter(|(_, can)| *can).map(|(name, _)| name.as_str()).collect();
        sets.extend(domains::wanted(config, &others, |name| can_say.contains(&name), failures));
        let all_count = hosts.iter().all(|host| look.covers(host, now));
        let new = |set| Work::new(config, set, &look, set.names == all && all_count, now);
        let mut works: Vec<_> = sets.iter().map(new).collect();
        self.look_up(&mut works, now).await;
        self.tell(&works, now);
        let all_hosts = hosts.iter().chain(&others);
        if let Some(until) = all_hosts.filter_map(|host| look.lasts(slice::from_ref(host))).min() {
            metrics.expires(until);
        }

        // One order, or one question, and everything is looked at again.
        let (mut asked, steps) = (self.asked(&works), works.iter().map(|work| work.step(now)).collect::<Vec<_>>());
        let mut next = asked.first().and_then(|asked| works.iter().position(|work| work.has(&asked.name)));
        if let Some(why) = next.and_then(|index| works[index].waits.as_ref()) {
            asked.drain(..).for_each(|asked| asked.refuse(why));
            next = None;
        }
        let may_be = |work: &Work<'_>| work.waits.is_none() && work.astray.is_none();
        let due = (0..works.len()).filter(|index| steps[*index] == Step::Order && may_be(&works[*index]));
        // Those that failed least come first, or those that fail for ever would have every turn.
        let next = next.or_else(|| due.min_by_key(|index| works[*index].record.failures));
        if let Some(index) = next {
            let work = &mut works[index];
            let taken = self.shelf.take().await?;
            // Whoever had it may have ordered a moment ago.
            let seen = self.shelf.look(directories(config)).await?;
            if taken.is_none() || seen.record(&work.set.names) != work.record {
                asked.into_iter().for_each(|asked| asked.refuse("another KUBE with this folder orders now"));
                return Ok(Duration::seconds(10));
            }
            work.set.names.iter().for_each(|name| self.places.ordered(name, Instant::now()));
            metrics.ordered(self.order(work).await?);
            let look = self.shelf.look(directories(config)).await?;
            serve(look.pairs.clone());
            let now = OffsetDateTime::now_utc();
            let work = Work::new(config, work.set, &look, work.is_spare, now);
            asked.into_iter().for_each(|asked| asked.answer(work.certificate(now)));
            return Ok(Duration::ZERO);
        }
        if let Some(index) = steps.iter().position(|step| *step == Step::Ask) {
            self.ask(&mut works[index]).await?;
            return Ok(Duration::ZERO);
        }
        let rest = |step: &Step| if let Step::Rest(until) = step { *until - now } else { Duration::MINUTE };
        Ok(steps.iter().map(rest).min().unwrap_or(Duration::DAY))
    }

    /// Takes those who want one of these to be renewed: all who want the same as the first; refuses those who want another.
    fn asked(&self, works: &[Work<'_>]) -> Vec<Asked> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        for unknown in asked.extract_if(.., |asked| !works.iter().any(|work| work.has(&asked.name))) {
            unknown.refuse("no certificate that is ordered here has that name");
        }
        let Some(first) = asked.first().and_then(|first| works.iter().find(|work| work.has(&first.name))) else {
            return Vec::new();
        };
        asked.extract_if(.., |asked| first.has(&asked.name)).collect()
    }

    /// Looks where names outside of the domain lead for which a certificate is to be ordered.
    async fn look_up(&self, works: &mut [Work<'_>], now: OffsetDateTime) {
        let is_due = |work: &&Work<'_>| {
            // Also while an order has to wait that failed: that may have been why.
            work.is_outside() && (work.step(now) == Step::Order || work.record.failures > 0)
        };
        let due: Vec<_> = works.iter().filter(is_due).map(|work| work.set.names[0].as_str()).collect();
        let domain = works.first().map_or("", |work| &work.config.domain);
        self.places.look(&*self.names, &due, domain, Instant::now()).await;
        for work in works {
            work.astray = self.places.astray(&work.set.names[0], Instant::now());
        }
    }

    /// Takes note of how everything is.
    fn tell(&self, works: &[Work<'_>], now: OffsetDateTime) {
        let names: Vec<String> = works.iter().map(|work| work.set.to_string()).collect();
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        // That nothing could be written lasts until something is.
        let is_first = troubles.get(FOLDER).is_some_and(|trouble| trouble == LOOKED_FOR);
        troubles.retain(|about, _| about == FOLDER || names.contains(about));
        drop(troubles);
        if is_first {
            self.trouble(FOLDER, None);
        }
        for work in works {
            self.trouble(&work.set.to_string(), work.trouble(now));
        }
        let known = works.iter().map(|work| work.certificate(now)).collect();
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// Orders a certificate; says whether there is one.
    async fn order(&self, work: &mut Work<'_>) -> Result<bool, Error> {
        let (shelf, set) = (&self.shelf, work.set);
        work.record.begun(OffsetDateTime::now_utc());
        shelf.keep_record(&set.names, &work.record).await?;
        let ca = work.ca();
        tracing::info!(names = %set, way = %set.way, authority = authority(ca.directory.as_str()), "a certificate is ordered");
        let mut ordered = self.get(work, &ca).await;
        if let Err((Failed::Acme(error), _)) = &ordered
            && order::is_account_unknown(error)
        {
            tracing::warn!("the CA does not know its account any more: {error}");
            self.accounts.close(&ca);
            shelf.forget_account(ca.directory.as_str()).await?;
            ordered = self.get(work, &ca).await;
        }
        let kept = match ordered {
            Ok(Issued { pem, at }) => {
                let now = OffsetDateTime::now_utc();
                work.record.issued(at, now);
                shelf.keep(&set.names, pem, now).await.map_err(|error| (error.into(), None))
            }
            Err(failed) => Err(failed),
        };
        let is_issued = kept.is_ok();
        // What cannot serve is not fetched again.
        let is_done = matches!(&kept, Ok(()) | Err((Failed::Here(Error::Issued { .. }), _)));
        match kept {
            Ok(()) => {
                tracing::info!(names = %set, "a new certificate serves");
                work.record.succeeded();
            }
            Err((error, rest)) => {
                tracing::warn!(names = %set, way = %set.way, "no certificate: {error}");
                let rest = rest.and_then(|rest| rest.try_into().ok());
                work.record.failed(error.to_string(), rest, OffsetDateTime::now_utc(), lot());
                // The CA may be somewhere else by now.
                self.accounts.close(&ca);
            }
        }
        shelf.keep_record(&set.names, &work.record).await?;
        if is_done {
            shelf.forget_begun(&set.names).await?;
        }
        Ok(is_issued)
    }

    /// Gets a certificate, with its key; or an error, and how long the CA wants to be left alone, if it says so.
    async fn get(&self, work: &Work<'_>, ca: &PublicCa) -> Result<Issued, (Failed, Option<StdDuration>)> {
        let deadline = tokio::time::Instant::now() + order::LONGEST;
        let account = timeout_at(deadline, self.accounts.open(work.config, ca)).await;
        let (account, client) = account.unwrap_or(Err((Failed::Late, None)))?;
        // What was said before is not about this order.
        client.rest();
        // There may be a new account.
        let look = self.shelf.look(directories(work.config)).await.map_err(|error| (error.into(), None))?;
        self.permit(work.config, &look.issuers).await;
        // Not after a failure: this may have been why.
        let is_home = work.record.home() == Some(ca.directory.as_str());
        let replaced = work.held.as_ref().filter(|_| is_home && work.record.is_advised() && work.record.failures == 0);
        let replaces = replaced.and_then(|held| CertificateIdentifier::try_from(held.certificate()).ok());
        let (set, root) = (work.set, ca.preferred_chain.as_deref());
        // What Let's Encrypt makes certificates for addresses by.
        let is_short = set.has_addresses() && account.profiles().any(|profile| profile.name == SHORT_LIVED);
        let profile = if is_short { Some(SHORT_LIVED) } else { ca.profile.as_deref() };
        let called = client.identities().into_iter().next().or_else(|| ca.directory.caa().map(str::to_owned));
        let called = called.filter(|_| set.way == Way::Standing);
        let standing = called.map(|name| format!("{name}; accounturi={}; policy=wildcard", account.id()));
        let directory = ca.directory.as_str();
        let wanted = Wanted { directory, names: &set.names, way: set.way, replaces, profile, standing, root };
        let here = Here { shelf: &self.shelf, proofs: &self.proofs, txt: &*self.txt };
        let ordered = order::order(&account, &client, &wanted, &here, deadline).await;
        ordered.map_err(|error| (error, client.rest()))
    }

    /// Asks the CA when a certificate is to be renewed.
    async fn ask(&self, work: &mut Work<'_>) -> Result<(), Error> {
        let asked = async {
            let id = CertificateIdentifier::try_from(work.held.as_ref()?.certificate()).ok()?;
            let home =
                work.config.authorities().into_iter().find(|ca| work.record.home() == Some(ca.directory.as_str()));
            let (account, _) = self.accounts.open(work.config, &home?).await.ok()?;
            account.renewal_info(&id).await.ok()
        };
        let (asked, now) = (asked.await, OffsetDateTime::now_utc());
        match asked {
            Some((info, after)) => {
                let window = (info.suggested_window.start, info.suggested_window.end);
                work.record.advised(window, after.try_into().unwrap_or(Duration::DAY), now, lot());
            }
            None => work.record.unadvised(now),
        }
        self.shelf.keep_record(&work.set.names, &work.record).await
    }

    /// Has CAA records say that these may make certificates for the domain, and no others.
    async fn permit(&self, config: &Config, issuers: &[String]) {
        let wanted = (config.domain.clone(), issuers.to_vec());
        let is_said = |said: &(String, Vec<String>)| *said == wanted;
        if is_said(&self.permitted.lock().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        match self.txt.permit(&config.domain, issuers).await {
            Ok(()) => *self.permitted.lock().unwrap_or_else(PoisonError::into_inner) = wanted,
            Err(error) => tracing::warn!("CAA records are as they were: {error}"),
        }
    }

    /// What CAA records call the CAs at which there are accounts, as far as is known.
    pub(crate) fn issuers(&self) -> Vec<String> {
        let permitted = self.permitted.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |issuer: &String| issuer.split(';').next().unwrap_or_default().to_owned();
        permitted.1.iter().map(name).collect()
    }

    /// Has CAA records say nothing any more.
    pub(crate) async fn permit_all(&self, config: &Config) {
        self.permit(config, &[]).await;
    }

    /// Gives the accounts new keys; returns the hosts of their CAs.
    ///
    /// # Errors
    /// A CA did not take one, or it cannot be kept; in words.
    pub(crate) async fn change_keys(&self, config: &Config) -> Result<Vec<String>, String> {
        let _turn = self.turn.lock().await;
        self.accounts.change_keys(config).await
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
}

/// Someone who wants a certificate to be renewed now.
struct Asked {
    name: String,
    answer: oneshot::Sender<Result<Certificate, String>>,
}

impl Asked {
    /// Tells what became of it. Whoever asked may be gone.
    fn answer(self, certificate: Certificate) {
        let error = certificate.error.clone();
        self.answer.send(error.map_or(Ok(certificate), Err)).ok();
    }

    /// Tells why nothing is done. Whoever asked may be gone.
    fn refuse(self, why: &str) {
        self.answer.send(Err(why.to_owned())).ok();
    }
}

/// What is done about one certificate.
struct Work<'a> {
    config: &'a Config,
    set: &'a Set,
    record: Record,
    /// The certificate that there is, if it counts.
    held: Option<Pair>,
    /// Until when what covers all its names lasts, or lasted.
    lasts: Option<OffsetDateTime>,
    /// Whether all hosts have certificates without it.
    is_spare: bool,
    /// Why it is not ordered now, whatever is due.
    waits: Option<String>,
    /// Why it would be ordered in vain, unless a person wants it.
    astray: Option<String>,
}

impl<'a> Work<'a> {
    fn new(config: &'a Config, set: &'a Set, look: &Look, is_spare: bool, now: OffsetDateTime) -> Self {
        let held = look.held(&set.names, now).cloned();
        let waits = why_not(set, held.is_none(), look.counts(now));
        let (record, lasts) = (look.record(&set.names), look.lasts(&set.names));
        Self { config, set, record, held, lasts, is_spare, waits, astray: None }
    }

    /// Whether it is for a name outside of the domain, for which no local CA stands in.
    fn is_outside(&self) -> bool {
        self.set.names.iter().any(|name| is_outside(name, &self.config.domain))
    }

    fn has(&self, name: &str) -> bool {
        self.set.names.iter().any(|own| own == name)
    }

    fn step(&self, now: OffsetDateTime) -> Step {
        self.record.step(self.held.as_ref().map(Pair::validity), now)
    }

    /// The CA at which the next one is ordered.
    fn ca(&self) -> PublicCa {
        let (now, authorities) = (OffsetDateTime::now_utc(), self.config.authorities());
        let next = authorities.iter().find(|ca| self.record.next(now) == Some(ca.directory.as_str()));
        next.unwrap_or(&authorities[0]).clone()
    }

    /// What can be said of it.
    fn certificate(&self, now: OffsetDateTime) -> Certificate {
        let validity = self.held.as_ref().map(Pair::validity);
        let from = self.record.home().filter(|_| self.held.is_some()).or(self.record.next(now));
        Certificate {
            names: self.set.names.clone(),
            issuer: from.map(authority).unwrap_or_default(),
            proof: Some(self.set.way.to_string()),
            from: validity.map(|validity| validity.from),
            until: validity.map(|validity| validity.until),
            renewal: Some(self.record.order_at(validity, now)),
            error: self.astray.clone().or_else(|| self.record.error.clone()),
        }
    }

    /// What someone should know.
    fn trouble(&self, now: OffsetDateTime) -> Option<String> {
        let (set, authority) = (self.set, self.record.next(now).map(authority).unwrap_or_default());
        let again = |at: OffsetDateTime| {
            format!("; it is tried again at {:02}:{:02} UTC on {}", at.hour(), at.minute(), at.date())
        };
        let again = self.record.tried_at(now).map(again).unwrap_or_default();
        let serves = match self.lasts {
            Some(lasts) if lasts < now => format!("one that expired on {} serves", lasts.date()),
            Some(_) => "another serves".to_owned(),
            None if self.is_outside() || self.set.has_addresses() => "its visitors get none".to_owned(),
            None => "the local CA serves".to_owned(),
        };
        if let Some(why) = self.waits.as_ref().filter(|_| self.step(now) == Step::Order) {
            return Some(why.clone());
        }
        if let Some(why) = &self.astray {
            return Some(why.clone());
        }
        match (&self.held, &self.record.error) {
            (None, _) if self.is_spare => None,
            (None, None) => Some(format!("there is no certificate of {authority} for {set} yet: {serves}")),
            (None, Some(error)) => {
                Some(format!("there is no certificate of {authority} for {set}, and {serves}: {error}{again}"))
            }
            (Some(held), Some(error)) => {
                let until = held.validity().until.date();
                Some(format!("the certificate for {set}, good until {until}, is not renewed: {error}{again}"))
            }
            (Some(_), None) => None,
        }
    }
}

/// Why a certificate is not ordered after so many orders in the last hour, and so many certificates in the last week.
fn why_not(set: &Set, is_new: bool, (orders, issued): (usize, usize)) -> Option<String> {
    if orders >= ORDERS_AN_HOUR {
        return Some(format!("{set} waits: {ORDERS_AN_HOUR} orders in an hour are enough"));
    }
    (is_new && issued >= NEW_A_WEEK).then(|| format!("{set} waits: {NEW_A_WEEK} certificates in a week are enough"))
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acme").field("troubles", &self.troubles).finish_non_exhaustive()
    }
}

/// All certificates, before anything is ordered. Reads files.
///
/// # Errors
/// The folder cannot be made or read.
pub(crate) fn pairs(config: &Config) -> Result<Vec<Pair>, Error> {
    shelf::open(&config.data)
}

/// The directories of the public CAs, in order of preference.
fn directories(config: &Config) -> Vec<String> {
    config.authorities().iter().map(|ca| ca.directory.as_str().to_owned()).collect()
}

/// Host and port of a directory: what people call a CA.
fn authority(directory: &str) -> String {
    let uri: Option<http::Uri> = directory.parse().ok();
    uri.and_then(|uri| uri.authority().map(ToString::to_string)).unwrap_or_default()
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
