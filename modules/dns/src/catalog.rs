//! The zones that are served, and where each comes from.
mod snapshot;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::{
    Error,
    address::Address,
    check::Expected,
    content::{Content, Set},
    dnssec::rollover::Parent,
    grant::Grants,
    handle::{Found, Updated},
    history::History,
    interfaces,
    ledger::{self, Ledger, Overlays},
    name::Name,
    overlay::{Left, Overlay},
    parent::Unclear,
    resolve::{Resolvers, address},
    rtype::Rtype,
    secondary::replica::Replica,
    serve::Shared,
    signing::{Delegation, NotRolled, Signatures},
    state::Serials,
    text,
    transfer::Transfer,
    update::{Asker, Declined, Update},
    written::Wanted,
    zone::Place,
};

/// The zones as they were written, and what makes them those that are asked. One change is one new snapshot.
pub(crate) struct Catalog {
    shared: Arc<Shared>,
    kept: Mutex<Kept>,
}

struct Kept {
    serials: Serials,
    signatures: Signatures,
    ledger: Ledger,
    wanted: Wanted,
    /// What updates left of names, in place of what the zones say.
    overlays: Overlays,
    /// The zones of other name servers; none of those that are not here, or have expired.
    mirrored: Mirrored,
    /// Those of them that are served, and those of which the files are signed.
    elsewhere: BTreeMap<Name, Arc<Replica>>,
    /// What other modules say of names, in place of what the zones do.
    published: BTreeMap<(Name, Rtype), Set>,
    contents: Vec<Content>,
    histories: BTreeMap<Name, History>,
}

/// A zone that is written here, for one of its names.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) zone: Name,
    /// Its primary server, as its SOA record has it.
    pub(crate) primary: Option<Name>,
    /// What the name is an alias of, if it is one.
    pub(crate) alias: Option<Name>,
}

/// Zones of other name servers, by their names.
type Mirrored = BTreeMap<Name, Option<Arc<Replica>>>;

impl Catalog {
    /// Serves the zones that are wanted, and what updates left of them.
    ///
    /// # Errors
    /// The serial numbers cannot be kept.
    pub(crate) fn new(
        shared: Arc<Shared>,
        (serials, signatures, ledger): (Serials, Signatures, Ledger),
        wanted: Wanted,
    ) -> Result<Self, Error> {
        let kept = Kept {
            serials,
            signatures,
            overlays: ledger.kept().clone(),
            ledger,
            wanted: Wanted::default(),
            mirrored: Mirrored::new(),
            elsewhere: BTreeMap::new(),
            published: BTreeMap::new(),
            contents: Vec::new(),
            histories: BTreeMap::new(),
        };
        let catalog = Self { shared, kept: Mutex::new(kept) };
        catalog.change(|kept| kept.wanted = wanted)?;
        Ok(catalog)
    }

    /// Serves these zones from now on.
    ///
    /// # Errors
    /// Serial numbers or keys cannot be kept; what was served is served still.
    pub(crate) fn replace(&self, wanted: Wanted) -> Result<(), Error> {
        self.change(|kept| kept.wanted = wanted)
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
        if kept.mirrored.contains_key(zone) {
            return Err(NotRolled::Elsewhere(zone.clone()).into());
        }
        if kept.wanted.presigned.contains_key(zone) {
            return Err(NotRolled::Presigned(zone.clone()).into());
        }
        if !kept.contents.iter().any(|content| content.apex() == zone) {
            return Err(NotRolled::Unknown(zone.clone()).into());
        }
        kept.signatures.order(zone, now())?;
        let served = kept.change(&self.shared, |_| {});
        kept.signatures.countermand();
        served
    }

    /// Who is asked for other zones; empty: those of the system.
    pub(crate) fn resolvers(&self) -> Vec<Address> {
        self.shared.resolvers.load().to_vec()
    }

    /// Where a name leads, as resolvers see it, and where this machine is.
    ///
    /// # Errors
    /// No resolver knows, in words.
    pub(crate) async fn find(&self, name: &Name) -> Result<Found, String> {
        let resolvers = Resolvers::of(&self.resolvers()).map_err(|error| error.to_string())?;
        let addresses = resolvers.addresses(name).await?;
        let here = self.kept.lock().unwrap_or_else(PoisonError::into_inner).wanted.addresses.clone();
        let machine = interfaces::addresses().map(|addresses| addresses.all).unwrap_or_default();
        let is_here = addresses.iter().any(|address| here.contains(address) || machine.contains(address));
        Ok(Found { addresses, here, is_here })
    }

