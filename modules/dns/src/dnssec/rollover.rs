//! Pure: which keys a zone has, what its parent is to say of them, and how one takes the place of another.
//!
//! # Why both keys sign
//! The key signs the records and is named by the parent, so it is replaced by the double-signature rollover of
//! [RFC 6781, section 4.1.3](https://www.rfc-editor.org/rfc/rfc6781#section-4.1.3): both keys are published and both sign
//! until no cache has anything left that needs the old one. With two DS records instead (double-DS) every signature of
//! the zone would have to change hands at one moment, while caches hold keys of before and records of after. Doubled
//! signatures cost some octets for a few days, and the parent changes once.
//!
//! # What may be cached
//! A validator may have the keys, the records with their signatures and the DS records each as they were at different
//! moments. It is never without a path because
//! - nobody is told to name a new key before everything that was served without it has left the caches, and
//! - an old key stays, and signs, until every DS record from before the parent named the new one has left the caches.
use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    content::{Content, Set},
    dnssec::{
        key::{Ds, Key},
        sign::PARAMETERS,
    },
    name::Name,
    rtype::Rtype,
};

/// How long DNSKEY, CDS, CDNSKEY and NSEC3PARAM records may be kept, in seconds.
pub(crate) const TTL: u32 = 60 * 60;
/// What a CDS and a CDNSKEY record say to have the DS records taken away: [RFC 8078, section 4](https://www.rfc-editor.org/rfc/rfc8078#section-4).
const DELETE_CDS: [u8; 5] = [0, 0, 0, 0, 0];
const DELETE_CDNSKEY: [u8; 5] = [0, 0, 3, 0, 0];

/// The keys of a zone and where they stand. What it says of itself goes into every copy of the zone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Keyset {
    pub(crate) zone: Name,
    /// One, or an old one and the one that takes its place. None: the zone is served without signatures.
    pub(crate) keys: Vec<Csk>,
    /// Whether, and how far, signing comes to its end.
    pub(crate) withdrawal: Option<Withdrawal>,
    /// The longest TTLs there ever were in the zone and on DS records at its parent, in seconds: caches may still go by them.
    pub(crate) longest: Longest,
}

/// A key that signs all of a zone: a combined signing key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Csk {
    pub(crate) key: Arc<Key>,
    /// When it was made, in seconds since 1970.
    pub(crate) created: u32,
    pub(crate) stage: Stage,
}

/// Where a key stands, in the words of [RFC 7583, section 3.1](https://www.rfc-editor.org/rfc/rfc7583#section-3.1). In all
/// stages it is in the zone and signs; a key that is removed is no longer here. Times are in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Stage {
    /// Caches may have something that was served without it.
    Published {
        /// When they no longer have.
        until: u32,
    },
    /// The parent may name it, and does not yet.
    Ready,
    /// The parent names it.
    Active,
    /// The parent names its successor, but caches may have what the parent said before.
    Retired {
        /// When they no longer have.
        until: u32,
    },
}

/// Signing comes to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Withdrawal {
    /// When no cache has a DS record any more, in seconds since 1970; none while the parent has one.
    pub(crate) until: Option<u32>,
}

/// TTLs in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Longest {
    pub(crate) zone: u32,
    pub(crate) parent: u32,
}

/// What a zone's servers serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// The longest TTL in the zone, in seconds: [`Content::longest_ttl`].
    pub(crate) ttl: u32,
    /// How long a change needs to reach all servers of the zone, or of its parent, in seconds.
    pub(crate) delay: u32,
}

/// The DS records of a zone, as all servers of its parent have them now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parent {
    /// Their data; empty if there are none.
    pub(crate) ds: Vec<Box<[u8]>>,
    /// Their TTL in seconds, as the parent's own servers say it; without DS records that of its negative answer.
    pub(crate) ttl: u32,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// Caches have to forget; until then, in seconds since 1970.
    Time(u32),
    /// The parent has to have this DS record, and no other.
    Ds(Ds),
    /// The parent has to take the DS records away.
    NoDs,
}

/// What a person has to do.
impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("there is nothing to do"),
            Self::Time(_) => f.write_str("there is nothing to do: caches have to forget what was there before"),
            Self::Ds(ds) => write!(f, "make this the only DS record of the zone at your registrar: {ds}"),
            Self::NoDs => f.write_str(
                "take all DS records of the zone away at your registrar: it stays signed until every cache has forgotten them",
            ),
        }
    }
}

