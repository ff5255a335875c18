//! What clients hear of the heads that other clients have stored.
//!
//! A client [subscribes](Subscriptions) to the storage ids of others, and hears of their heads in the documents that it has
//! open: what a connected one says of itself, and what others pass on of those that are elsewhere. Newer replaces older, by the
//! time that was sent along. What is [wanted](Wanted) here is wanted of other KUBEs too, so that clients of both hear of each
//! other. All that is remembered counts towards one bound.
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use automerge::ChangeHash;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::wire::RemoteHeads;

/// How many bytes all that is remembered may have.
pub(crate) const ROOM: usize = 32 << 20;
/// Storage ids that one connection may subscribe to.
const SUBSCRIPTIONS: usize = 1000;
/// Stores that are remembered for one document; then the one that was silent longest is forgotten.
const STORES: usize = 32;
/// Heads of one store: more are not passed on.
const HEADS: usize = 32;
/// What one thing that is remembered costs beside its text.
const OVERHEAD: usize = 128;

/// The storage ids that a connection wants to hear of.
#[derive(Default)]
pub(crate) struct Subscriptions(Mutex<Subscribed>);

#[derive(Default)]
struct Subscribed {
    ids: HashSet<Arc<str>>,
    room: Option<OwnedSemaphorePermit>,
}

impl Subscriptions {
    fn lock(&self) -> MutexGuard<'_, Subscribed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds some, as many as there is room for; gives those that are new.
    pub(crate) fn add(&self, ids: &[&str], room: &Arc<Semaphore>) -> Vec<Arc<str>> {
        let mut subscribed = self.lock();
        let mut added = Vec::new();
        for id in ids {
            if subscribed.ids.len() >= SUBSCRIPTIONS || subscribed.ids.contains(*id) {
                continue;
            }
            let Some(taken) = take(room, id.len()) else { break };
            match &mut subscribed.room {
                Some(room) => room.merge(taken),
                none => *none = Some(taken),
            }
            let id: Arc<str> = (*id).into();
            subscribed.ids.insert(Arc::clone(&id));
            added.push(id);
        }
        added
    }

    /// Takes some away; gives those that were there.
    pub(crate) fn remove(&self, ids: &[&str]) -> Vec<Arc<str>> {
        let mut subscribed = self.lock();
        let removed: Vec<Arc<str>> = ids.iter().filter_map(|id| subscribed.ids.take(*id)).collect();
        if let Some(room) = &mut subscribed.room {
            removed.iter().for_each(|id| drop(room.split(id.len() + OVERHEAD)));
        }
        removed
    }

    /// Takes all away; gives them.
    pub(crate) fn take(&self) -> Vec<Arc<str>> {
        let mut subscribed = self.lock();
        subscribed.room = None;
        subscribed.ids.drain().collect()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().ids.is_empty()
    }

    /// Whether one is among them.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.lock().ids.contains(id)
    }
}

/// The storage ids that connections of each space want to hear of, and how many do: other KUBEs are asked for them.
#[derive(Default)]
pub(crate) struct Wanted(Mutex<Spaces>);

type Spaces = HashMap<Arc<str>, HashMap<Arc<str>, usize>>;

impl Wanted {
    fn lock(&self) -> MutexGuard<'_, Spaces> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts those of a connection; gives those that nobody wanted before.
    pub(crate) fn add(&self, space: &Arc<str>, ids: &[Arc<str>]) -> Vec<Arc<str>> {
        let mut spaces = self.lock();
        let wanted = spaces.entry(Arc::clone(space)).or_default();
        let is_first = |id: &&Arc<str>| {
            let count = wanted.entry(Arc::clone(id)).or_default();
            *count += 1;
            *count == 1
        };
        ids.iter().filter(is_first).cloned().collect()
    }

    /// Counts those of a connection no longer; gives those that nobody wants any more.
    pub(crate) fn remove(&self, space: &Arc<str>, ids: &[Arc<str>]) -> Vec<Arc<str>> {
        let mut spaces = self.lock();
        let Some(wanted) = spaces.get_mut(space) else { return Vec::new() };
        let is_last = |id: &&Arc<str>| {
            let Some(count) = wanted.get_mut(*id) else { return false };
            *count -= 1;
            *count == 0 && wanted.remove(*id).is_some()
        };
        let last = ids.iter().filter(is_last).cloned().collect();
        if wanted.is_empty() {
            spaces.remove(space);
        }
        last
    }

    /// All that is wanted in a space.
    pub(crate) fn all(&self, space: &Arc<str>) -> Vec<Arc<str>> {
        self.lock().get(space).map(|wanted| wanted.keys().cloned().collect()).unwrap_or_default()
    }
}

fn take(room: &Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    Arc::clone(room).try_acquire_many_owned(u32::try_from(bytes + OVERHEAD).ok()?).ok()
}

/// The heads of a document in one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    pub(crate) storage_id: Arc<str>,
    pub(crate) heads: Vec<String>,
    /// When it was seen to have them, in milliseconds since 1970.
    pub(crate) timestamp: u64,
}

