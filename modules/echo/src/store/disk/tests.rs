use bytes::Bytes;

use super::*;
use crate::store::{OPEN_SPACE, Snapshot};
use crate::wire::DocumentId;

fn key(number: u8) -> Key {
    Key { space: OPEN_SPACE.into(), document: DocumentId([number; 16]) }
}

fn append(key: &Key, chunk: &[u8], head: u8) -> Write {
    Write::Append { key: key.clone(), snapshot: None, tail: chunk.to_vec(), heads: vec![ChangeHash([head; 32])] }
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
    assert_eq!(stored.summary, Summary { next: 2, snapshot: 0, tail: 6, heads: vec![ChangeHash([2; 32])] });
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
    assert_eq!(stored.summary, Summary { next: 4, snapshot: 2, tail: 2, heads: vec![ChangeHash([3; 32])] });
    let recent = disk.recent(&key(1)).unwrap().unwrap();
    assert_eq!((recent.summary, recent.sealed, recent.tail), (stored.summary, sealed, b"cc".to_vec()));
}

#[test]
fn a_snapshot_and_what_follows_are_appended_together() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    let sealed = Sealed { heads: vec![(ChangeHash([1; 32]), 7)], actors: Vec::new() };
    let snapshot = Snapshot { chunk: Bytes::from_static(b"whole"), sealed: sealed.clone() };
    let heads = vec![ChangeHash([2; 32])];
    disk.commit(&[Write::Append { key: key(1), snapshot: Some(snapshot), tail: b"more".to_vec(), heads }]).unwrap();
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
        let heads = vec![ChangeHash([2; 32])];
        disk.commit(&[Write::Append { key: key(number), snapshot: Some(snapshot), tail: b"more".to_vec(), heads }])
            .unwrap();
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
