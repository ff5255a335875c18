use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
};

use data_encoding::BASE32HEX_NOPAD;

use super::{
    validator::{Validator, keys, records, signatures},
    *,
};
use crate::{
    content::Soa,
    dnssec::{
        keys::{read, write},
        rollover::{Next, Parent, Refused, Stage, TTL},
    },
};

const HOUR: u32 = 60 * 60;
/// How long the slowest server of the zone, or of its parent, serves what was replaced.
const DELAY: u32 = 2 * HOUR;

/// What caches can have of something at most: each version of it, and until when that was served.
struct Versions<T> {
    all: Vec<(T, u32, u32)>,
}

impl<T: PartialEq> Versions<T> {
    /// Serves `version` from `now` on.
    fn serve(&mut self, version: T, ttl: u32, now: u32) {
        if let Some((current, old_ttl, until)) = self.all.last_mut() {
            *until = now;
            if *current == version && *old_ttl == ttl {
                return;
            }
        }
        self.all.retain(|(_, ttl, until)| until + DELAY + ttl > now);
        self.all.push((version, ttl, now));
    }

    /// What may be in caches.
    fn cached(&self, now: u32) -> impl Iterator<Item = &T> {
        let last = self.all.len() - 1;
        let all = self.all.iter().enumerate();
        all.filter(move |(place, (_, ttl, until))| *place == last || until + DELAY + ttl > now).map(|(_, (of, ..))| of)
    }
}

impl<T> Default for Versions<T> {
    fn default() -> Self {
        Self { all: Vec::new() }
    }
}

/// A set with the data of its signatures; none if it is not there.
type Version = Option<(Set, Vec<Box<[u8]>>)>;
/// Whether a key made a signature: what of both is asked again at each hour.
type Verified = RefCell<HashMap<(Box<[u8]>, Box<[u8]>), bool>>;

/// All validators of the world: each has anything that it can have.
#[derive(Default)]
struct World {
    ds: Versions<Vec<Box<[u8]>>>,
    sets: BTreeMap<(Name, Rtype), Versions<Version>>,
    verified: Verified,
}

impl World {
    /// Serves a zone, signed or not.
    fn serve(&mut self, content: &Content, signing: Option<&Signing>, now: u32) {
        let mut now_there: BTreeMap<(Name, Rtype), Version> = BTreeMap::new();
        for (owner, rtype, set) in content.sets() {
            let place = (owner.clone(), rtype);
            let data = signing.and_then(|signing| signing.signed.signatures.get(&place)).cloned().unwrap_or_default();
            now_there.insert(place, Some((set.clone(), data)));
        }
        for denial in signing.iter().flat_map(|signing| &signing.signed.denials) {
            let owner = content.apex().below(BASE32HEX_NOPAD.encode(&denial.hash).as_bytes()).unwrap();
            now_there.insert((owner, Rtype::NSEC3), Some((denial.set.clone(), denial.signatures.clone())));
        }
        for place in now_there.keys() {
            self.sets.entry(place.clone()).or_default();
        }
        let Soa { minimum, .. } = content.soa().unwrap();
        for (place, versions) in &mut self.sets {
            let version = now_there.remove(place).flatten();
            let ttl = version.as_ref().map_or(minimum, |(set, _)| set.ttl);
            versions.serve(version, ttl, now);
        }
    }

    /// Whether one of `keys` made a signature of a set that is good `now`.
    fn is_signed(&self, place: &(Name, Rtype), version: &Version, keys: &[&[u8]], now: u32) -> bool {
        let Some((set, data)) = version else { return false };
        let apex = name("example");
        data.iter().any(|data| {
            let number = |at: usize| u32::from_be_bytes(data[at..at + 4].try_into().unwrap());
            (number(12)..number(8)).contains(&now)
                && keys.iter().any(|key| {
                    let asked = ((*key).into(), data.clone());
                    *self.verified.borrow_mut().entry(asked).or_insert_with(|| {
                        let key = validator::keys(&apex, &Set { ttl: TTL, data: vec![(*key).into()] });
                        let validator = Validator { apex: apex.clone(), keys: key, now };
                        let signatures = signatures(&place.0, set.ttl, std::slice::from_ref(data));
                        validator.verify(&records(&place.0, place.1, set), &signatures).is_some()
                    })
                })
        })
    }

