use automerge::ChangeHash;
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    sealed::Sealed,
    store::{OPEN_SPACE, Snapshot},
    wire::DocumentId,
};

fn key(number: u8) -> Key {
    Key { space: OPEN_SPACE.into(), document: DocumentId([number; 16]) }
}

fn append(key: &Key, chunk: &[u8], head: u8) -> Write {
    whole(key, None, chunk, head)
}

/// One change at the time 1.
fn whole(key: &Key, snapshot: Option<Snapshot>, tail: &[u8], head: u8) -> Write {
    let heads = vec![ChangeHash([head; 32])];
    Write::Append { key: key.clone(), snapshot, tail: tail.to_vec(), heads, changes: 1, at: 1, by: Vec::new() }
}

/// What is known after such writes.
fn summary(next: u64, snapshot: u64, tail: u64, changes: u64, head: u8) -> Summary {
    let heads = vec![ChangeHash([head; 32])];
    Summary { next, snapshot, tail, changes, changed: 1, heads, ..Summary::default() }
}

#[test]
fn what_was_committed_is_there_after_it_is_opened_again_with_the_same_storage_id() {
    let folder = tempfile::tempdir().unwrap();
    let id = {
        let disk = Disk::open(folder.path(), 1 << 20).unwrap();
        assert_eq!(disk.summary(&key(1)).unwrap(), None);
        disk.commit(&[append(&key(1), b"one", 1), append(&key(2), b"other", 9), append(&key(1), b"two", 2)]).unwrap();
        disk.storage_id().to_owned()
    };
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    assert_eq!(disk.storage_id(), id);
    assert_eq!(id.len(), 36);
    let stored = disk.read(&key(1)).unwrap().unwrap();
    assert_eq!(stored.chunks, [b"one", b"two"]);
    assert_eq!(stored.summary, summary(2, 0, 6, 2, 2));
    assert_eq!(disk.summary(&key(2)).unwrap().unwrap().tail, 5);
}

#[test]
fn the_same_document_in_two_spaces_is_two_documents() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    let elsewhere = Key { space: "team".into(), ..key(1) };
    disk.commit(&[append(&key(1), b"here", 1), append(&elsewhere, b"there", 2)]).unwrap();
    assert_eq!(disk.read(&key(1)).unwrap().unwrap().chunks, [b"here"]);
    assert_eq!(disk.read(&elsewhere).unwrap().unwrap().chunks, [b"there"]);
}

#[test]
fn a_compaction_replaces_what_it_read_and_keeps_what_came_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    disk.commit(&[append(&key(1), b"aaa", 1), append(&key(1), b"bbb", 2)]).unwrap();
    let read = disk.summary(&key(1)).unwrap().unwrap().next;
    disk.commit(&[append(&key(1), b"cc", 3)]).unwrap();
    let sealed = Sealed { heads: vec![(ChangeHash([2; 32]), 7)], actors: Vec::new() };
    let snapshot = Snapshot { chunk: Bytes::from_static(b"ab"), sealed: sealed.clone() };
    disk.commit(&[Write::Compact { key: key(1), before: read, snapshot }]).unwrap();
    let stored = disk.read(&key(1)).unwrap().unwrap();
    assert_eq!(stored.chunks, [b"ab", b"cc"]);
    assert_eq!(stored.summary, summary(4, 2, 2, 3, 3));
    let recent = disk.recent(&key(1)).unwrap().unwrap();
    assert_eq!((recent.summary, recent.sealed, recent.tail), (stored.summary, sealed, b"cc".to_vec()));
}