    /// The zones that are there for apps' domains.
    pub(crate) fn app_zones(&self) -> Vec<Name> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).wanted.apps.clone()
    }

    /// Whether a zone is somebody else's, from whom this server has it.
    pub(crate) fn is_mirrored(&self, zone: &Name) -> bool {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).mirrored.contains_key(zone)
    }

    /// How the world should see a zone; none if it is not written here.
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
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |replica: &Replica| replica.signatures_expire.is_some_and(|expire| expire <= now());
        let expired = || kept.wanted.presigned.iter().find(|(_, replica)| is_over(replica));
        let anew = |(zone, _)| format!("signatures in the zone file of {zone} have expired: have it signed anew");
        // An app's domain may be with another name server, whose keys the zone above names then.
        let signed = kept.signatures.trouble(|zone| !kept.wanted.apps.contains(zone));
        signed.or_else(|| expired().map(anew))
    }

    /// The zones of which the files are signed, and when the first signature of each expires, in seconds since 1970.
    pub(crate) fn presigned(&self) -> Vec<(Name, Option<u32>)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.wanted.presigned.iter().map(|(zone, replica)| (zone.clone(), replica.signatures_expire)).collect()
    }

    /// Says something of a name and type in place of what the zones do; an empty set says nothing any more. Returns whether
    /// there is a zone for the name.
    ///
    /// # Errors
    /// The serial numbers cannot be kept; what was served is served still.
    pub(crate) fn publish(&self, owner: Name, rtype: Rtype, set: Set) -> Result<bool, Error> {
        let is_served = self.home(&owner).is_some();
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

    /// The zone that is written here and has the name, if that is not left to others by a delegation or a DNAME; what others have
    /// signed has no room for more.
    pub(crate) fn home(&self, name: &Name) -> Option<Home> {
        let zones = self.shared.zones.load();
        let nearest = zones.find(name.wire()).and_then(|number| zones.get(number))?;
        let (closest, node) = nearest.closest(name.wire());
        if node.place != Place::Inside || closest != name.wire() && node.get(Rtype::DNAME).is_some() {
            return None;
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_written = kept.wanted.written.iter().any(|written| *written.content.apex() == nearest.apex);
        let content = kept.content(&nearest.apex).filter(|_| is_written)?;
        let named = |owner: &Name, rtype| Name::read(content.set(owner, rtype)?.data.first()?);
        let (primary, alias) = (named(&nearest.apex, Rtype::SOA), named(name, Rtype::CNAME));
        Some(Home { zone: nearest.apex.clone(), primary, alias })
    }

    /// The name servers that a zone lists; none if it is not served.
    pub(crate) fn servers(&self, zone: &Name) -> Vec<Name> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let set = kept.content(zone).and_then(|content| content.set(zone, Rtype::NS));
        set.into_iter().flat_map(|set| &set.data).filter_map(|data| Name::read(data)).collect()
    }

    /// The addresses of a name, as the nearest zone that is served has them, in its wildcard perhaps; none if no zone has the name.
    pub(crate) fn addresses(&self, name: &Name) -> Option<Vec<IpAddr>> {
        let zones = self.shared.zones.load();
        let nearest = zones.find(name.wire()).and_then(|number| zones.get(number))?;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let content = kept.content(&nearest.apex)?;
        let wildcard = name.above().and_then(|above| above.below(b"*"));
        let owner = if content.of(name).next().is_some() { name.clone() } else { wildcard? };
        let data = content.of(&owner).flat_map(|(rtype, set)| set.data.iter().map(move |data| (rtype, data)));
        Some(data.filter_map(|(rtype, data)| address(rtype, data)).collect())
    }

    /// Whether a zone that is served has TXT records of a name with all of these data.
    pub(crate) fn says(&self, name: &Name, wanted: &[Box<[u8]>]) -> bool {
        let zones = self.shared.zones.load();
        let nearest = zones.find(name.wire()).and_then(|number| zones.get(number));
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let set = nearest.and_then(|zone| kept.content(&zone.apex)?.set(name, Rtype::TXT));
        set.is_some_and(|set| wanted.iter().all(|data| set.data.contains(data)))
    }

    /// The addresses at which this server is reached, as far as it knows.
    pub(crate) fn here(&self) -> Vec<IpAddr> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).wanted.here.clone()
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
        let written = kept.wanted.written.iter().find(|zone| zone.content.apex() == apex);
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

/// Seconds since 1970.
pub(crate) fn now() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32)
}