/// Why there is no other key now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// One thing at a time.
    #[error("a new key is on its way already: `kube dns ds` says what it waits for")]
    Rolling,
    /// There is to be no key.
    #[error("signing is being turned off: turn it on again first")]
    Withdrawn,
}

impl Keyset {
    /// A zone without keys.
    pub(crate) fn new(zone: Name) -> Self {
        Self { zone, keys: Vec::new(), withdrawal: None, longest: Longest::default() }
    }

    /// Begins with `key`, or to replace with it the key that is there, in a zone that was served as `served` says until `now`.
    ///
    /// # Errors
    /// A key is on its way already, or signing is being turned off.
    pub(crate) fn roll(&mut self, key: Arc<Key>, served: Served, now: u32) -> Result<(), Refused> {
        match (&*self.keys, self.withdrawal) {
            (_, Some(_)) => return Err(Refused::Withdrawn),
            ([] | [Csk { stage: Stage::Active, .. }], None) => {}
            _ => return Err(Refused::Rolling),
        }
        let until = self.forgotten(served, now);
        self.keys.push(Csk { key, created: now, stage: Stage::Published { until } });
        Ok(())
    }

    /// Lets caches count from `now` for a key that was not served until then, or may not have been.
    pub(crate) fn postpone(&mut self, served: Served, now: u32) {
        let earliest = self.forgotten(served, now);
        for csk in &mut self.keys {
            if let Stage::Published { until } = &mut csk.stage {
                *until = earliest.max(*until);
            }
        }
    }

    /// When no cache has anything any more of what is served until `now`.
    fn forgotten(&mut self, served: Served, now: u32) -> u32 {
        self.longest.zone = self.longest.zone.max(served.ttl).max(TTL);
        now.saturating_add(self.longest.zone).saturating_add(served.delay)
    }

    /// Says whether the zone is to be signed at all. Signing ends once the parent has no DS record left.
    pub(crate) fn want(&mut self, signed: bool) {
        self.withdrawal = if signed { None } else { Some(self.withdrawal.unwrap_or_default()) };
    }

    /// Goes as far as `now` and what the parent says allow; none if the parent could not be asked just now. Says whether
    /// anything changed: then the keys are to be written to disk first, and the zone prepared and signed again after that.
    pub(crate) fn step(&mut self, served: Served, parent: Option<&Parent>, now: u32) -> bool {
        let before = self.clone();
        self.longest.zone = self.longest.zone.max(served.ttl);
        for csk in &mut self.keys {
            if matches!(csk.stage, Stage::Published { until } if until <= now) {
                csk.stage = Stage::Ready;
            }
        }
        if let Some(parent) = parent {
            self.longest.parent = self.longest.parent.max(parent.ttl);
            let until = now.saturating_add(self.longest.parent).saturating_add(served.delay);
            self.replace(parent, until, now);
            self.end(parent, until, now);
        }
        *self != before
    }

    /// Retires the old key when the parent names the new one, and removes it when no cache can need it.
    fn replace(&mut self, parent: &Parent, until: u32, now: u32) {
        let Some((new, old)) = self.keys.split_last_mut() else { return };
        let is_named = parent.ds.iter().any(|ds| new.key.is_named_by(ds, &self.zone));
        match (new.stage, is_named) {
            (Stage::Ready, true) => {
                new.stage = Stage::Active;
                old.iter_mut().for_each(|old| old.stage = Stage::Retired { until });
            }
            // The parent went back to what it said before.
            (Stage::Active, false) => {
                new.stage = Stage::Ready;
                old.iter_mut().for_each(|old| old.stage = Stage::Active);
            }
            (Stage::Active, true) => {
                self.keys.retain(|csk| !matches!(csk.stage, Stage::Retired { until } if until <= now));
            }
            (Stage::Ready, false) | (Stage::Published { .. } | Stage::Retired { .. }, _) => {}
        }
    }

    /// Drops the keys if that is wanted, and no cache can have a DS record.
    fn end(&mut self, parent: &Parent, until: u32, now: u32) {
        let Some(withdrawal) = &mut self.withdrawal else { return };
        if !parent.ds.is_empty() {
            withdrawal.until = None;
        } else if *withdrawal.until.get_or_insert(until) <= now {
            self.keys.clear();
        }
    }