#[test]
fn a_tail_is_outgrown_when_it_is_long_for_its_snapshot_and_not_short_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    let snapshot = |len| Some(Snapshot { chunk: vec![7; len].into(), sealed: Sealed::default() });
    disk.commit(&[
        append(&key(1), &[0; 512], 1),
        append(&key(2), &[0; 513], 1),
        whole(&key(3), snapshot(8000), &[0; 1999], 1),
        whole(&key(4), snapshot(8000), &[0; 2001], 1),
        append(&key(5), &[0; 600], 1),
    ])
    .unwrap();
    let found = |after, most| disk.outgrown(after, most).unwrap();
    let documents = |found: &[Outgrown]| found.iter().map(|one| (one.key.clone(), one.bytes)).collect::<Vec<_>>();
    assert_eq!(documents(&found(0, 9)), [(key(2), 513), (key(4), 10_001), (key(5), 600)]);
    let first = found(0, 1);
    assert_eq!(documents(&first), [(key(2), 513)]);
    assert_eq!(documents(&found(first[0].place, 1)), [(key(4), 10_001)]);
}

#[test]
fn tidying_up_gives_back_what_is_free_a_part_at_a_time_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    let large = vec![7; 12 << 20];
    disk.commit(&[append(&key(1), &large, 1), append(&key(2), b"small", 2)]).unwrap();
    let snapshot = Snapshot { chunk: Bytes::from_static(b"joined"), sealed: Sealed::default() };
    let before = disk.summary(&key(1)).unwrap().unwrap().next;
    disk.commit(&[Write::Compact { key: key(1), before, snapshot }]).unwrap();
    let size = || fs::metadata(folder.path().join(FILE)).unwrap().len();
    assert!(!disk.tidy().unwrap(), "more is free than is given back at once");
    let most = size();
    while !disk.tidy().unwrap() {}
    assert!(disk.tidy().unwrap());
    assert!(size() < most / 2, "{} of {most} bytes are left", size());
    assert_eq!(disk.read(&key(1)).unwrap().unwrap().chunks, [b"joined"]);
    assert_eq!(disk.read(&key(2)).unwrap().unwrap().chunks, [b"small"]);
}

#[test]
fn a_snapshot_and_what_follows_are_appended_together() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    let sealed = Sealed { heads: vec![(ChangeHash([1; 32]), 7)], actors: Vec::new() };
    let snapshot = Snapshot { chunk: Bytes::from_static(b"whole"), sealed: sealed.clone() };
    disk.commit(&[whole(&key(1), Some(snapshot), b"more", 2)]).unwrap();
    assert_eq!(disk.read(&key(1)).unwrap().unwrap().chunks, [&b"whole"[..], b"more"]);
    let recent = disk.recent(&key(1)).unwrap().unwrap();
    assert_eq!((recent.sealed, recent.tail), (sealed, b"more".to_vec()));
    assert_eq!(disk.recent(&key(2)).unwrap(), None);
}

#[test]
fn a_format_that_is_not_known_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    drop(Disk::open(folder.path(), 1 << 20).unwrap());
    let path = folder.path().join(FILE);
    connect(&path, 64, false).unwrap().pragma_update(None, "user_version", 7).unwrap();
    let error = Disk::open(folder.path(), 1 << 20).map(drop).unwrap_err();
    assert!(matches!(error, Error::Format { .. }));
    let text = error.to_string();
    assert!(text.contains("format 7") && text.contains("format 1") && text.contains("documents.db"), "{text}");
}

#[test]
fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("documents.db"), "not a database, and long enough to be looked at").unwrap();
    let error = Disk::open(folder.path(), 1 << 20).map(drop).unwrap_err().to_string();
    assert!(error.contains("documents.db"), "{error}");
}

#[test]
fn a_store_that_can_commit_says_so_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    disk.commit(&[]).unwrap();
    let rows =
        |reader: &Reader<'_>| Ok(reader.0.query_row("SELECT count(*) FROM about", (), |row| row.get::<_, u32>(0))?);
    assert_eq!(disk.reading(rows).unwrap(), 1);
}

