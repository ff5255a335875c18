//! The zones that are served, and where each comes from.
use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::{
    Error,
    check::Expected,
    config::Config,
    content::{Content, Record, Set},
    dnssec::rollover::Parent,
    grant::Grants,
    handle::Updated,
    history::History,
    interfaces,
    interfaces::Addresses,
    ledger::{self, Ledger, Overlays},
    name::Name,
    outside::Outside,
    overlay::{Left, Overlay},
    own,
    parent::{UNSEEN, Unclear},
    ports::{Https, Offer},
    resolve::Resolver,
    rtype::Rtype,
    secondary::replica::Replica,
    serve::Shared,
    signing::{Delegation, NotRolled, Signatures},
    state::{Serials, Source},
    text,
    transfer::Transfer,
    update::{Asker, Declined, Update},
    zone::{self, Signed, Zone, Zones},
};

/// Largest zone file: more than a million names need.
const LARGEST: u64 = 256 << 20;

/// The zones as they were written, and what makes them those that are asked. One change is one new snapshot.
pub(crate) struct Catalog {
    shared: Arc<Shared>,
    kept: Mutex<Kept>,
}

struct Kept {
    serials: Serials,
    signatures: Signatures,
    ledger: Ledger,
    /// Whether zones are to be signed.
    dnssec: bool,
    written: Vec<Written>,
    /// What updates left of names, in place of what the zones say.
    overlays: Overlays,
    /// The zones of other name servers; none of those that are not here, or have expired.
    mirrored: Mirrored,
    /// Those of them that are served.
    elsewhere: BTreeMap<Name, Arc<Replica>>,
    /// What other modules say of names, in place of what the zones do.
    published: BTreeMap<(Name, Rtype), Set>,
    contents: Vec<Content>,
    histories: BTreeMap<Name, History>,
}

/// Zones of other name servers, by their names.
type Mirrored = BTreeMap<Name, Option<Arc<Replica>>>;

/// A zone as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    content: Content,
    /// The file it is from; none of the KUBE's own.
    file: Option<PathBuf>,
}

/// What zones and listeners follow from: when it is another, they are made anew.
#[derive(Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) config: Config,
    pub(crate) addresses: Addresses,
    /// Those that people are told.
    pub(crate) public: Vec<IpAddr>,
    offer: Option<Offer>,
    files: Vec<Option<(SystemTime, u64, u64)>>,
}

impl Seen {
    pub(crate) fn of(config: &Config, addresses: Addresses, outside: &Outside, https: &dyn Https) -> Self {
        let stamp = |path: &PathBuf| {
            let file = fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len(), file.ino()))
        };
        let (public, files) = (outside.public(config, &addresses), config.zones.iter().map(stamp).collect());
        // Which port it is is not known before it is bound.
        let offer = https.offer().filter(|offer| offer.port != 0);
        Self { config: config.clone(), addresses, public, offer, files }
    }
}

/// Reads the zones that there are to be.
///
/// # Errors
/// The first that is not a zone.
pub(crate) fn read(Seen { config, public, offer, .. }: &Seen) -> Result<Vec<Written>, Error> {
    let mut zones: Vec<Written> = Vec::new();
    if let Some(own) = &config.own {
        let addresses = own.addresses.as_deref().unwrap_or(public);
        let content = own::content(own, addresses, offer.as_ref(), &config.records).map_err(Error::Records)?;
        zones.push(Written { content, file: None });
    }
    for path in &config.zones {
        let content = zone_file(path)?;
        if zones.iter().any(|zone| zone.content.apex() == content.apex()) {
            return Err(Error::Twice { path: path.clone(), apex: content.apex().clone() });
        }
        zones.push(Written { content, file: Some(path.clone()) });
    }
    for (number, secondary) in config.secondary.iter().enumerate() {
        let is_there = zones.iter().any(|zone| *zone.content.apex() == secondary.zone)
            || config.secondary[..number].iter().any(|other| other.zone == secondary.zone);
        if is_there {
            return Err(Error::Ours { apex: secondary.zone.clone() });
        }
    }
    Ok(zones)
}

