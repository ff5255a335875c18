//! Pure: the changes of a document as people look at them, and the points that they name in it.
use std::{
    collections::HashSet,
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use automerge::{Automerge, ChangeHash};
use humantime_serde::re::humantime;

use crate::content::LAST;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Names the change.
    pub hash: ChangeHash,
    /// Who made it: an actor id, in hexadecimal.
    pub actor: String,
    /// The count of the change among its actor's.
    pub seq: u64,
    /// When it was made, by the clock of who made it, in seconds since 1970 (UTC); none if that was not said.
    pub time: Option<i64>,
    /// What its author said of it.
    pub message: Option<String>,
    /// How many operations it has.
    pub operations: u64,
}

/// Some of the changes of a document, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// How many changes the document has.
    pub total: u64,
    /// The changes.
    pub entries: Vec<Entry>,
    /// What to ask for next: those before this one; none when these were the last.
    pub before: Option<u64>,
}

/// A state that a document had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// With these changes and all that they build on: hashes in hexadecimal, or the beginnings of some.
    Heads(Vec<String>),
    /// At this time, by the clocks of those who made the changes, in seconds since 1970 (UTC).
    Time(i64),
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heads(heads) => f.write_str(&heads.join(",")),
            Self::Time(seconds) => {
                let since = u64::try_from((*seconds).min(LAST / 1000)).unwrap_or_default();
                write!(f, "{}", humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(since)))
            }
        }
    }
}

/// Why a document has no such point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPoint {
    /// No change begins so.
    #[error("it has no change {0}: `kube docs history` lists them")]
    Unknown(String),
    /// Several changes begin so.
    #[error("it has several changes that begin with {0}: give more of the hash")]
    Ambiguous(String),
    /// Nothing is that old.
    #[error("none of its changes is that old by the clocks of those who made them: `kube docs history` lists them")]
    TooEarly,
}

/// The shortest beginning of a hash that is looked for.
const SHORTEST: usize = 4;
/// Most bytes of messages in one answer.
const MESSAGES: usize = 4 << 20;

/// At most `limit` changes before the one with the number `before`, counted from the oldest, or the newest.
pub(crate) fn of(document: &Automerge, before: Option<u64>, limit: usize) -> History {
    let changes = document.get_changes_meta(&[]);
    let end = before.and_then(|before| usize::try_from(before).ok()).unwrap_or(changes.len()).min(changes.len());
    let (mut entries, mut room) = (Vec::new(), MESSAGES);
    for change in changes[..end].iter().rev().take(limit) {
        let len = change.message.as_ref().map_or(0, |message| message.len());
        // The first fits whatever it says, or nothing would come after it.
        if len > room && !entries.is_empty() {
            break;
        }
        room = room.saturating_sub(len);
        entries.push(Entry {
            hash: change.hash,
            actor: change.actor.to_hex_string(),
            seq: change.seq,
            time: Some(change.timestamp).filter(|time| *time != 0),
            message: change.message.as_ref().map(|message| message.to_string()),
            operations: (change.max_op + 1).saturating_sub(change.start_op),
        });
    }
    let rest = (end - entries.len()) as u64;
    History { total: changes.len() as u64, entries, before: (rest > 0).then_some(rest) }
}

/// The heads of a point.
///
/// # Errors
/// The document has no such point.
pub(crate) fn heads(document: &Automerge, point: &Point) -> Result<Vec<ChangeHash>, NoPoint> {
    match point {
        Point::Heads(names) if names.is_empty() => Err(NoPoint::Unknown(String::new())),
        Point::Heads(names) => names.iter().map(|name| find(document, name)).collect(),
        Point::Time(time) => {
            let heads = at(document, *time);
            if heads.is_empty() { Err(NoPoint::TooEarly) } else { Ok(heads) }
        }
    }
}