#[test]
fn a_full_disk_refuses_what_is_new_loses_nothing_and_recovers_when_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    disk.commit(&[append(&key(1), b"old", 1)]).unwrap();
    let limit = |pages: u32| {
        let writer = lock(&disk.writer);
        let connection = &writer.as_ref().unwrap().connection;
        connection.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, u32>(0)).unwrap();
    };
    limit(1);
    let error = disk.commit(&[append(&key(1), &[7; 1 << 16], 2)]).unwrap_err().to_string();
    assert!(error.contains("full; free some space"), "{error}");
    assert!(disk.commit(&[]).is_err(), "nothing can be committed");
    assert_eq!(disk.read(&key(1)).unwrap().unwrap().chunks, [b"old"]);
    limit(1 << 20);
    disk.commit(&[]).unwrap();
    disk.commit(&[append(&key(1), b"new", 2)]).unwrap();
    assert_eq!(disk.read(&key(1)).unwrap().unwrap().chunks, [b"old", b"new"]);
}

#[test]
fn a_bit_that_flipped_is_noticed_and_harms_only_its_document() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    let sealed = Sealed { heads: vec![(ChangeHash([1; 32]), 7)], actors: Vec::new() };
    let rows = [
        ("UPDATE documents SET tail = tail + 1", "the entry of a document"),
        ("UPDATE documents SET heads = zeroblob(32)", "the entry of a document"),
        ("UPDATE tail SET chunk = x'00'", "a change"),
        ("UPDATE snapshots SET chunk = x'00'", "a snapshot"),
        ("UPDATE snapshots SET sealed = x'00'", "what is kept beside a snapshot"),
    ];
    for ((damage, named), number) in rows.into_iter().zip(1..) {
        let snapshot = Snapshot { chunk: Bytes::from_static(b"whole"), sealed: sealed.clone() };
        disk.commit(&[whole(&key(number), Some(snapshot), b"more", 2)]).unwrap();
        {
            let writer = lock(&disk.writer);
            let connection = &writer.as_ref().unwrap().connection;
            let place = if damage.contains("tail SET chunk") { "document" } else { "id" };
            let last = "(SELECT max(id) FROM documents)";
            assert_eq!(connection.execute(&format!("{damage} WHERE {place} = {last}"), ()).unwrap(), 1);
        }
        let errors = [disk.read(&key(number)).map(drop), disk.recent(&key(number)).map(drop)];
        assert!(errors.iter().any(|read| matches!(read, Err(error) if error.to_string().contains(named))), "{damage}");
    }
    disk.commit(&[append(&key(9), b"sound", 9)]).unwrap();
    assert_eq!(disk.read(&key(9)).unwrap().unwrap().chunks, [b"sound"]);
}

#[test]
fn the_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    disk.commit(&[append(&key(1), b"secret", 1)]).unwrap();
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap()).collect();
    assert!(files.len() >= 3, "the database, its log, and the lock: {files:?}");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}