    /// Whether the zone is good for every validator, whatever it has kept.
    fn check(&self, now: u32) -> Result<(), String> {
        let apex = name("example");
        let trusted: Vec<_> = self.ds.cached(now).filter(|ds| !ds.is_empty()).collect();
        if trusted.is_empty() {
            return Ok(());
        }
        let place = (apex.clone(), Rtype::DNSKEY);
        for version in self.sets[&place].cached(now) {
            let all: Vec<&[u8]> = version.iter().flat_map(|(set, _)| &set.data).map(|data| &**data).collect();
            for ds in &trusted {
                let named: Vec<&[u8]> = all.iter().copied().filter(|key| ds.iter().any(|ds| names(ds, key))).collect();
                if !self.is_signed(&place, version, &named, now) {
                    return Err(format!("no key of {} is named by {ds:?}", all.len()));
                }
            }
            for (place, versions) in self.sets.iter().filter(|((_, rtype), _)| *rtype != Rtype::DNSKEY) {
                // What was not there has its proof in other records.
                let mut cached = versions.cached(now).filter(|version| version.is_some());
                if let Some(version) = cached.find(|version| !self.is_signed(place, version, &all, now)) {
                    return Err(format!("{place:?}: {version:?} is not signed by a key"));
                }
            }
        }
        Ok(())
    }
}

/// Whether a DS record names a key: its tag and digest, made by the other library.
fn names(ds: &[u8], key: &[u8]) -> bool {
    let key = keys(&name("example"), &Set { ttl: TTL, data: vec![key.into()] }).remove(0);
    let digest = key.to_digest(&"example.".parse().unwrap(), hickory_proto::dnssec::DigestType::SHA256).unwrap();
    ds[..4] == [&key.calculate_key_tag().unwrap().to_be_bytes()[..], &[13, 2]].concat() && ds[4..] == *digest.as_ref()
}

const SMALL: &str = "$ORIGIN example.
@ 3600 SOA . . 1 1 1 1 3600
@ 3600 NS ns
ns 86400 A 192.0.2.1
*.w 60 TXT \"w\"
old 3600 DNAME w
";

/// What the person at the registrar has been told to do.
type Task = Option<(u32, Vec<Box<[u8]>>)>;

/// What differs between two histories of a zone.
struct History {
    zone: String,
    /// How long the parent takes to do as it is told, in each third of the time.
    lags: [u32; 3],
    /// What its TTLs are, by turns.
    parent: [u32; 2],
}

#[test]
fn sixty_days_are_good_for_every_validator_at_each_hour_with_a_slow_parent() {
    sixty_days(&History { zone: SMALL.into(), lags: [3 * HOUR, 6 * DAY, HOUR], parent: [DAY, HOUR] });
}

#[test]
fn sixty_days_are_good_for_every_validator_at_each_hour_with_a_fast_parent() {
    sixty_days(&History { zone: SMALL.into(), lags: [0; 3], parent: [60, 60] });
}

#[test]
fn sixty_days_are_good_for_every_validator_at_each_hour_with_short_ttls() {
    sixty_days(&History { zone: SMALL.replace("86400", "60"), lags: [0; 3], parent: [60, 60] });
}

