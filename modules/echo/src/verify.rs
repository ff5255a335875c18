//! Pure: whether what is stored of a document is sound, and what can be served of it if not.
//!
//! *The repair rule*: nothing is thrown away. What is damaged, and what builds on it, is set aside by the SHA-256 of its bytes,
//! not by the hash of a change: so a client that still has it brings it back.
use std::collections::HashSet;

use automerge::{Automerge, ChangeHash};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{
    reader::{self, Change},
    replica::STORED,
    sealed::Sealed,
    sift::{self, Sifted},
    store::{Row, Rows, Snapshot},
};

/// What was found of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is wrong with it, in words.
    pub problems: Vec<String>,
    /// How many changes and pieces of it are set aside.
    pub aside: u64,
    /// Whether what was wrong was set aside just now.
    pub is_repaired: bool,
}

/// What is to be stored instead.
pub(crate) struct Repair {
    /// What can be served; none when nothing can.
    pub(crate) snapshot: Option<Snapshot>,
    /// How many changes that has.
    pub(crate) changes: u64,
    /// The rest.
    pub(crate) aside: Vec<(ChangeHash, Bytes)>,
}

/// Looks a document through: its checksums, then whether it is what its entry says.
pub(crate) fn look(rows: &Rows) -> Findings {
    let mut problems = damage(rows);
    if problems.is_empty()
        && let Err(problem) = catch(|| decode(rows))
    {
        problems.push(problem);
    }
    Findings { problems, aside: rows.aside.len() as u64, is_repaired: false }
}

/// Checksums that do not match.
fn damage(rows: &Rows) -> Vec<String> {
    let mut problems = Vec::new();
    let mut note = |is_damaged: bool, what: &str| {
        if is_damaged {
            problems.push(format!("{what} is damaged: its checksum does not match"));
        }
    };
    let is_damaged = |row: &Option<Row>| row.as_ref().is_some_and(|row| !row.is_sound);
    note(rows.summary.is_none(), "its entry");
    note(is_damaged(&rows.snapshot), "its snapshot");
    note(is_damaged(&rows.sealed), "what is kept beside its snapshot");
    for (row, number) in rows.tail.iter().zip(1..) {
        note(!row.is_sound, &format!("piece {number} of the {} stored since its snapshot", rows.tail.len()));
    }
    for row in &rows.aside {
        note(!row.is_sound, "something that was set aside");
    }
    problems
}

/// Decodes rows whose checksums match, and holds the result against what is known of it.
fn decode(rows: &Rows) -> Result<(), String> {
    let summary = rows.summary.clone().unwrap_or_default();
    let of = |error: &dyn std::fmt::Display| error.to_string();
    let snapshot = rows.snapshot.as_ref().map_or(&[][..], |row| &row.bytes);
    let tail: Vec<u8> = rows.tail.iter().flat_map(|row| &row.bytes).copied().collect();
    if (snapshot.len() as u64, tail.len() as u64) != (summary.snapshot, summary.tail) {
        return Err("it has another size than its entry says".to_owned());
    }
    let (changes, documents) = reader::read_chunks(&tail, &STORED).map_err(|error| of(&error))?;
    if !documents.is_empty() {
        return Err("a document chunk is among its changes".to_owned());
    }
    let sealed = Automerge::load(snapshot).map_err(|error| format!("its snapshot cannot be decoded: {error}"))?;
    if let Some(row) = &rows.sealed
        && Sealed::decode(&row.bytes) != Ok(Sealed::of(&sealed))
    {
        return Err("what is kept beside its snapshot is of another one".to_owned());
    }
    let document = Automerge::load(&[snapshot, &tail].concat()).map_err(|error| of(&error))?;
    if document.get_heads() != summary.heads {
        return Err("its changes lead to other heads than its entry says".to_owned());
    }
    if let Some(lost) = changes.iter().find(|change| document.get_change_meta_by_hash(&change.hash).is_none()) {
        return Err(format!("change {} does not join the others", lost.hash));
    }
    let count = document.get_changes_meta(&[]).len() as u64;
    if count != summary.changes {
        return Err(format!("it has {count} changes, and its entry says {}", summary.changes));
    }
    sift::saved(&document)
        .map(drop)
        .ok_or_else(|| "it is another document when it is saved and loaded again".to_owned())
}

fn load(row: &Row) -> Result<Automerge, String> {
    if !row.is_sound {
        return Err("it is damaged".to_owned());
    }
    catch(|| Automerge::load(&row.bytes).map_err(|error| error.to_string()))
}

/// A panic is a finding too.
fn catch<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err("automerge panicked".to_owned()))
}

/// Parts what can be served from what cannot.
pub(crate) fn repair(rows: Rows) -> Repair {
    let mut aside = Vec::new();
    let mut lost = |bytes: Vec<u8>| {
        if !bytes.is_empty() {
            aside.push((ChangeHash(Sha256::digest(&bytes).into()), bytes.into()));
        }
    };
    let (base, snapshot) = match rows.snapshot {
        Some(row) => match load(&row) {
            Ok(base) => (base, row.bytes),
            Err(_) => {
                lost(row.bytes);
                Default::default()
            }
        },
        None => Default::default(),
    };
    let (mut run, mut orphans, mut known) = (Vec::new(), Vec::new(), HashSet::new());
    for row in rows.tail {
        let read = reader::read_chunks(&row.bytes, &STORED);
        let Ok((changes, _)) = read.map_err(|_| ()).and_then(|read| if row.is_sound { Ok(read) } else { Err(()) })
        else {
            lost(row.bytes);
            continue;
        };
        for change in changes {
            let has = |dep: &ChangeHash| known.contains(dep) || base.get_change_meta_by_hash(dep).is_some();
            if change.deps.iter().all(has) {
                known.insert(change.hash);
                run.push(change);
            } else {
                orphans.extend_from_slice(&change.chunk);
            }
        }
    }
    lost(orphans);
    let Sifted { document, aside: refused } = sift::sift(&snapshot, run).unwrap_or_else(|_| {
        // It was decoded above, so this is a defect of the decoder; nothing is lost even so.
        lost(snapshot.clone());
        Sifted { document: Automerge::new(), aside: Vec::new() }
    });
    aside.extend(refused.into_iter().map(|Change { hash, chunk, .. }| (hash, chunk)));
    let changes = document.get_changes_meta(&[]).len() as u64;
    let snapshot = Snapshot { chunk: document.save().into(), sealed: Sealed::of(&document) };
    Repair { snapshot: (changes > 0).then_some(snapshot), changes, aside }
}