#[test]
fn documents_are_listed_page_by_page_by_space_and_id() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    let of = |space: &str, number| Key { space: space.into(), ..key(number) };
    let keys = [of("a", 1), of("a", 2), of("a", 3), of("b", 1), of("c", 1), of("c", 9)];
    // In another order than that of the list.
    for key in keys.iter().rev() {
        disk.commit(&[append(key, b"x", 1)]).unwrap();
    }
    let listed = |space: Option<&str>, after: Option<&Key>, limit| -> Vec<Key> {
        disk.list(space, after, limit).unwrap().into_iter().map(|listed| listed.key).collect()
    };
    for size in 1..=7 {
        let (mut all, mut pages) = (Vec::new(), 0);
        loop {
            let page = listed(None, all.last(), size);
            assert!(page.len() <= size);
            pages += 1;
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
        assert_eq!(all, keys, "pages of {size}");
        assert_eq!(pages, 6usize.div_ceil(size) + 1);
    }
    assert_eq!(listed(Some("a"), None, 10), keys[..3]);
    assert_eq!(listed(Some("a"), Some(&keys[1]), 10), keys[2..3]);
    assert!(listed(Some("a"), Some(&keys[2]), 10).is_empty());
    assert!(listed(Some("none"), None, 10).is_empty());
    let found = disk.find(key(1).document).unwrap();
    assert_eq!(found.iter().map(|found| &*found.key.space).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(found[0].summary, Some(summary(1, 0, 1, 1, 1)));
}

#[test]
fn of_a_deleted_document_a_tombstone_stays_until_it_is_revived() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    disk.commit(&[append(&key(1), b"one", 1), append(&key(2), b"other", 9)]).unwrap();
    let read = disk.summary(&key(1)).unwrap().unwrap().next;
    disk.commit(&[Write::Delete { key: key(1), at: 7 }, Write::Delete { key: key(3), at: 7 }]).unwrap();
    // Others hear of it where they left off.
    let told: Vec<_> = disk.after(OPEN_SPACE, 2, 9).unwrap().iter().map(|(_, document)| document.0[0]).collect();
    assert_eq!(told, [1, 3]);

    let heads = vec![ChangeHash([1; 32])];
    let tombstone = Summary { deleted: true, next: 2, since: 2, changed: 7, heads, ..Summary::default() };
    // What was on its way is too late.
    let sealed = Sealed { heads: vec![(ChangeHash([1; 32]), 7)], actors: Vec::new() };
    let compact = |sealed: &Sealed| Write::Compact {
        key: key(1),
        before: read,
        snapshot: Snapshot { chunk: Bytes::from_static(b"one"), sealed: sealed.clone() },
    };
    disk.commit(&[append(&key(1), b"again", 1), compact(&sealed), Write::Delete { key: key(1), at: 8 }]).unwrap();
    assert_eq!(disk.summary(&key(1)).unwrap(), Some(tombstone.clone()));
    assert_eq!(disk.read(&key(1)).unwrap(), Some(Stored { summary: tombstone, chunks: Vec::new() }));
    assert_eq!((disk.recent(&key(1)).unwrap(), disk.rows(&key(1)).unwrap()), (None, None));
    let never = disk.summary(&key(3)).unwrap().unwrap();
    assert_eq!((never.deleted, never.decided()), (true, 7), "what another KUBE deleted does not come here either");
    assert_eq!(disk.list(None, None, 9).unwrap().len(), 1);
    assert!(disk.find(key(1).document).unwrap().is_empty());

    disk.commit(&[Write::Revive { key: key(1), at: 9 }, append(&key(1), b"new", 3), compact(&sealed)]).unwrap();
    assert_eq!(disk.read(&key(1)).unwrap().unwrap().chunks, [b"new"]);
    assert_eq!(disk.list(None, None, 9).unwrap().len(), 2);
    // Of a living document nothing is lost by it.
    disk.commit(&[Write::Revive { key: key(1), at: 11 }]).unwrap();
    let stored = disk.read(&key(1)).unwrap().unwrap();
    assert_eq!((stored.chunks, stored.summary.decided()), (vec![b"new".to_vec()], 11));
}

#[test]
fn damaged_rows_are_seen_as_they_are_and_something_can_be_put_in_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    disk.commit(&[append(&key(1), b"aa", 1), append(&key(1), b"bb", 2), append(&key(2), b"cc", 3)]).unwrap();
    {
        let writer = lock(&disk.writer);
        let connection = &writer.as_ref().unwrap().connection;
        connection.execute("UPDATE tail SET chunk = x'00' WHERE number = 1", ()).unwrap();
        connection.execute("UPDATE documents SET changes = 7", ()).unwrap();
    }
    let row = |bytes: &[u8], is_sound| crate::store::Row { bytes: bytes.to_vec(), is_sound };
    let rows = disk.rows(&key(1)).unwrap().unwrap();
    let tail = vec![row(b"aa", true), row(&[0], false)];
    assert_eq!(rows, Rows { tail, ..Rows::default() });
    assert!(disk.list(None, None, 9).unwrap().iter().all(|listed| listed.summary.is_none()));

    let sealed = Sealed { heads: vec![(ChangeHash([1; 32]), 7)], actors: Vec::new() };
    let snapshot = Some(Snapshot { chunk: Bytes::from_static(b"aa"), sealed });
    let aside = vec![(ChangeHash([9; 32]), Bytes::from_static(&[0]))];
    disk.commit(&[Write::SetAside { key: key(1), snapshot, changes: 1, aside }, Write::Delete { key: key(2), at: 1 }])
        .unwrap();
    assert_eq!(disk.read(&key(1)).unwrap().unwrap().chunks, [b"aa"]);
    assert_eq!(disk.rows(&key(1)).unwrap().unwrap().aside, [row(&[0], true)]);
    assert!(disk.summary(&key(2)).unwrap().unwrap().deleted);
}