fn zone_file(path: &Path) -> Result<Content, Error> {
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(unreadable)?.len() > LARGEST {
        return Err(unreadable(std::io::Error::other(format!("larger than {LARGEST} bytes"))));
    }
    let text = fs::read(path).map_err(unreadable)?;
    // As name servers have it: the file is called like its zone, unless it says so itself.
    let stem = path.file_name().and_then(|name| name.to_str()).map(|name| name.strip_suffix(".zone").unwrap_or(name));
    let origin = stem.and_then(|stem| stem.parse().ok());
    text::read(&text, origin.as_ref()).map_err(|wrong| Error::Zone { path: path.to_owned(), wrong })
}

impl Catalog {
    /// Serves `zones`, and what updates left of them.
    ///
    /// # Errors
    /// The serial numbers cannot be kept.
    pub(crate) fn new(
        shared: Arc<Shared>,
        (serials, signatures, ledger): (Serials, Signatures, Ledger),
        zones: Vec<Written>,
        dnssec: bool,
    ) -> Result<Self, Error> {
        let kept = Kept {
            serials,
            signatures,
            overlays: ledger.kept().clone(),
            ledger,
            dnssec,
            written: Vec::new(),
            mirrored: Mirrored::new(),
            elsewhere: BTreeMap::new(),
            published: BTreeMap::new(),
            contents: Vec::new(),
            histories: BTreeMap::new(),
        };
        let catalog = Self { shared, kept: Mutex::new(kept) };
        catalog.change(|kept| kept.written = zones)?;
        Ok(catalog)
    }

    /// Serves `zones` from now on, signed or not.
    ///
    /// # Errors
    /// Serial numbers or keys cannot be kept; what was served is served still.
    pub(crate) fn replace(&self, zones: Vec<Written>, dnssec: bool) -> Result<(), Error> {
        self.change(|kept| (kept.written, kept.dnssec) = (zones, dnssec))
    }