#[cfg(test)]
mod tests {
    use automerge::{ROOT, ReadDoc, transaction::Transactable};

    use super::*;
    use crate::store::Summary;

    fn sound(bytes: Vec<u8>) -> Row {
        Row { bytes, is_sound: true }
    }

    /// A document of four changes as it would be stored, two of them sealed.
    fn rows() -> Rows {
        let mut document = Automerge::new();
        let mut chunks = Vec::new();
        let mut sealed = Automerge::new();
        for (key, number) in ["a", "b", "c", "d"].into_iter().zip(1..) {
            let made = document.transact(|tx| tx.put(ROOT, key, number)).unwrap().hash.unwrap();
            chunks.push(sound(document.get_change_by_hash(&made).unwrap().raw_bytes().to_vec()));
            if number == 2 {
                sealed = document.clone();
            }
        }
        let tail = chunks.split_off(2);
        let snapshot = sealed.save();
        let summary = Summary {
            snapshot: snapshot.len() as u64,
            tail: tail.iter().map(|row| row.bytes.len() as u64).sum(),
            changes: 4,
            heads: document.get_heads(),
            ..Summary::default()
        };
        Rows {
            summary: Some(summary),
            snapshot: Some(sound(snapshot)),
            sealed: Some(sound(Sealed::of(&sealed).encode())),
            tail,
            aside: Vec::new(),
        }
    }

    /// What is served after a repair, how much is set aside, and that all of it is sound.
    fn repaired(rows: Rows) -> (Vec<String>, usize) {
        let Repair { snapshot, changes, aside } = repair(rows);
        let document = Automerge::load(snapshot.as_ref().map_or(&[][..], |snapshot| &snapshot.chunk)).unwrap();
        assert_eq!(changes, document.get_changes_meta(&[]).len() as u64);
        if let Some(Snapshot { chunk, sealed }) = snapshot {
            let summary =
                Summary { snapshot: chunk.len() as u64, changes, heads: document.get_heads(), ..Summary::default() };
            let sealed = Some(sound(sealed.encode()));
            let rows = Rows { summary: Some(summary), snapshot: Some(sound(chunk.into())), sealed, ..Rows::default() };
            assert_eq!(look(&rows), Findings::default());
        }
        (document.keys(ROOT).collect(), aside.len())
    }

    #[test]
    fn a_sound_document_is_found_sound_and_repaired_into_itself() {
        assert_eq!(look(&rows()), Findings::default());
        assert_eq!(repaired(rows()), (["a", "b", "c", "d"].map(str::to_owned).to_vec(), 0));
    }

    #[test]
    fn every_kind_of_damage_is_named_and_what_does_not_build_on_it_is_served() {
        type Harm = fn(&mut Rows);
        let cases: [(Harm, &str, &[&str], usize); 8] = [
            (|rows| rows.summary = None, "its entry is damaged", &["a", "b", "c", "d"], 0),
            (|rows| rows.sealed.as_mut().unwrap().is_sound = false, "beside its snapshot", &["a", "b", "c", "d"], 0),
            (|rows| rows.snapshot.as_mut().unwrap().is_sound = false, "its snapshot is damaged", &[], 2),
            (|rows| rows.tail[0].is_sound = false, "piece 1 of the 2", &["a", "b"], 2),
            (|rows| rows.tail[1].is_sound = false, "piece 2 of the 2", &["a", "b", "c"], 1),
            (|rows| rows.summary.as_mut().unwrap().heads.clear(), "other heads", &["a", "b", "c", "d"], 0),
            (|rows| rows.summary.as_mut().unwrap().changes = 5, "has 4 changes", &["a", "b", "c", "d"], 0),
            (|rows| drop(rows.tail.remove(0)), "another size", &["a", "b"], 1),
        ];
        for (harm, named, served, aside) in cases {
            let mut rows = rows();
            harm(&mut rows);
            let findings = look(&rows);
            assert!(findings.problems.iter().any(|problem| problem.contains(named)), "{named}: {findings:?}");
            assert_eq!(repaired(rows), (served.iter().map(|key| (*key).to_owned()).collect(), aside), "{named}");
        }
    }

    #[test]
    fn what_is_set_aside_of_damage_does_not_bear_the_hash_of_a_change() {
        let mut rows = rows();
        let (documents, _) = (Automerge::load(&rows.snapshot.as_ref().unwrap().bytes).unwrap(), ());
        rows.tail[0].is_sound = false;
        let changes: Vec<_> =
            rows.tail.iter().map(|row| reader::read_chunks(&row.bytes, &STORED).unwrap().0[0].hash).collect();
        let Repair { aside, .. } = repair(rows);
        assert!(aside.iter().all(|(hash, _)| !changes.contains(hash) && documents.get_change_by_hash(hash).is_none()));
    }
}
