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
        rollover::{Csk, Keyset, Next, Parent, Refused, Served},
        sign::{Signing, sign},
    },
    name::Name,
    parent::{Asked, Unclear, again},
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
    /// Whether it is served with the keys as they are: they are on disk before, and what comes between may fail.
    is_served: bool,
    /// As of the last time that the zone was prepared.
    served: Served,
    /// What its parent says now: for the next time that it is prepared, and no other.
    heard: Option<Parent>,
    /// The key that is to take the place of the one that is there.
    ordered: Option<Arc<Key>>,
    /// What came of asking its parent the last time.
    asked: Option<Asked>,
    /// The tags of the keys that the parent names, if it names some and none that the zone has.
    misnamed: Option<String>,
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
    /// When the parent was asked the last time, in seconds since 1970, and what it said, in words; none if it was not asked yet.
    pub asked: Option<(u32, String)>,
}

/// Why there is no rollover.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRolled {
    /// There is no such zone.
    #[error("there is no zone {0}: `kube dns zones` lists them")]
    Unknown(Name),
    /// The zone has no key that could be replaced.
    #[error("{0} is not signed: set `dnssec = true` under [dns] in the config")]
    Unsigned(Name),
    /// Somebody else has its keys.
    #[error("{0} comes from another name server, which has its keys: `kube dns zones` says which")]
    Elsewhere(Name),
    /// Its file is signed.
    #[error("{0} is signed by whoever makes its zone file, who has its keys")]
    Presigned(Name),
    /// Another key is on its way, or signing comes to its end.
    #[error(transparent)]
    Refused(#[from] Refused),
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
            self.zones.insert(apex.clone(), Keyed::new(keyset));
        }
        let zone = self.zones.get_mut(&apex).expect("there by now");
        let before = zone.keyset.clone();
        // Secondaries look at least so often.
        let delay = content.soa().map_or(0, |soa| soa.refresh);
        let served = Served { ttl: content.longest_ttl(), delay };
        zone.served = served;
        if !zone.is_served {
            zone.keyset.postpone(served, now);
        }
        if is_wanted && zone.keyset.keys.is_empty() {
            zone.keyset.want(true);
            let key = Key::generate(&[]).map_err(|source| Error::Key { zone: apex.clone(), source })?;
            zone.keyset.roll(Arc::new(key), served, now).expect("it has no keys, and is to have one");
        } else if !zone.keyset.keys.is_empty() {
            zone.keyset.want(is_wanted);
        }
        if let Some(key) = zone.ordered.take() {
            // Whoever ordered it has asked whether it can be had.
            zone.keyset.roll(key, served, now).ok();
        }
        zone.keyset.step(served, zone.heard.take().as_ref(), now);
        // Of a zone without keys there is nothing to keep.
        let has_keys = !zone.keyset.keys.is_empty() || !before.keys.is_empty();
        if has_keys && zone.keyset != before {
            keys::write(&self.folder, &zone.keyset).inspect_err(|_| zone.keyset = before.clone())?;
            zone.is_served = false;
        }
        zone.keyset.prepare(content);
        zone.log(&before);
        if zone.keyset.keys.is_empty() {
            zone.signing = None;
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
    pub(crate) fn sign(&self, content: &Content, now: u32) -> Result<Signing, Error> {
        let zone = self.zones.get(content.apex()).expect("it was prepared");
        Ok(sign(content.clone(), zone.keyset.signing(), LIFETIME, zone.signing.as_ref(), now)?)
    }

    /// Takes over what was signed anew: all zones are served from now on as they were prepared.
    pub(crate) fn adopt(&mut self, signings: Vec<Signing>) {
        self.zones.values_mut().for_each(|zone| zone.is_served = true);
        for signing in signings {
            if let Some(zone) = self.zones.get_mut(signing.content.apex()) {
                zone.signing = Some(signing);
            }
        }
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
            zone.keyset.due().into_iter().chain(zone.signing.as_ref().map(|signing| signing.refresh)).min()
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
            asked: zone.asked.as_ref().map(|asked| (asked.at, zone.in_words(asked))),
        };
        signed.map(delegation).collect()
    }

    /// The keys of a zone; none if it was not prepared.
    pub(crate) fn keyset(&self, zone: &Name) -> Option<&Keyset> {
        self.zones.get(zone).map(|zone| &zone.keyset)
    }

    /// The zones that are signed.
    pub(crate) fn signed_zones(&self) -> impl Iterator<Item = &Name> {
        self.zones.iter().filter(|(_, zone)| !zone.keyset.keys.is_empty()).map(|(name, _)| name)
    }

    /// Whether the parent of a zone is to be asked now.
    pub(crate) fn is_to_ask(&self, zone: &Name, now: u32) -> bool {
        self.zones.get(zone).is_some_and(|zone| {
            zone.asked.as_ref().is_none_or(|asked| {
                // A clock that was set back does not put it off.
                asked.at > now || again(asked, &zone.keyset.next(), zone.misnamed.is_some()) <= now
            })
        })
    }

    /// Whether that is what the parent of a zone said the last time.
    pub(crate) fn has_heard(&self, zone: &Name, parent: &Parent) -> bool {
        let asked = self.zones.get(zone).and_then(|zone| zone.asked.as_ref());
        asked.is_some_and(|asked| asked.said.as_ref() == Ok(parent))
    }

    /// Takes what the parent of a zone says. Returns whether the zone is to be prepared now, because something follows from it.
    pub(crate) fn hear(&mut self, name: &Name, said: Result<Parent, Unclear>, now: u32, spread: u8) -> bool {
        let Some(zone) = self.zones.get_mut(name) else { return false };
        if let Ok(parent) = &said {
            let is_named = zone.keyset.keys.iter().any(|csk| parent.ds.iter().any(|ds| csk.key.is_named_by(ds, name)));
            let tags =
                parent.ds.iter().filter_map(|ds| ds.first_chunk()).map(|tag| u16::from_be_bytes(*tag).to_string());
            zone.misnamed = (!parent.ds.is_empty() && !is_named).then(|| tags.collect::<Vec<_>>().join(", "));
            if zone.keyset.clone().step(zone.served, Some(parent), now) {
                zone.heard = Some(parent.clone());
            }
        }
        let asked = Asked { at: now, spread, said };
        if zone.asked.as_ref().is_none_or(|before| before.said != asked.said) {
            tracing::info!(zone = %name, parent = zone.in_words(&asked), "asked the zone above");
        }
        zone.asked = Some(asked);
        zone.heard.is_some()
    }

    /// Orders a new key for a zone: it is made, and there, when the zone is prepared the next time.
    ///
    /// # Errors
    /// There can be none now.
    pub(crate) fn order(&mut self, name: &Name, now: u32) -> Result<(), Error> {
        let zone = self.zones.get_mut(name).ok_or_else(|| NotRolled::Unknown(name.clone()))?;
        if zone.keyset.keys.is_empty() {
            return Err(NotRolled::Unsigned(name.clone()).into());
        }
        let key = Key::generate(&zone.keyset.tags());
        let key = Arc::new(key.map_err(|source| Error::Key { zone: name.clone(), source })?);
        zone.keyset.clone().roll(key.clone(), zone.served, now).map_err(NotRolled::Refused)?;
        zone.ordered = Some(key);
        Ok(())
    }

    /// Takes orders back that could not be followed.
    pub(crate) fn countermand(&mut self) {
        self.zones.values_mut().for_each(|zone| zone.ordered = None);
    }

    /// What a person has to look at, in words: a zone whose parent names other keys, of those that `count`.
    pub(crate) fn trouble(&self, count: impl Fn(&Name) -> bool) -> Option<String> {
        let signed = self.zones.iter().filter(|(name, zone)| !zone.keyset.keys.is_empty() && count(name));
        signed.into_iter().find_map(|(name, zone)| {
            let tags = zone.misnamed.as_ref()?;
            let cure = match zone.keyset.ds() {
                Some(ds) => format!("replace it by {ds}"),
                None => "remove it".to_owned(),
            };
            Some(format!(
                "{name} cannot be resolved by those who validate: the DS record at its registrar names another key (tag {tags}); {cure}"
            ))
        })
    }
}