/// A first key, two rollovers, and the end of signing.
fn sixty_days(history: &History) {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::default();
    let mut content = text::read(history.zone.as_bytes(), None).unwrap();
    let mut keyset = Keyset::new(name("example"));
    let mut signing: Option<Signing> = None;
    let (mut parent, mut task): (Parent, Task) = (Parent { ds: Vec::new(), ttl: history.parent[0] }, None);
    let mut stages = Vec::new();
    let mut tags = std::collections::BTreeSet::new();
    for hour in 0..60 * 24 {
        let now = NOW + hour * HOUR;
        let served = Served { ttl: content.longest_ttl(), delay: DELAY };
        let mut changed = hour == 0;
        match hour {
            30 => keyset.roll(key(), served, now).unwrap(),
            // The longest TTL goes down right before a rollover: what is cached has the old one.
            239 => {
                let set = content.set(&name("ns.example"), Rtype::A).unwrap().clone();
                content.put(name("ns.example"), Rtype::A, Set { ttl: 60, ..set });
            }
            240 | 700 => {
                let key = Arc::new(Key::generate(&keyset.tags()).unwrap());
                keyset.roll(key.clone(), served, now).unwrap();
                assert_eq!(keyset.roll(key, served, now), Err(Refused::Rolling));
            }
            1150 => keyset.want(false),
            _ => {}
        }
        changed |= matches!(hour, 30 | 239 | 240 | 700 | 1150);
        if hour % 13 == 0 {
            content.put(name("changing.example"), Rtype::A, Set { ttl: 1800, data: vec![hour.to_be_bytes().into()] });
            changed = true;
        }
        // The parent does what it is told: at once, or after days.
        let lag = history.lags[(hour / 480) as usize];
        let wanted = match keyset.next() {
            Next::Ds(_) => Some(vec![keyset.keys.last().unwrap().key.ds(&keyset.zone)]),
            Next::NoDs => Some(Vec::new()),
            Next::Nothing | Next::Time(_) => None,
        };
        if let Some(wanted) = wanted.filter(|wanted| task.is_none() && *wanted != parent.ds) {
            task = Some((now + lag, wanted));
        }
        if let Some((_, ds)) = task.take_if(|(at, _)| *at <= now) {
            parent = Parent { ttl: history.parent[usize::from(hour > 600)], ds };
        }
        // Sometimes it cannot be asked.
        changed |= keyset.step(served, Some(&parent).filter(|_| hour % 7 != 3), now);
        if changed {
            write(folder.path(), &keyset).unwrap();
            assert_eq!(read(folder.path(), &keyset.zone).unwrap().unwrap(), keyset);
        }
        tags.extend(keyset.tags());
        let now_at: Vec<_> = keyset.keys.iter().map(|csk| std::mem::discriminant(&csk.stage)).collect();
        if stages.last() != Some(&now_at) {
            stages.push(now_at);
        }
        if keyset.keys.is_empty() {
            signing = None;
            world.serve(&content, None, now);
        } else {
            let is_due = signing.as_ref().is_none_or(|signing| signing.refresh <= now);
            if changed || is_due {
                let mut content = content.clone();
                keyset.prepare(&mut content);
                // A restart now and then: nothing is left of the signatures.
                let before = signing.as_ref().filter(|_| hour % 500 != 0);
                signing = Some(sign(content, keyset.signing(), LIFETIME, before, now).unwrap());
            }
            let signing = signing.as_ref().unwrap();
            assert!(signing.refresh > now && signing.expires > now + LIFETIME / 3);
            world.serve(&signing.content, Some(signing), now);
        }
        world.ds.serve(parent.ds.clone(), parent.ttl, now);
        world.check(now).unwrap_or_else(|reason| panic!("hour {hour}, {:?}: {reason}", keyset.keys));
    }
    assert_eq!((tags.len(), keyset.keys.len(), keyset.next()), (3, 0, Next::Nothing));
    let [published, ready, active, retired] =
        [Stage::Published { until: 0 }, Stage::Ready, Stage::Active, Stage::Retired { until: 0 }]
            .map(|stage| std::mem::discriminant(&stage));
    let roll = [vec![active, published], vec![active, ready], vec![retired, active], vec![active]];
    let first = [vec![], vec![published], vec![ready], vec![active]];
    // The parent lets go of the last key before the zone does.
    let end = [vec![ready], vec![]];
    let expected = [&first[..], &roll, &roll, &end].concat();
    // A parent that is fast may have done it within the hour.
    assert!(stages.iter().all(|stage| expected.contains(stage)) && stages.len() >= 10, "{stages:?}");
}

#[test]
fn the_model_sees_what_is_done_in_haste() {
    let first = signed(text::read(SMALL.as_bytes(), None).unwrap());
    let second = signed(text::read(SMALL.as_bytes(), None).unwrap());
    let ds = |signing: &Signing| {
        let key = &signing.content.set(&name("example"), Rtype::CDS);
        assert!(key.is_none(), "the parent is to say nothing yet");
        let keys = signing.content.set(&name("example"), Rtype::DNSKEY).unwrap();
        let key = validator::keys(&name("example"), keys).remove(0);
        let digest = key.to_digest(&"example.".parse().unwrap(), hickory_proto::dnssec::DigestType::SHA256).unwrap();
        vec![[&key.calculate_key_tag().unwrap().to_be_bytes()[..], &[13, 2], digest.as_ref()].concat().into()]
    };
    let mut world = World::default();
    world.serve(&first.content, Some(&first), NOW);
    world.ds.serve(ds(&first), DAY, NOW);
    world.check(NOW).unwrap();
    world.serve(&second.content, Some(&second), NOW + HOUR);
    assert!(world.check(NOW + HOUR).is_err(), "the key is not named");
    world.ds.serve(ds(&second), DAY, NOW + HOUR);
    assert!(world.check(NOW + HOUR).is_err(), "the old DS record and the old keys are cached");
    assert!(world.check(NOW + 20 * HOUR).is_err(), "the old DS record is cached");
    world.check(NOW + 2 * DAY).unwrap();
    world.serve(&text::read(SMALL.as_bytes(), None).unwrap(), None, NOW + 3 * DAY);
    assert!(world.check(NOW + 3 * DAY).is_err(), "signatures are gone, the DS record is not");
    assert!(first.expires < NOW + 15 * DAY && world.check(NOW + 15 * DAY).is_err());
}
