//! The zones that are signed: their keys, which are on disk before they are in a zone, and what was signed last.
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Error,
    content::Content,
    dnssec::{
        key::{Ds, Key},
        keys,
        rollover::{Keyset, Next, Served},
        sign::{Signing, sign},
    },
    name::Name,
    zone::Signed,
};

/// How long signatures are good, in seconds; they are made anew after half of it.
const LIFETIME: u32 = 14 * 24 * 60 * 60;
/// The zones that have keys.
pub(crate) struct Signatures {
    folder: PathBuf,
    zones: BTreeMap<Name, Keyed>,
}

struct Keyed {
    keyset: Keyset,
    signing: Option<Signing>,
}

/// What a zone's parent is to be told, and what is waited for.
#[derive(Clone, Debug)]
pub struct Delegation {
    /// The zone.
    pub zone: Name,
    /// What the parent is to say; none while it is to say nothing.
    pub ds: Option<Ds>,
    /// What comes next.
    pub next: Next,
}

impl Signatures {
    /// Those whose keys are in `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), zones: BTreeMap::new() }
    }

    /// Puts what a signed zone says of its keys into `content`, if it is signed. It is when that is wanted, and after that until
    /// its parent names no key of it any more.
    ///
    /// # Errors
    /// The keys cannot be read, made or written.
    pub(crate) fn prepare(&mut self, content: &mut Content, is_wanted: bool, now: u32) -> Result<bool, Error> {
        let apex = content.apex().clone();
        if !self.zones.contains_key(&apex) {
            let keyset = keys::read(&self.folder, &apex)?.unwrap_or_else(|| Keyset::new(apex.clone()));
            self.zones.insert(apex.clone(), Keyed { keyset, signing: None });
        }
        let zone = self.zones.get_mut(&apex).expect("there by now");
        let before = zone.keyset.clone();
        // Secondaries look at least so often.
        let delay = content.soa().map_or(0, |soa| soa.refresh);
        let served = Served { ttl: content.longest_ttl(), delay };
        if is_wanted && zone.keyset.keys.is_empty() {
            zone.keyset.want(true);
            let key = Key::generate(&[]).map_err(|source| Error::Key { zone: apex.clone(), source })?;
            zone.keyset.roll(Arc::new(key), served, now).expect("it has no keys, and is to have one");
        } else if !zone.keyset.keys.is_empty() {
            zone.keyset.want(is_wanted);
        }
        zone.keyset.step(served, None, now);
        // Of a zone without keys there is nothing to keep.
        let has_keys = !zone.keyset.keys.is_empty() || !before.keys.is_empty();
        if has_keys && zone.keyset != before {
            keys::write(&self.folder, &zone.keyset).inspect_err(|_| zone.keyset = before)?;
        }
        zone.keyset.prepare(content);
        if !is_wanted && !zone.keyset.keys.is_empty() {
            let file = keys::path(&self.folder, &apex);
            let (zone, file) = (apex.to_string(), file.display());
            tracing::warn!(
                zone, %file, "signed still, so that nobody who trusts its DS records loses it: have the registrar remove those, and \
                a day later remove the file"
            );
        }
        Ok(!zone.keyset.keys.is_empty())
    }

    /// Whether what was signed last is good for a while.
    pub(crate) fn are_fresh(&self, zone: &Name, now: u32) -> bool {
        let signing = self.zones.get(zone).and_then(|zone| zone.signing.as_ref());
        signing.is_some_and(|signing| now < signing.refresh)
    }

    /// Signs a zone that was prepared, with its serial number.
    ///
    /// # Errors
    /// It cannot be signed.
    pub(crate) fn sign(&mut self, content: &Content, now: u32) -> Result<&Signing, Error> {
        let zone = self.zones.get_mut(content.apex()).expect("it was prepared");
        let signing = sign(content.clone(), zone.keyset.signing(), LIFETIME, zone.signing.as_ref(), now)?;
        Ok(zone.signing.insert(signing))
    }

    /// What signing adds to a zone, if it is signed.
    pub(crate) fn signed(&self, zone: &Name) -> Option<&Signed> {
        let zone = self.zones.get(zone).filter(|zone| !zone.keyset.keys.is_empty())?;
        zone.signing.as_ref().map(|signing| &signing.signed)
    }

    /// Forgets zones that are not served any more; their keys stay on disk.
    pub(crate) fn retain(&mut self, is_served: impl Fn(&Name) -> bool) {
        self.zones.retain(|zone, _| is_served(zone));
    }

    /// When something is to be done next, in seconds since 1970.
    pub(crate) fn due(&self) -> Option<u32> {
        let due = |zone: &Keyed| {
            let step = match zone.keyset.next() {
                Next::Time(time) => Some(time),
                Next::Nothing | Next::Ds(_) | Next::NoDs => None,
            };
            step.into_iter().chain(zone.signing.as_ref().map(|signing| signing.refresh)).min()
        };
        self.zones.values().filter_map(due).min()
    }

    /// When the first signature of each zone expires, in seconds since 1970.
    pub(crate) fn expiries(&self) -> impl Iterator<Item = (&Name, u32)> {
        self.zones.iter().filter_map(|(name, zone)| Some((name, zone.signing.as_ref()?.expires)))
    }

    /// What the parents of the signed zones are to be told.
    pub(crate) fn delegations(&self) -> Vec<Delegation> {
        let signed = self.zones.iter().filter(|(_, zone)| !zone.keyset.keys.is_empty());
        let delegation = |(name, zone): (&Name, &Keyed)| Delegation {
            zone: name.clone(),
            ds: zone.keyset.ds(),
            next: zone.keyset.next(),
        };
        signed.map(delegation).collect()
    }
}