    /// Serves these zones of other name servers from now on, as they came, and answers for none of those that are not here.
    ///
    /// # Errors
    /// Serial numbers or keys cannot be kept; what was served is served still.
    pub(crate) fn mirror(&self, zones: Mirrored) -> Result<(), Error> {
        let is_same = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let same = |(one, other): (&Option<Arc<Replica>>, &Option<Arc<Replica>>)| match (one, other) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (one, other) => one.is_none() && other.is_none(),
            };
            kept.mirrored.keys().eq(zones.keys()) && kept.mirrored.values().zip(zones.values()).all(same)
        };
        if is_same { Ok(()) } else { self.change(|kept| kept.mirrored = zones) }
    }

    /// Does what time has brought: signatures that are due, and the next step of keys.
    ///
    /// # Errors
    /// Serial numbers or keys cannot be kept; what was served is served still.
    pub(crate) fn tick(&self) -> Result<(), Error> {
        let due = self.kept.lock().unwrap_or_else(PoisonError::into_inner).signatures.due();
        if due.is_some_and(|due| due <= now()) { self.change(|_| {}) } else { Ok(()) }
    }

    /// What the parents of the signed zones are to be told.
    pub(crate) fn delegations(&self) -> Vec<Delegation> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).signatures.delegations()
    }

    /// The zones whose parents are to be asked now; those whose parents are served here are told at once.
    pub(crate) fn to_ask(&self) -> Vec<Name> {
        let (mut away, mut here) = (Vec::new(), Vec::new());
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for zone in kept.signatures.signed_zones() {
            let is_time = kept.signatures.is_to_ask(zone, now());
            match kept.parent_of(zone) {
                Some(parent) if is_time || !kept.signatures.has_heard(zone, &parent) => {
                    here.push((zone.clone(), parent))
                }
                None if is_time => away.push(zone.clone()),
                Some(_) | None => {}
            }
        }
        drop(kept);
        for (zone, parent) in here {
            if let Err(error) = self.hear(&zone, Ok(parent)) {
                tracing::error!(%zone, %error, "what the parent says changes nothing");
            }
        }
        away
    }

    /// Does what follows from what the parent of a zone says.
    ///
    /// # Errors
    /// Serial numbers or keys cannot be kept; what was served is served still.
    pub(crate) fn hear(&self, zone: &Name, said: Result<Parent, Unclear>) -> Result<(), Error> {
        let label = said.as_ref().err().map_or("answered", Unclear::label);
        self.shared.metrics.parents.with_label_values(&[label]).inc();
        let mut spread = [0];
        // Without randomness it is asked at the earliest moment.
        getrandom(&mut spread, GetRandomFlags::empty()).ok();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.signatures.hear(zone, said, now(), spread[0]) { kept.change(&self.shared, |_| {}) } else { Ok(()) }
    }

    /// Begins to replace the key of a zone.
    ///
    /// # Errors
    /// There can be no other key now, or it cannot be kept; what was served is served still.
    pub(crate) fn roll(&self, zone: &Name) -> Result<(), Error> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.contents.iter().any(|content| content.apex() == zone) {
            return Err(NotRolled::Unknown(zone.clone()).into());
        }
        kept.signatures.order(zone, now())?;
        let served = kept.change(&self.shared, |_| {});
        kept.signatures.countermand();
        served
    }

    /// Who is asked for other zones; empty: those of the system.
    pub(crate) fn resolvers(&self) -> Vec<Resolver> {
        self.shared.resolvers.load().to_vec()
    }

    /// How the world should see a zone; none if it is not served.
    pub(crate) fn expected(&self, zone: &Name, issuer: Option<String>) -> Option<Expected> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let content = kept.contents.iter().find(|content| content.apex() == zone)?.clone();
        let keyset = kept.signatures.keyset(zone)?.clone();
        Some(Expected {
            content,
            keyset,
            issuer,
            own: interfaces::addresses().map(|addresses| addresses.all).unwrap_or_default(),
        })
    }

    /// What a person has to look at, in words.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).signatures.trouble()
    }

    /// Says something of a name and type in place of what the zones do; an empty set says nothing any more. Returns whether
    /// there is a zone for the name.
    ///
    /// # Errors
    /// The serial numbers cannot be kept; what was served is served still.
    pub(crate) fn publish(&self, owner: Name, rtype: Rtype, set: Set) -> Result<bool, Error> {
        let zones = self.shared.zones.load();
        let nearest = zones.find(owner.wire()).and_then(|number| zones.get(number));
        let is_written = |zone: &Name| {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.written.iter().any(|written| written.content.apex() == zone)
        };
        // What others have signed has no room for more.
        let is_served = nearest.is_some_and(|zone| is_written(&zone.apex));
        if is_served {
            self.change(|kept| {
                if set.data.is_empty() {
                    kept.published.remove(&(owner, rtype));
                } else {
                    kept.published.insert((owner, rtype), set);
                }
            })?;
        }
        Ok(is_served)
    }

    /// A zone as a zone file, with what signing adds to it or without; none if it is not served.
    pub(crate) fn text(&self, zone: &Name, with_signatures: bool) -> Option<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let content = kept.contents.iter().find(|content| content.apex() == zone)?;
        Some(text::write(content, kept.signed(zone).filter(|_| with_signatures)))
    }

    /// A zone for a secondary, which may know the state with a serial number; none if it is not served.
    pub(crate) fn transfer(&self, zone: &[u8], known: Option<u32>) -> Option<Transfer> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let content = kept.contents.iter().find(|content| content.apex().wire() == zone)?;
        let changes = kept.histories.get(content.apex()).zip(known).and_then(|(history, known)| history.since(known));
        Some(Transfer { records: kept.records(content), changes })
    }

    /// Does what a request asks for, as far as `grants` let its key; it is on disk and served when this returns. Says which names
    /// and types have changed.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub(crate) fn update(
        &self,
        update: &Update,
        grants: &Grants,
        asker: Asker<'_>,
    ) -> Result<Vec<(Name, Rtype)>, Declined> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let apex = &update.zone;
        let written = kept.written.iter().find(|zone| zone.content.apex() == apex);
        let served = kept.contents.iter().find(|content| content.apex() == apex);
        let (written, served) = written.zip(served).ok_or_else(|| Declined::NotAuth(apex.clone()))?;
        update.check(served)?;
        let none = Overlay::default();
        let before = kept.overlays.get(apex).unwrap_or(&none);
        let may = |owner: &Name, rtype| grants.allow(asker.key, apex, owner, rtype);
        let after = update.apply(&written.content, before, asker, may)?;
        let changed = before.difference(&after);
        if changed.is_empty() {
            return Ok(changed);
        }
        let mut overlays = kept.overlays.clone();
        overlays.insert(apex.clone(), after);
        if let Some(excess) = ledger::excess(&kept.overlays, &overlays) {
            return Err(Declined::TooMuch(excess));
        }
        let done = kept.change(&self.shared, |kept| kept.overlays = overlays);
        done.map(|()| changed).map_err(|error| Declined::Failed(error.to_string()))
    }

    /// What updates left of a zone.
    pub(crate) fn updated(&self, zone: &Name) -> Vec<Updated> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let overlay = kept.overlays.get(zone);
        let updated = |((owner, rtype), left): (&(Name, Rtype), &Left)| Updated {
            owner: owner.clone(),
            rtype: *rtype,
            records: left.set.data.len(),
            key: left.key.clone(),
            time: left.time,
        };
        overlay.into_iter().flat_map(|overlay| &overlay.0).map(updated).collect()
    }

    /// Leaves a name of a zone, or one type of it, to what is written again; says which types updates had left.
    ///
    /// # Errors
    /// The change cannot be kept; what was served is served still.
    pub(crate) fn forget(&self, zone: &Name, owner: &Name, rtype: Option<Rtype>) -> Result<Vec<Rtype>, Error> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_meant = |place: &(Name, Rtype)| place.0 == *owner && rtype.is_none_or(|rtype| rtype == place.1);
        let mut overlays = kept.overlays.clone();
        let Some(overlay) = overlays.get_mut(zone) else { return Ok(Vec::new()) };
        let forgotten: Vec<_> =
            overlay.0.extract_if(.., |place, _| is_meant(place)).map(|(place, _)| place.1).collect();
        if !forgotten.is_empty() {
            kept.change(&self.shared, |kept| kept.overlays = overlays)?;
        }
        Ok(forgotten)
    }

    /// All zones as they are served.
    pub(crate) fn contents(&self) -> Vec<Content> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).contents.clone()
    }

    /// Changes what there is, gives serial numbers, keeps them, and serves the result.
    fn change(&self, change: impl FnOnce(&mut Kept)) -> Result<(), Error> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).change(&self.shared, change)
    }
}

