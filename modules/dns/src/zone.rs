//! Pure: a zone as it is asked, immutable.
use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;

use crate::{
    content::{Content, Record, Set},
    denial::{Chain, Hash, label},
    name::{LONGEST, Name, parent, suffixes},
    rrset::Rrset,
    rtype::Rtype,
};

/// What is asked for by attackers' names, but filled with the zone's own: a fast hash without a secret does.
type Map<V> = HashMap<Box<[u8]>, V, FixedState>;

/// A zone, ready to be asked.
#[derive(Debug)]
pub(crate) struct Zone {
    pub(crate) apex: Name,
    pub(crate) serial: u32,
    /// The SOA record, with the TTL that a negative answer has.
    pub(crate) negative: Rrset,
    /// What proves that something is not there, if the zone is signed.
    pub(crate) chain: Option<Chain>,
    nodes: Map<Node>,
}

/// A name of a zone: one with records, or one above those.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) rrsets: Vec<Rrset>,
    pub(crate) place: Place,
    /// Whether there is a wildcard right below.
    pub(crate) has_wildcard: bool,
    /// Of a cut: the servers of the zone below that this zone may know addresses of.
    pub(crate) servers: Vec<Name>,
}

/// Where a name is in its zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// The zone speaks for it.
    #[default]
    Inside,
    /// Another zone begins here: [RFC 1034, section 4.2.1](https://www.rfc-editor.org/rfc/rfc1034#section-4.2.1).
    Cut,
    /// It is below a cut, or below a DNAME.
    Hidden,
}

impl Node {
    pub(crate) fn get(&self, rtype: Rtype) -> Option<&Rrset> {
        self.rrsets.iter().find(|rrset| rrset.rtype == rtype)
    }
}

impl Zone {
    /// Prepares what `content` holds for queries; `signatures` are the data of RRSIG records by name and type.
    ///
    /// The content has an SOA record at its apex.
    pub(crate) fn new(content: &Content, signed: Option<&Signed>) -> Self {
        let apex = content.apex().clone();
        let none: &[Box<[u8]>] = &[];
        let signatures = |owner: &Name, rtype| {
            signed.and_then(|signed| signed.signatures.get(&(owner.clone(), rtype))).map_or(none, |all| all)
        };
        let mut nodes: Map<Node> = Map::default();
        for (owner, rtype, set) in content.sets() {
            let rrset = Rrset::new(rtype, set, signatures(owner, rtype), apex.wire());
            for name in suffixes(owner.wire()).take_while(|name| name.len() >= apex.wire().len()) {
                // Those above it are there, if only as empty non-terminals: RFC 4592, section 2.2.2.
                nodes.entry(name.into()).or_default();
                // A wildcard too may have no records of its own: RFC 4592, section 4.9.
                if let Some(parent) = name.strip_prefix(b"\x01*").filter(|parent| parent.len() >= apex.wire().len()) {
                    nodes.entry(parent.into()).or_default().has_wildcard = true;
                }
            }
            nodes.get_mut(owner.wire()).expect("just made").rrsets.push(rrset);
        }
        for (owner, ..) in content.sets() {
            for name in suffixes(owner.wire()).take_while(|name| name.len() >= apex.wire().len()) {
                let place = place(&nodes, name, apex.wire());
                nodes.get_mut(name).expect("made above").place = place;
            }
            let node = nodes.get_mut(owner.wire()).expect("the same");
            if node.place == Place::Cut {
                let servers = content.set(owner, Rtype::NS).into_iter().flat_map(|set| &set.data);
                let inside = servers.filter_map(|data| Name::read(data)).filter(|name| name.is_in(apex.wire()));
                node.servers = inside.collect();
            }
        }
        let soa = content.soa().expect("a zone has an SOA record");
        let mut set = content.set(&apex, Rtype::SOA).expect("the same").clone();
        // RFC 2308, section 3: the lesser of the two.
        set.ttl = set.ttl.min(soa.minimum);
        let negative = Rrset::new(Rtype::SOA, &set, signatures(&apex, Rtype::SOA), apex.wire());
        let chain = signed.map(|signed| Chain::new(&signed.denials, apex.wire()));
        Self { apex, serial: soa.serial, negative, chain, nodes }
    }

