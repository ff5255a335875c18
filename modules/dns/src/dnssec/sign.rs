//! Pure: signing. What a zone holds, keys and the time in; signatures and the proofs of what is not there out:
//! [RFC 4034](https://www.rfc-editor.org/rfc/rfc4034), [RFC 5155](https://www.rfc-editor.org/rfc/rfc5155) with the
//! parameters of [RFC 9276](https://www.rfc-editor.org/rfc/rfc9276): `1 0 0 -`, every name has its NSEC3 record.
use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasher,
    sync::Arc,
};

use foldhash::fast::FixedState;
use hickory_proto::dnssec::DnsSecError;

use crate::{
    content::{Content, Set},
    denial::{self, Hash},
    dnssec::key::{ALGORITHM, Key},
    name::{Name, suffixes},
    rrset::IN,
    rtype::Rtype,
    zone::{Denial, Signed},
};

/// How long before now a signature begins to be good, in seconds: clocks differ.
const BACKDATED: u32 = 60 * 60;
/// Signatures fall due at up to this part of their lifetime before its half: not all at once.
const SPREAD: u32 = 8;
/// They fall due at whole multiples of this part of their lifetime: not each at a time of its own.
const STEPS: u32 = 128;
/// How the chain is made, in NSEC3 and NSEC3PARAM records: SHA-1, no flags, one round, no salt.
pub(crate) const PARAMETERS: [u8; 5] = [1, 0, 0, 0, 0];

/// A signed zone, and when it has to be signed again.
#[derive(Debug)]
pub(crate) struct Signing {
    pub(crate) content: Content,
    pub(crate) signed: Signed,
    /// When the first signature falls due, in seconds since 1970: sign again then.
    pub(crate) refresh: u32,
    /// When the first signature expires, in seconds since 1970.
    pub(crate) expires: u32,
    keys: Vec<Arc<Key>>,
}

/// Why a zone could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// There is no room for the hash of a name before it.
    #[error("{0} cannot be signed: names below it would be too long, and its name cannot have more than 222 octets")]
    LongName(Name),
    /// The system has no randomness to give.
    #[error("{zone} cannot be signed with the key {tag}: {source}")]
    Key {
        /// The zone.
        zone: Name,
        /// Which of its keys.
        tag: u16,
        /// Why not.
        source: DnsSecError,
    },
}

/// Signs `content` at `now` (seconds since 1970) with each of `keys`, for `lifetime` seconds.
///
/// Signatures of `before` stay where the set and the key are still there and they are not yet due, which is before half
/// of their lifetime: no TTL should be longer than that. The content has been
/// [prepared](crate::dnssec::rollover::Keyset::prepare) and there is at least one key.
///
/// # Errors
/// The zone's name is too long, or there is no randomness to sign with.
pub(crate) fn sign(
    content: Content,
    keys: Vec<Arc<Key>>,
    lifetime: u32,
    before: Option<&Signing>,
    now: u32,
) -> Result<Signing, Failed> {
    let before = before.filter(|before| before.content.apex() == content.apex());
    let mut signer =
        Signer { apex: content.apex(), keys: &keys, lifetime, now, before, refresh: u32::MAX, expires: u32::MAX };
    let nodes = nodes(&content);
    let mut signatures = HashMap::with_capacity(nodes.len());
    for node in &nodes {
        for (rtype, set) in node.signed() {
            let kept = before.filter(|before| before.content.set(node.owner, rtype) == Some(set));
            let place = (node.owner.clone(), rtype);
            let kept = kept.and_then(|before| before.signed.signatures.get(&place));
            let fresh = signer.sign(node.owner, rtype, set, kept.map_or(&[], |kept| kept))?;
            signatures.insert(place, fresh);
        }
    }
    let mut denials = Vec::new();
    for (hash, set) in chain(&content, &nodes) {
        let owner = content.apex().below(&denial::label(&hash)[1..]);
        let owner = owner.ok_or_else(|| Failed::LongName(content.apex().clone()))?;
        let fresh = signer.sign(&owner, Rtype::NSEC3, &set, signer.kept_denial(&hash, &set))?;
        denials.push(Denial { hash, set, signatures: fresh });
    }
    let Signer { refresh, expires, .. } = signer;
    Ok(Signing { content, signed: Signed { signatures, denials }, refresh, expires, keys })
}

/// A name that the zone speaks for, or at which another zone begins.
struct Node<'c> {
    owner: &'c Name,
    is_cut: bool,
    sets: Vec<(Rtype, &'c Set)>,
}