impl Kept {
    /// The same.
    fn change(&mut self, shared: &Shared, change: impl FnOnce(&mut Self)) -> Result<(), Error> {
        let before = (self.written.clone(), self.overlays.clone(), self.published.clone(), self.dnssec);
        let mirrored = self.mirrored.clone();
        change(self);
        let served = self.serve(shared, &before.0);
        served.inspect_err(|_| {
            (self.written, self.overlays, self.published, self.dnssec) = before;
            self.mirrored = mirrored;
        })
    }
}

impl Kept {
    /// What the parent of a zone says, if it is served here.
    fn parent_of(&self, zone: &Name) -> Option<Parent> {
        let above = |content: &&Content| content.apex() != zone && zone.is_in(content.apex().wire());
        let parent = self.contents.iter().filter(above).max_by_key(|content| content.apex().wire().len())?;
        // Between the two there may be a zone of somebody else.
        let between = std::iter::successors(zone.above(), Name::above).take_while(|name| name != parent.apex());
        let is_theirs = between.into_iter().any(|name| parent.set(&name, Rtype::NS).is_some());
        let none = || Set { ttl: UNSEEN, data: Vec::new() };
        let of_zone = parent.set(zone, Rtype::DS).cloned().unwrap_or_else(none);
        (!is_theirs).then_some(Parent { ds: of_zone.data, ttl: of_zone.ttl })
    }

    /// All records of a zone, with what signing adds to it, the SOA record first.
    fn records(&self, content: &Content) -> Vec<Record> {
        zone::records(content, self.signed(content.apex()))
    }

    /// What signing added to a zone, here or elsewhere.
    fn signed(&self, zone: &Name) -> Option<&Signed> {
        match self.elsewhere.get(zone) {
            Some(replica) => replica.signed.as_ref(),
            None => self.signatures.signed(zone),
        }
    }