impl Heads {
    /// Those that a connected peer says it has, written as clients of version 2 write them.
    pub(crate) fn of(storage_id: &Arc<str>, heads: &[ChangeHash], timestamp: u64) -> Self {
        let heads = heads.iter().map(|head| bs58::encode(head.0).with_check().into_string()).collect();
        Self { storage_id: Arc::clone(storage_id), heads, timestamp }
    }

    /// What a frame says, unless it is too much.
    pub(crate) fn read(heads: &RemoteHeads<'_>) -> Option<Self> {
        let texts = heads.heads.iter().map(|head| (*head).to_owned()).collect();
        let read = Self { storage_id: heads.storage_id.into(), heads: texts, timestamp: heads.timestamp };
        (read.heads.len() <= HEADS).then_some(read)
    }

    /// As a frame says it.
    pub(crate) fn written(&self) -> RemoteHeads<'_> {
        RemoteHeads {
            storage_id: &self.storage_id,
            heads: self.heads.iter().map(String::as_str).collect(),
            timestamp: self.timestamp,
        }
    }
}

/// What is known of a document in stores that are not connected.
#[derive(Default)]
pub(crate) struct Known(Vec<(Heads, OwnedSemaphorePermit)>);

impl Known {
    /// Remembers heads, if there is room and they are newer than what is known; says whether they are newer.
    pub(crate) fn learn(&mut self, heads: &Heads, room: &Arc<Semaphore>) -> bool {
        let place = self.0.iter().position(|(known, _)| known.storage_id == heads.storage_id);
        if place.is_some_and(|place| self.0[place].0.timestamp >= heads.timestamp) {
            return false;
        }
        if let Some(place) = place {
            drop(self.0.remove(place));
        } else if self.0.len() >= STORES {
            drop(self.0.remove(0));
        }
        let bytes = heads.storage_id.len() + heads.heads.iter().map(String::len).sum::<usize>();
        self.0.extend(take(room, bytes).map(|room| (heads.clone(), room)));
        true
    }

    /// What is known of each store.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Heads> {
        self.0.iter().map(|(heads, _)| heads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(storage_id: &str, head: &str, timestamp: u64) -> Heads {
        Heads { storage_id: storage_id.into(), heads: vec![head.to_owned()], timestamp }
    }

    #[test]
    fn newer_heads_replace_older_ones_and_those_of_the_longest_silent_store_go() {
        let room = Arc::new(Semaphore::new(ROOM));
        let mut known = Known::default();
        for (heads, is_newer) in [
            (heads("a", "1", 5), true),
            (heads("a", "2", 5), false),
            (heads("a", "0", 4), false),
            (heads("a", "3", 6), true),
        ] {
            assert_eq!(known.learn(&heads, &room), is_newer, "{heads:?}");
        }
        for number in 0..STORES {
            assert!(known.learn(&heads(&number.to_string(), "x", 1), &room));
        }
        assert_eq!(known.all().count(), STORES);
        assert!(known.all().all(|heads| &*heads.storage_id != "a"));
        drop(known);
        assert_eq!(room.available_permits(), ROOM);
    }

    #[test]
    fn what_is_wanted_is_asked_for_once_and_until_nobody_wants_it() {
        let (wanted, space): (_, Arc<str>) = (Wanted::default(), "team".into());
        let ids = |ids: &[&str]| ids.iter().map(|id| Arc::from(*id)).collect::<Vec<Arc<str>>>();
        assert_eq!(wanted.add(&space, &ids(&["a", "b"])), ids(&["a", "b"]));
        assert_eq!(wanted.add(&space, &ids(&["b", "c"])), ids(&["c"]));
        assert_eq!(wanted.add(&"other".into(), &ids(&["a"])), ids(&["a"]));
        assert_eq!(wanted.all(&space).len(), 3);
        assert_eq!(wanted.remove(&space, &ids(&["a", "b", "x"])), ids(&["a"]));
        assert_eq!(wanted.remove(&space, &ids(&["b", "c"])), ids(&["b", "c"]));
        assert_eq!((wanted.all(&space).len(), wanted.lock().len()), (0, 1));
    }

    #[test]
    fn subscriptions_are_bounded_and_give_their_room_back() {
        let room = Arc::new(Semaphore::new(3 * (OVERHEAD + 1)));
        let subscriptions = Subscriptions::default();
        assert_eq!(subscriptions.add(&["a", "b", "a"], &room).len(), 2);
        assert_eq!(subscriptions.add(&["c", "d"], &room).len(), 1);
        assert!(subscriptions.has("c") && !subscriptions.has("d"));
        subscriptions.remove(&["a", "x"]);
        assert_eq!(subscriptions.add(&["d"], &room), [Arc::from("d")]);
        subscriptions.remove(&["b", "c", "d"]);
        assert!(subscriptions.is_empty());
        assert_eq!(room.available_permits(), 3 * (OVERHEAD + 1));

        let (subscriptions, room) = (Subscriptions::default(), Arc::new(Semaphore::new(ROOM)));
        let ids: Vec<String> = (0..2 * SUBSCRIPTIONS).map(|number| number.to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        assert_eq!(subscriptions.add(&ids, &room).len(), SUBSCRIPTIONS);
    }
}