impl Keyed {
    fn new(keyset: Keyset) -> Self {
        let served = Served { ttl: 0, delay: 0 };
        Self { keyset, signing: None, is_served: true, served, heard: None, ordered: None, asked: None, misnamed: None }
    }

    /// What the parent says, in words.
    fn in_words(&self, asked: &Asked) -> String {
        match &asked.said {
            Err(unclear) => unclear.to_string(),
            Ok(parent) if parent.ds.is_empty() => "it has no DS record".to_owned(),
            Ok(_) if let Some(tags) = &self.misnamed => format!("its DS record names another key (tag {tags})"),
            Ok(parent) => {
                let named = |csk: &&Csk| parent.ds.iter().any(|ds| csk.key.is_named_by(ds, &self.keyset.zone));
                let tags = self.keyset.keys.iter().filter(named).map(|csk| csk.key.tag().to_string());
                format!("its DS record names the key with the tag {}", tags.collect::<Vec<_>>().join(" and that with "))
            }
        }
    }

    /// Says what became of the keys.
    fn log(&self, before: &Keyset) {
        let (zone, next) = (&self.keyset.zone, self.keyset.next());
        if self.keyset.tags() == before.tags() && next == before.next() {
            return;
        }
        let tags = self.keyset.tags();
        match next {
            Next::NoDs => tracing::warn!(
                %zone, "signed still, so that nobody who trusts its DS records loses it: have the registrar remove those"
            ),
            _ if tags.is_empty() => tracing::info!(%zone, "not signed any more"),
            Next::Nothing | Next::Time(_) | Next::Ds(_) => tracing::info!(%zone, ?tags, %next, "keys"),
        }
    }
}