    /// The name itself or the nearest above it that is there, and what is there; the name is in the zone.
    pub(crate) fn closest<'n>(&self, name: &'n [u8]) -> (&'n [u8], &Node) {
        suffixes(name).find_map(|name| Some((name, self.nodes.get(name)?))).expect("the apex is there")
    }

    pub(crate) fn node(&self, name: &[u8]) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// What the wildcard right below `name` has, if there is one.
    pub(crate) fn wildcard(&self, name: &[u8], node: &Node) -> Option<&Node> {
        let (octets, length) = wildcard(name).filter(|_| node.has_wildcard)?;
        self.node(&octets[..length])
    }

    /// The nearest name above a hidden one that hides it, and what is there.
    pub(crate) fn hiding<'n>(&self, name: &'n [u8]) -> (&'n [u8], &Node) {
        let mut above = suffixes(name).skip(1);
        above
            .find_map(|name| self.nodes.get(name).filter(|node| node.place != Place::Hidden).map(|node| (name, node)))
            .expect("what is hidden is below something that is not")
    }

    /// How many names it has.
    pub(crate) fn names(&self) -> usize {
        self.nodes.len()
    }
}

/// Where a name is, by what is at it and above it.
fn place(nodes: &Map<Node>, name: &[u8], apex: &[u8]) -> Place {
    let is_cut = |name: &[u8]| name != apex && nodes.get(name).is_some_and(|node| node.get(Rtype::NS).is_some());
    let renames = |name| nodes.get(name).is_some_and(|node| node.get(Rtype::DNAME).is_some());
    let mut above = suffixes(name).skip(1).take_while(|name| name.len() >= apex.len());
    match above.any(|name| is_cut(name) || renames(name)) {
        true => Place::Hidden,
        false if is_cut(name) => Place::Cut,
        false => Place::Inside,
    }
}

/// What signing adds to a zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signed {
    /// The data of RRSIG records, by what they sign.
    pub(crate) signatures: HashMap<(Name, Rtype), Vec<Box<[u8]>>>,
    /// The NSEC3 records: the hash in their owner, the record, its signatures.
    pub(crate) denials: Vec<Denial>,
}

/// All records of a zone, the SOA record first, signatures after what they sign.
pub(crate) fn records(content: &Content, signed: Option<&Signed>) -> Vec<Record> {
    let apex = content.apex();
    let mut records = Vec::new();
    let mut add = |owner: &Name, rtype, set: &Set, signatures: &[Box<[u8]>]| {
        let signatures = signatures.iter().map(|data| (Rtype::RRSIG, data));
        for (rtype, data) in set.data.iter().map(|data| (rtype, data)).chain(signatures) {
            records.push(Record { owner: owner.clone(), rtype, ttl: set.ttl, data: data.clone() });
        }
    };
    let is_soa = |(owner, rtype, _): &(&Name, Rtype, &Set)| *rtype == Rtype::SOA && *owner == apex;
    for (owner, rtype, set) in content.sets().filter(is_soa).chain(content.sets().filter(|set| !is_soa(set))) {
        let signatures = signed.and_then(|signed| signed.signatures.get(&(owner.clone(), rtype)));
        add(owner, rtype, set, signatures.map_or(&[], |all| all));
    }
    for denial in signed.iter().flat_map(|signed| &signed.denials) {
        let owner = apex.below(&label(&denial.hash)[1..]).expect("it was signed with that name");
        add(&owner, Rtype::NSEC3, &denial.set, &denial.signatures);
    }
    records
}

/// An NSEC3 record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// The hash that its owner has.
    pub(crate) hash: Hash,
    pub(crate) set: Set,
    pub(crate) signatures: Vec<Box<[u8]>>,
}

/// All zones, at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zones {
    zones: Vec<Arc<Zone>>,
    by_name: Map<usize>,
}

impl Zones {
    /// Those zones, which have different names.
    pub(crate) fn new(zones: Vec<Arc<Zone>>) -> Self {
        let by_name = zones.iter().enumerate().map(|(number, zone)| (zone.apex.wire().into(), number)).collect();
        Self { zones, by_name }
    }

    /// With names of zones that are not here now: they have numbers, but nothing to get by them.
    pub(crate) fn without<'n>(mut self, away: impl IntoIterator<Item = &'n Name>) -> Self {
        let places = self.zones.len()..;
        self.by_name.extend(away.into_iter().map(|zone| zone.wire().into()).zip(places));
        self
    }

    /// The number of the zone with the longest name that `name` is in.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        suffixes(name).find_map(|name| self.by_name.get(name)).copied()
    }

    /// The number of the zone that speaks for `name` at a cut: the one above it, if there is one.
    pub(crate) fn find_above(&self, name: &[u8]) -> Option<usize> {
        parent(name).and_then(|parent| self.find(parent))
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Zone> {
        self.zones.get(number).map(|zone| &**zone)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Zone>> {
        self.zones.iter()
    }
}

/// The wildcard below a name, and its length; none if it would be too long.
pub(crate) fn wildcard(name: &[u8]) -> Option<([u8; LONGEST], usize)> {
    let mut octets = [0; LONGEST];
    octets[..2].copy_from_slice(b"\x01*");
    octets.get_mut(2..2 + name.len())?.copy_from_slice(name);
    Some((octets, 2 + name.len()))
}