#[test]
fn documents_are_found_in_the_order_in_which_their_heads_moved_last() {
    let folder = tempfile::tempdir().unwrap();
    let after = |disk: &Disk, position| disk.after(OPEN_SPACE, position, 10).unwrap();
    let last = {
        let disk = Disk::open(folder.path(), 1 << 20).unwrap();
        assert_eq!(after(&disk, 0), []);
        disk.commit(&[append(&key(1), b"one", 1), append(&key(2), b"two", 2), append(&key(3), b"three", 3)]).unwrap();
        let elsewhere = Key { space: "team".into(), ..key(4) };
        disk.commit(&[append(&key(1), b"one", 4), append(&elsewhere, b"four", 5)]).unwrap();
        let found: Vec<_> = after(&disk, 0).iter().map(|(_, document)| document.0[0]).collect();
        assert_eq!(found, [2, 3, 1]);
        assert_eq!(disk.after(OPEN_SPACE, 0, 2).unwrap(), after(&disk, 0)[..2]);
        let last = after(&disk, 0)[2].0;
        assert_eq!(after(&disk, last), []);
        // A compaction changes nothing for others.
        let snapshot = Snapshot { chunk: Bytes::from_static(b"x"), sealed: Sealed::default() };
        disk.commit(&[Write::Compact { key: key(2), before: 1, snapshot }]).unwrap();
        assert_eq!(after(&disk, last), []);
        last
    };
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    disk.commit(&[append(&key(3), b"three", 6)]).unwrap();
    assert_eq!(after(&disk, last).iter().map(|(_, document)| document.0[0]).collect::<Vec<_>>(), [3]);
}

#[test]
fn marks_are_remembered_and_no_position_up_to_one_is_given_again() {
    let folder = tempfile::tempdir().unwrap();
    {
        let disk = Disk::open(folder.path(), 1 << 20).unwrap();
        assert_eq!(disk.marks("team", "other").unwrap(), Marks::default());
        disk.mark("team", "other", Mark::Sent(1000)).unwrap();
        disk.mark("team", "other", Mark::Received(7)).unwrap();
        disk.mark("team", "third", Mark::Received(9)).unwrap();
    }
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    assert_eq!(disk.marks("team", "other").unwrap(), Marks { sent: 1000, received: 7 });
    assert_eq!(disk.marks("default", "other").unwrap(), Marks::default());
    disk.commit(&[append(&key(1), b"one", 1)]).unwrap();
    assert_eq!(disk.after(OPEN_SPACE, 1000, 10).unwrap().len(), 1);
}

/// What the documents of a space have, one by one.
fn sum(disk: &Disk, space: &str) -> u64 {
    let listed = disk.list(Some(space), None, 100).unwrap();
    listed.iter().filter_map(|one| one.summary.as_ref()).map(|summary| summary.snapshot + summary.tail).sum()
}

