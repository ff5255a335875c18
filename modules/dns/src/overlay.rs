//! Pure: what updates left of names and types, which stands in place of what a zone says as it is written.
use std::collections::BTreeMap;

use crate::{
    content::{Content, Set},
    name::Name,
    rtype::Rtype,
};

/// What an update left of a name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// The records; none, if they were taken away.
    pub(crate) set: Set,
    /// The key of the last update.
    pub(crate) key: Name,
    /// When that was, in seconds since 1970.
    pub(crate) time: u32,
}

/// What updates left of one zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overlay(pub(crate) BTreeMap<(Name, Rtype), Left>);

impl Overlay {
    /// What was left of a name.
    fn of<'a>(&'a self, owner: &Name) -> impl Iterator<Item = (Rtype, &'a Left)> + use<'a> {
        let all = (owner.clone(), Rtype(0))..=(owner.clone(), Rtype(u16::MAX));
        self.0.range(all).map(|((_, rtype), left)| (*rtype, left))
    }

    /// Whether what the zone says of a name and type counts no more. An alias stands alone, whichever of the two it is that has
    /// come later: the update counts.
    fn hides(&self, owner: &Name, rtype: Rtype) -> bool {
        self.of(owner).any(|(left_of, left)| {
            left_of == rtype || !left.set.data.is_empty() && (left_of == Rtype::CNAME || rtype == Rtype::CNAME)
        })
    }

    /// The records of a name in a zone that is written as `base`.
    pub(crate) fn sets<'a>(&'a self, base: &'a Content, owner: &Name) -> Vec<(Rtype, &'a Set)> {
        let written = base.of(owner).filter(|(rtype, _)| !self.hides(owner, *rtype));
        let left = self.of(owner).map(|(rtype, left)| (rtype, &left.set)).filter(|(_, set)| !set.data.is_empty());
        written.chain(left).collect()
    }

    /// The records of a name and type in a zone that is written as `base`.
    pub(crate) fn set<'a>(&'a self, base: &'a Content, owner: &Name, rtype: Rtype) -> Option<&'a Set> {
        self.sets(base, owner).into_iter().find_map(|(of, set)| (of == rtype).then_some(set))
    }

    /// Leaves something of a name and type; what is as it is written in `base` is left to the zone again.
    pub(crate) fn put(&mut self, base: &Content, owner: &Name, rtype: Rtype, left: Left) {
        let place = (owner.clone(), rtype);
        if base.set(owner, rtype).map_or(left.set.data.is_empty(), |written| *written == left.set) {
            self.0.remove(&place);
        } else {
            self.0.insert(place, left);
        }
    }

    /// Lays it over a zone.
    pub(crate) fn apply(&self, content: &mut Content) {
        for (owner, _) in self.0.keys() {
            let hidden = content.of(owner).map(|(written, _)| written).filter(|written| self.hides(owner, *written));
            for written in hidden.collect::<Vec<_>>() {
                content.remove(owner, written);
            }
        }
        for ((owner, rtype), left) in &self.0 {
            content.put(owner.clone(), *rtype, left.set.clone());
        }
    }

    /// The names and types of which there is something else in `other`.
    pub(crate) fn difference(&self, other: &Self) -> Vec<(Name, Rtype)> {
        let places = self.0.keys().chain(other.0.keys().filter(|place| !self.0.contains_key(*place)));
        places.filter(|place| self.0.get(*place) != other.0.get(*place)).cloned().collect()
    }

    /// Octets of all records.
    pub(crate) fn octets(&self) -> usize {
        let octets = |((owner, _), left): (&(Name, Rtype), &Left)| {
            owner.wire().len() + left.set.data.iter().map(|data| data.len()).sum::<usize>()
        };
        self.0.iter().map(octets).sum()
    }
}