fn find(document: &Automerge, name: &str) -> Result<ChangeHash, NoPoint> {
    let unknown = || NoPoint::Unknown(name.to_owned());
    let name = name.to_ascii_lowercase();
    if name.len() < SHORTEST {
        return Err(unknown());
    }
    let changes = document.get_changes_meta(&[]);
    let mut found = changes.iter().map(|change| change.hash).filter(|hash| hash.to_string().starts_with(&name));
    let hash = found.next().ok_or_else(unknown)?;
    if found.next().is_some() { Err(NoPoint::Ambiguous(name)) } else { Ok(hash) }
}

/// The heads of all changes that are no younger than `time`, nor build on one that is.
fn at(document: &Automerge, time: i64) -> Vec<ChangeHash> {
    let (mut known, mut heads) = (HashSet::new(), HashSet::new());
    for change in document.get_changes_meta(&[]) {
        if change.timestamp <= time && change.deps.iter().all(|dep| known.contains(dep)) {
            known.insert(change.hash);
            for dep in &change.deps {
                heads.remove(dep);
            }
            heads.insert(change.hash);
        }
    }
    let mut heads: Vec<_> = heads.into_iter().collect();
    heads.sort_unstable();
    heads
}

#[cfg(test)]
mod tests {
    use automerge::{
        ROOT,
        transaction::{CommitOptions, Transactable},
    };

    use super::*;

    /// A document with a change at each of these times.
    fn document(times: &[i64]) -> (Automerge, Vec<ChangeHash>) {
        let mut document = Automerge::new();
        let commit = |document: &mut Automerge, time: i64| {
            let options = CommitOptions::default().with_time(time).with_message(format!("at {time}"));
            let made = document.transact_with(|()| options, |tx| tx.put(ROOT, "time", time));
            made.unwrap().hash.unwrap()
        };
        let hashes = times.iter().map(|time| commit(&mut document, *time)).collect();
        (document, hashes)
    }

    #[test]
    fn the_newest_changes_come_first_and_pages_follow_each_other() {
        let (document, hashes) = document(&[10, 20, 30]);
        let first = of(&document, None, 2);
        assert_eq!(first.entries.iter().map(|entry| entry.hash).collect::<Vec<_>>(), [hashes[2], hashes[1]]);
        assert_eq!((first.total, first.before), (3, Some(1)));
        assert_eq!((first.entries[0].seq, first.entries[0].time, first.entries[0].operations), (3, Some(30), 1));
        assert_eq!(first.entries[0].message.as_deref(), Some("at 30"));
        let second = of(&document, first.before, 2);
        assert_eq!((second.entries[0].hash, second.before), (hashes[0], None));
        assert_eq!(of(&Automerge::new(), None, 2), History { total: 0, entries: vec![], before: None });
    }

    #[test]
    fn a_point_is_found_by_time_by_hash_and_by_the_beginning_of_one() {
        let (document, hashes) = document(&[10, 20, 30]);
        assert_eq!(heads(&document, &Point::Time(25)), Ok(vec![hashes[1]]));
        assert_eq!(heads(&document, &Point::Time(30)), Ok(vec![hashes[2]]));
        assert_eq!(heads(&document, &Point::Time(9)), Err(NoPoint::TooEarly));
        let name = hashes[0].to_string();
        assert_eq!(heads(&document, &Point::Heads(vec![name[..12].to_uppercase()])), Ok(vec![hashes[0]]));
        for unknown in ["", "abc", &"0".repeat(64)] {
            assert_eq!(
                heads(&document, &Point::Heads(vec![unknown.to_owned()])),
                Err(NoPoint::Unknown(unknown.to_owned()))
            );
        }
    }

    #[test]
    fn what_builds_on_a_younger_change_is_no_older_than_that() {
        // The second author's clock is behind.
        let (document, hashes) = document(&[100, 50, 60]);
        assert_eq!(heads(&document, &Point::Time(70)), Err(NoPoint::TooEarly));
        assert_eq!(heads(&document, &Point::Time(100)), Ok(vec![hashes[2]]));
    }
}