    /// The keys that sign.
    pub(crate) fn signing(&self) -> Vec<Arc<Key>> {
        self.keys.iter().map(|csk| csk.key.clone()).collect()
    }

    /// The tags of the keys: a new key has another.
    pub(crate) fn tags(&self) -> Vec<u16> {
        self.keys.iter().map(|csk| csk.key.tag()).collect()
    }

    /// The key that the parent is to name: the newest that is far enough.
    fn named(&self) -> Option<&Csk> {
        self.keys.iter().rev().find(|csk| !matches!(csk.stage, Stage::Published { .. }))
    }

    /// What the parent is to be told; none while it is to have no DS record.
    pub(crate) fn ds(&self) -> Option<Ds> {
        let named = self.named().filter(|_| self.withdrawal.is_none())?;
        Some(named.key.describe(&self.zone))
    }

    /// What comes next, and what it takes.
    pub(crate) fn next(&self) -> Next {
        match self.withdrawal {
            _ if self.keys.is_empty() => return Next::Nothing,
            Some(Withdrawal { until: Some(until) }) => return Next::Time(until),
            Some(Withdrawal { until: None }) => return Next::NoDs,
            None => {}
        }
        let times = self.keys.iter().filter_map(|csk| match csk.stage {
            Stage::Published { until } | Stage::Retired { until } => Some(until),
            Stage::Ready | Stage::Active => None,
        });
        match (self.named(), times.min()) {
            (Some(Csk { stage: Stage::Ready, key, .. }), _) => Next::Ds(key.describe(&self.zone)),
            (_, Some(until)) => Next::Time(until),
            (_, None) => Next::Nothing,
        }
    }

    /// When time alone takes a key further, in seconds since 1970.
    pub(crate) fn due(&self) -> Option<u32> {
        let published = self.keys.iter().filter_map(|csk| match csk.stage {
            Stage::Published { until } => Some(until),
            Stage::Ready | Stage::Active | Stage::Retired { .. } => None,
        });
        published.min()
    }

    /// Puts DNSKEY, CDS, CDNSKEY and NSEC3PARAM records at the apex of `content`, and takes away what only a signer adds.
    /// Without a key the content stays as it is: it may have been signed elsewhere.
    ///
    /// CDS and CDNSKEY say what the DS records should be: [RFC 7344](https://www.rfc-editor.org/rfc/rfc7344) and
    /// [RFC 8078](https://www.rfc-editor.org/rfc/rfc8078). Parents that look for them need no person.
    pub(crate) fn prepare(&self, content: &mut Content) {
        if self.keys.is_empty() {
            return;
        }
        let foreign = |rtype| matches!(rtype, Rtype::RRSIG | Rtype::NSEC | Rtype::NSEC3);
        let foreign: Vec<_> = content
            .sets()
            .filter(|(_, rtype, _)| foreign(*rtype))
            .map(|(owner, rtype, _)| (owner.clone(), rtype))
            .collect();
        for (owner, rtype) in foreign {
            content.remove(&owner, rtype);
        }
        let named = self.named();
        let (cds, cdnskey) = match self.withdrawal {
            Some(_) => (Some(DELETE_CDS.into()), Some(DELETE_CDNSKEY.into())),
            None => (named.map(|csk| csk.key.ds(&self.zone)), named.map(|csk| csk.key.dnskey().into())),
        };
        let sets: [(Rtype, Vec<Box<[u8]>>); 4] = [
            (Rtype::DNSKEY, self.keys.iter().map(|csk| csk.key.dnskey().into()).collect()),
            (Rtype::CDS, cds.into_iter().collect()),
            (Rtype::CDNSKEY, cdnskey.into_iter().collect()),
            (Rtype::NSEC3PARAM, vec![PARAMETERS.into()]),
        ];
        for (rtype, data) in sets {
            content.put(content.apex().clone(), rtype, Set { ttl: TTL, data });
        }
    }
}

impl Content {
    /// The longest TTL of its records, in seconds.
    pub(crate) fn longest_ttl(&self) -> u32 {
        self.sets().map(|(_, _, set)| set.ttl).max().unwrap_or_default()
    }
}