fn any_write() -> impl Strategy<Value = Write> {
    let key =
        (0..2_usize, 0..3_u8).prop_map(|(space, number)| Key { space: ["red", "blue"][space].into(), ..key(number) });
    let snapshot = || (0..200_usize).prop_map(|len| Snapshot { chunk: vec![7; len].into(), sealed: Sealed::default() });
    let maybe = proptest::option::of(snapshot());
    (key, 0..6, maybe, snapshot(), 0..300_usize, 0..5_u64).prop_map(|(key, kind, maybe, snapshot, len, before)| {
        match kind {
            0 => Write::Compact { key, before, snapshot },
            1 => Write::SetAside {
                key,
                snapshot: maybe,
                changes: 1,
                aside: vec![(ChangeHash([1; 32]), vec![1; len].into())],
            },
            2 => Write::Delete { key, at: 1 },
            3 => Write::Revive { key, at: 1 },
            _ => append(&key, &vec![1; len], 1),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_a_space_is_said_to_have_is_what_its_documents_have(
        commits in proptest::collection::vec(proptest::collection::vec(any_write(), 1..6), 1..12)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let spaces = ["red", "blue"];
        let counted = {
            let disk = Disk::open(folder.path(), 1 << 20).unwrap();
            for commit in commits {
                disk.commit(&commit).unwrap();
                for space in spaces {
                    prop_assert_eq!(disk.used(space), sum(&disk, space));
                }
            }
            spaces.map(|space| disk.used(space))
        };
        let disk = Disk::open(folder.path(), 1 << 20).unwrap();
        prop_assert_eq!(spaces.map(|space| disk.used(space)), counted);
    }
}

#[test]
fn a_commit_that_failed_counts_nothing_and_a_damaged_entry_is_counted_anew() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    let run = |statement: &str| lock(&disk.writer).as_ref().unwrap().connection.execute_batch(statement).unwrap();
    disk.commit(&[append(&key(1), &[1; 10], 1), append(&key(2), &[1; 20], 1)]).unwrap();
    run("PRAGMA max_page_count = 1");
    let elsewhere = Key { space: "team".into(), ..key(3) };
    disk.commit(&[append(&elsewhere, b"new", 1), append(&key(3), &[7; 1 << 16], 1)]).unwrap_err();
    assert_eq!((disk.used(OPEN_SPACE), disk.used("team")), (30, 0));
    run("PRAGMA max_page_count = 1000000; UPDATE documents SET tail = 1000000 WHERE id = 1");
    disk.commit(&[append(&elsewhere, b"new", 1), append(&key(3), &[7; 5], 1)]).unwrap();
    assert_eq!((disk.used(OPEN_SPACE), disk.used("team")), (35, 3));
    disk.commit(&[Write::Delete { key: key(1), at: 1 }]).unwrap();
    assert_eq!(disk.used(OPEN_SPACE), 25);
}

#[test]
fn what_came_with_a_token_is_counted_by_the_day_and_days_before_the_last_are_forgotten() {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let folder = tempfile::tempdir().unwrap();
    let write = |at, by: &[(&str, u64)]| {
        let by = by.iter().map(|(token, bytes)| ((*token).into(), *bytes)).collect();
        let heads = vec![ChangeHash([1; 32])];
        Write::Append { key: key(1), snapshot: None, tail: vec![7], heads, changes: 1, at, by }
    };
    let added = |disk: &Disk| {
        let mut added: Vec<_> =
            disk.added().unwrap().into_iter().map(|one| (one.token.to_string(), one.day, one.bytes)).collect();
        added.sort();
        added
    };
    {
        let disk = Disk::open(folder.path(), 1 << 20).unwrap();
        disk.commit(&[write(DAY, &[("a", 1), ("b", 2)]), write(2 * DAY - 1, &[("a", 10)])]).unwrap();
        disk.commit(&[write(DAY + 5, &[("a", 100)])]).unwrap();
        assert_eq!(added(&disk), [("a".to_owned(), 1, 111), ("b".to_owned(), 1, 2)]);
    }
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    disk.commit(&[write(2 * DAY, &[("a", 3)])]).unwrap();
    assert_eq!(added(&disk), [("a".to_owned(), 2, 3)]);
    // A clock that is set back.
    disk.commit(&[write(DAY, &[("a", 4), ("c", 5)])]).unwrap();
    assert_eq!(added(&disk), [("a".to_owned(), 1, 4), ("c".to_owned(), 1, 5)]);
}