impl<'c> Node<'c> {
    /// What is signed: of a cut only what the parent says, [RFC 4035, section 2.2](https://www.rfc-editor.org/rfc/rfc4035#section-2.2).
    fn signed(&self) -> impl Iterator<Item = (Rtype, &'c Set)> {
        self.sets.iter().copied().filter(|(rtype, _)| !self.is_cut || *rtype == Rtype::DS)
    }

    /// The types that its NSEC3 record names: [RFC 5155, section 7.1](https://www.rfc-editor.org/rfc/rfc5155#section-7.1).
    fn types(&self) -> Vec<Rtype> {
        let servers = self.is_cut.then_some(Rtype::NS);
        let signature = self.signed().next().map(|_| Rtype::RRSIG);
        let mut types: Vec<_> = self.signed().map(|(rtype, _)| rtype).chain(servers).chain(signature).collect();
        types.sort_unstable();
        types
    }
}

/// The names with records that are not below a cut or a DNAME.
fn nodes(content: &Content) -> Vec<Node<'_>> {
    let sets: Vec<_> = content.sets().collect();
    let mut hiding: Option<&Name> = None;
    let mut nodes = Vec::new();
    // What is below a name comes right after it.
    for sets in sets.chunk_by(|(one, ..), (other, ..)| one == other) {
        let owner = sets[0].0;
        if hiding.is_some_and(|hiding| owner.is_in(hiding.wire())) {
            continue;
        }
        let sets: Vec<_> = sets.iter().map(|(_, rtype, set)| (*rtype, *set)).collect();
        let has = |wanted| sets.iter().any(|(rtype, _)| *rtype == wanted);
        let is_cut = has(Rtype::NS) && owner != content.apex();
        hiding = (is_cut || has(Rtype::DNAME)).then_some(owner);
        nodes.push(Node { owner, is_cut, sets });
    }
    nodes
}

/// The NSEC3 records, in order: the hash in the owner of each, and the record.
fn chain(content: &Content, nodes: &[Node<'_>]) -> Vec<(Hash, Set)> {
    let apex = content.apex().wire();
    let soa = content.soa().expect("a zone has an SOA record");
    let soa_ttl = content.set(content.apex(), Rtype::SOA).map_or(0, |set| set.ttl);
    // As long as "not there" may be remembered: RFC 9077, section 3.2.
    let ttl = soa.minimum.min(soa_ttl);
    let mut names: HashMap<&[u8], Vec<Rtype>> = HashMap::with_capacity(nodes.len());
    for node in nodes {
        // Those above it are there, if only as empty non-terminals.
        for name in suffixes(node.owner.wire()).take_while(|name| name.len() >= apex.len()) {
            names.entry(name).or_default();
        }
        names.insert(node.owner.wire(), node.types());
    }
    let hashed: BTreeMap<Hash, Vec<Rtype>> =
        names.into_iter().map(|(name, types)| (denial::hash(name), types)).collect();
    let following = hashed.keys().skip(1).chain(hashed.keys().next());
    let record = |((hash, types), next): ((&Hash, &Vec<Rtype>), &Hash)| {
        let data = [&PARAMETERS[..], &[next.len() as u8], next, &bitmap(types)].concat();
        (*hash, Set { ttl, data: vec![data.into()] })
    };
    hashed.iter().zip(following).map(record).collect()
}

/// The hashes of the names that a zone has to have NSEC3 records for, in order.
pub(crate) fn hashes(content: &Content) -> Vec<Hash> {
    chain(content, &nodes(content)).into_iter().map(|(hash, _)| hash).collect()
}

/// Types as a bitmap: [RFC 4034, section 4.1.2](https://www.rfc-editor.org/rfc/rfc4034#section-4.1.2). They are sorted.
fn bitmap(types: &[Rtype]) -> Vec<u8> {
    let mut out = Vec::new();
    for window in types.chunk_by(|one, other| one.0 >> 8 == other.0 >> 8) {
        let mut bits = [0_u8; 32];
        for rtype in window {
            bits[usize::from(rtype.0 >> 3 & 31)] |= 0x80 >> (rtype.0 & 7);
        }
        let used = bits.iter().rposition(|bits| *bits != 0).map_or(0, |last| last + 1);
        out.extend([(window[0].0 >> 8) as u8, used as u8]);
        out.extend(&bits[..used]);
    }
    out
}

/// Makes signatures, and keeps account of when they are due.
struct Signer<'a> {
    apex: &'a Name,
    keys: &'a [Arc<Key>],
    lifetime: u32,
    now: u32,
    before: Option<&'a Signing>,
    refresh: u32,
    expires: u32,
}