    /// What a zone holds: as it is written, with what updates left of it and other modules say of it.
    fn content_of(&self, zone: &Written) -> Content {
        let mut content = zone.content.clone();
        let overlay = self.overlays.get(content.apex());
        if let Some(overlay) = overlay {
            overlay.apply(&mut content);
        }
        for ((owner, rtype), set) in &self.published {
            // The longest zone that the name is in.
            let is_nearer = |other: &Written| {
                owner.is_in(other.content.apex().wire())
                    && other.content.apex().wire().len() > content.apex().wire().len()
            };
            if owner.is_in(content.apex().wire()) && !self.written.iter().any(is_nearer) {
                let mut set = set.clone();
                // Both may be proving to an authority that the name is theirs.
                if let Some(left) = overlay.and_then(|overlay| overlay.0.get(&(owner.clone(), *rtype))) {
                    set.data.extend(left.set.data.iter().cloned());
                }
                content.put(owner.clone(), *rtype, set);
            }
        }
        if zone.file.is_none() {
            own::fill(&mut content);
        }
        content
    }

    /// Serves what there is, of which `last` was written the last time.
    fn serve(&mut self, shared: &Shared, last: &[Written]) -> Result<(), Error> {
        let now = now();
        let (mut given, mut contents, mut zones) = (BTreeMap::new(), Vec::new(), Vec::new());
        let before: Vec<_> =
            self.contents.iter().map(|content| (content.apex().clone(), self.records(content))).collect();
        let mut signings = Vec::new();
        for zone in &self.written {
            let mut content = self.content_of(zone);
            let is_signed = self.signatures.prepare(&mut content, self.dnssec, now)?;
            let grows = is_signed && !self.signatures.are_fresh(content.apex(), now);
            let source = if zone.file.is_some() { Source::File } else { Source::Clock(now) };
            let (serial, forgotten) = self.serials.next(&content, source, grows);
            // What was updated or published is not for the author of the file to number.
            let is_news = self.overlays.get(content.apex()).is_none_or(|overlay| overlay.0.is_empty())
                && !last.iter().any(|last| last.content == zone.content);
            if let Some(file) = zone.file.as_ref().filter(|_| forgotten && is_news) {
                let (file, serial) = (file.display(), serial.serial);
                tracing::warn!(%file, serial, "the zone changed, its serial number did not: raised here; raise it in the file");
            }
            content.renumber(serial.serial);
            given.insert(content.apex().to_string(), serial);
            let signing = if is_signed { Some(self.signatures.sign(&content, now)?) } else { None };
            zones.push(Arc::new(Zone::new(&content, signing.as_ref().map(|signing| &signing.signed))));
            signings.extend(signing);
            contents.push(content);
        }
        // No answer is given with a serial number that might be given again.
        self.serials.keep(given)?;
        // And none with what could be gone after a crash. It is last, so that what fails leaves no trace.
        self.ledger.keep(&self.overlays)?;
        self.signatures.adopt(signings);
        self.signatures.retain(|zone| contents.iter().any(|content| content.apex() == zone));
        let here =
            self.mirrored.iter().filter_map(|(zone, replica)| Some((zone.clone(), Arc::clone(replica.as_ref()?))));
        let elsewhere: BTreeMap<_, _> = here.collect();
        for replica in elsewhere.values() {
            zones.push(Arc::clone(&replica.zone));
            contents.push(replica.content.clone());
        }
        let away = self.mirrored.iter().filter(|(_, replica)| replica.is_none()).map(|(zone, _)| zone);
        let zones = Zones::new(zones).without(away);
        let expiries = elsewhere.iter().filter_map(|(zone, replica)| Some((zone, replica.signatures_expire?)));
        shared.metrics.show(&zones, self.signatures.expiries().chain(expiries));
        shared.metrics.updated.set(self.overlays.values().map(|overlay| overlay.0.len()).sum::<usize>() as i64);
        shared.zones.store(Arc::new(zones));
        shared.changed.notify_one();
        (self.contents, self.elsewhere) = (contents, elsewhere);
        self.remember(&before);
        Ok(())
    }
}

impl Kept {
    /// Keeps what changed since the zones were what they were before.
    fn remember(&mut self, before: &[(Name, Vec<Record>)]) {
        let mut histories = std::mem::take(&mut self.histories);
        for content in &self.contents {
            let zone = content.apex();
            let mut history = histories.remove(zone).unwrap_or_default();
            if let Some((_, before)) = before.iter().find(|(name, _)| name == zone) {
                history.add(before, &self.records(content));
            }
            self.histories.insert(zone.clone(), history);
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32)
}
