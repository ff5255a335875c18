//! One change is one new snapshot of everything: what there is, numbered, signed, kept on disk, and served.
use std::{collections::BTreeMap, sync::Arc};

use super::{Kept, now};
use crate::{
    Error,
    content::{Content, Record, Set},
    dnssec::rollover::Parent,
    name::Name,
    own,
    parent::UNSEEN,
    rtype::Rtype,
    secondary::replica::Replica,
    serve::Shared,
    state::Source,
    written::Written,
    zone::{self, Signed, Zone, Zones},
};

impl Kept {
    /// Changes what there is, gives serial numbers, keeps them, and serves the result.
    ///
    /// # Errors
    /// Something cannot be kept, or a zone cannot be signed; what was served is served still.
    pub(super) fn change(&mut self, shared: &Shared, change: impl FnOnce(&mut Self)) -> Result<(), Error> {
        let before = (self.wanted.clone(), self.overlays.clone(), self.published.clone());
        let mirrored = self.mirrored.clone();
        change(self);
        let served = self.serve(shared, &before.0.written);
        served.inspect_err(|_| {
            (self.wanted, self.overlays, self.published) = before;
            self.mirrored = mirrored;
        })
    }

    /// What the parent of a zone says, if it is served here.
    pub(super) fn parent_of(&self, zone: &Name) -> Option<Parent> {
        let above = |content: &&Content| content.apex() != zone && zone.is_in(content.apex().wire());
        let parent = self.contents.iter().filter(above).max_by_key(|content| content.apex().wire().len())?;
        // Between the two there may be a zone of somebody else.
        let between = std::iter::successors(zone.above(), Name::above).take_while(|name| name != parent.apex());
        let is_theirs = between.into_iter().any(|name| parent.set(&name, Rtype::NS).is_some());
        let none = || Set { ttl: UNSEEN, data: Vec::new() };
        let of_zone = parent.set(zone, Rtype::DS).cloned().unwrap_or_else(none);
        (!is_theirs).then_some(Parent { ds: of_zone.data, ttl: of_zone.ttl })
    }

    /// What a zone that is served holds.
    pub(super) fn content(&self, zone: &Name) -> Option<&Content> {
        self.contents.iter().find(|content| content.apex() == zone)
    }

    /// All records of a zone, with what signing adds to it, the SOA record first.
    pub(super) fn records(&self, content: &Content) -> Vec<Record> {
        zone::records(content, self.signed(content.apex()))
    }

    /// What signing added to a zone, here or elsewhere.
    pub(super) fn signed(&self, zone: &Name) -> Option<&Signed> {
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
            // Whom a person trusts is for that person to say.
            let is_settled = *rtype == Rtype::CAA && (zone.file.is_some() || content.set(owner, *rtype).is_some());
            if is_settled {
                continue;
            }
            if owner.is_in(content.apex().wire()) && !self.wanted.written.iter().any(is_nearer) {
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
        let (mut before, mut signings) = (Vec::new(), Vec::new());
        for zone in &self.wanted.written {
            let mut content = self.content_of(zone);
            let is_signed = self.signatures.prepare(&mut content, self.wanted.dnssec, now)?;
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
            zones.push(match self.served(shared, &content, is_signed).filter(|_| !grows) {
                Some(zone) => zone,
                None => {
                    before.extend(self.earlier(content.apex()));
                    let signing = if is_signed { Some(self.signatures.sign(&content, now)?) } else { None };
                    let zone = Zone::new(&content, signing.as_ref().map(|signing| &signing.signed));
                    signings.extend(signing);
                    Arc::new(zone)
                }
            });
            contents.push(content);
        }
        let here =
            self.mirrored.iter().filter_map(|(zone, replica)| Some((zone.clone(), Arc::clone(replica.as_ref()?))));
        let presigned = self.wanted.presigned.iter().map(|(zone, replica)| (zone.clone(), self.latest(zone, replica)));
        let elsewhere: BTreeMap<_, _> = here.chain(presigned).collect();
        for (zone, replica) in &elsewhere {
            if !self.elsewhere.get(zone).is_some_and(|before| Arc::ptr_eq(before, replica)) {
                before.extend(self.earlier(zone));
            }
            zones.push(Arc::clone(&replica.zone));
            contents.push(replica.content.clone());
        }
        // No answer is given with a serial number that might be given again.
        self.serials.keep(given)?;
        // And none with what could be gone after a crash. It is last, so that what fails leaves no trace.
        self.ledger.keep(&self.overlays)?;
        self.signatures.adopt(signings);
        self.signatures.retain(|zone| self.wanted.written.iter().any(|written| written.content.apex() == zone));
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

    /// A zone of which the file is signed: what is served already, if nothing is different.
    fn latest(&self, zone: &Name, replica: &Arc<Replica>) -> Arc<Replica> {
        match self.elsewhere.get(zone) {
            Some(before) if before.is_like(replica) => Arc::clone(before),
            Some(before) if before.soa.serial == replica.soa.serial => {
                let serial = replica.soa.serial;
                tracing::warn!(%zone, serial, "its signed file changed, its serial number did not: secondaries do not see that");
                Arc::clone(replica)
            }
            Some(_) | None => Arc::clone(replica),
        }
    }

    /// The zone that is served already, if it has just that content, signed or not: another zone may be what has changed.
    fn served(&self, shared: &Shared, content: &Content, is_signed: bool) -> Option<Arc<Zone>> {
        let apex = content.apex();
        let is_same = self.contents.contains(content)
            && self.signatures.signed(apex).is_some() == is_signed
            && !self.elsewhere.contains_key(apex);
        shared.zones.load().iter().find(|zone| is_same && zone.apex == *apex).cloned()
    }

    /// A zone with all its records, as it is served until now.
    fn earlier(&self, zone: &Name) -> Option<(Name, Vec<Record>)> {
        let content = self.contents.iter().find(|content| content.apex() == zone)?;
        Some((zone.clone(), self.records(content)))
    }

    /// Keeps what changed since those zones were what they were before.
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