impl<'a> Signer<'a> {
    /// The data of the RRSIG records of a set, one of each key: what of `kept` is still good, the others new.
    fn sign(&mut self, owner: &Name, rtype: Rtype, set: &Set, kept: &[Box<[u8]>]) -> Result<Vec<Box<[u8]>>, Failed> {
        let seed = FixedState::default().hash_one((owner, rtype));
        let mut made = Vec::with_capacity(self.keys.len());
        for key in self.keys {
            let was_there = self.before.is_some_and(|before| before.keys.contains(key));
            let mut good = kept.iter().filter(|data| {
                let head = Head::read(data);
                head.tag == key.tag() && head.inception <= self.now && self.now < self.due(&head, seed)
            });
            let data = match good.next().filter(|_| was_there) {
                Some(data) => data.clone(),
                None => self.make(key, owner, rtype, set)?,
            };
            let head = Head::read(&data);
            self.refresh = self.refresh.min(self.due(&head, seed));
            self.expires = self.expires.min(head.expiration);
            made.push(data);
        }
        made.sort_unstable();
        Ok(made)
    }

    /// Signs a set: [RFC 4034, section 3.1.8.1](https://www.rfc-editor.org/rfc/rfc4034#section-3.1.8.1).
    fn make(&self, key: &Key, owner: &Name, rtype: Rtype, set: &Set) -> Result<Box<[u8]>, Failed> {
        let mut data = Vec::with_capacity(18 + self.apex.wire().len() + 64);
        data.extend(rtype.0.to_be_bytes());
        data.extend([ALGORITHM, labels(owner)]);
        data.extend(set.ttl.to_be_bytes());
        data.extend(self.now.saturating_add(self.lifetime).to_be_bytes());
        data.extend(self.now.saturating_sub(BACKDATED).to_be_bytes());
        data.extend(key.tag().to_be_bytes());
        data.extend(self.apex.wire());
        let mut message = data.clone();
        for record in &set.data {
            message.extend(owner.wire());
            message.extend(rtype.0.to_be_bytes());
            message.extend(IN.to_be_bytes());
            message.extend(set.ttl.to_be_bytes());
            message.extend((record.len() as u16).to_be_bytes());
            message.extend(record);
        }
        let signature = key.sign(&message);
        let failed = |source| Failed::Key { zone: self.apex.clone(), tag: key.tag(), source };
        data.extend(signature.map_err(failed)?);
        Ok(data.into())
    }

    /// The signatures that an NSEC3 record had, if it is the same.
    fn kept_denial(&self, hash: &Hash, set: &Set) -> &'a [Box<[u8]>] {
        let Some(before) = self.before else { return &[] };
        let denials = &before.signed.denials;
        let place = denials.binary_search_by_key(hash, |denial| denial.hash);
        let kept = place.ok().map(|place| &denials[place]).filter(|denial| denial.set == *set);
        kept.map_or(&[], |denial| &denial.signatures)
    }

    /// When a signature is to be replaced: some time before half of its lifetime, another one each time.
    fn due(&self, head: &Head, seed: u64) -> u32 {
        let hash = FixedState::default().hash_one((seed, head.expiration));
        let early = (hash % u64::from((self.lifetime / SPREAD).max(1))) as u32;
        let due = head.expiration.saturating_sub(self.lifetime / 2 + early);
        due - due % (self.lifetime / STEPS).max(1)
    }
}

/// What the data of an RRSIG record says of itself.
pub(crate) struct Head {
    pub(crate) expiration: u32,
    inception: u32,
    tag: u16,
}

impl Head {
    /// Reads what [`Signer::make`] wrote, or what is at least as long.
    pub(crate) fn read(data: &[u8]) -> Self {
        let number = |at: usize| u32::from_be_bytes(data[at..at + 4].try_into().expect("four octets"));
        Self { expiration: number(8), inception: number(12), tag: u16::from_be_bytes([data[16], data[17]]) }
    }
}

/// Labels of a name, without the root's and a wildcard's: [RFC 4034, section 3.1.3](https://www.rfc-editor.org/rfc/rfc4034#section-3.1.3).
fn labels(name: &Name) -> u8 {
    let name = name.wire();
    let all = suffixes(name).count() - 1;
    (all - usize::from(name.starts_with(b"\x01*"))) as u8
}
