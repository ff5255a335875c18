use super::*;
use crate::store::OPEN_SPACE;
use crate::wire::DocumentId;

fn key(number: u8) -> Key {
    Key { space: OPEN_SPACE.into(), document: DocumentId([number; 16]) }
}

fn append(key: &Key, chunk: &[u8], head: u8) -> Write {
    Write::Append { key: key.clone(), chunk: chunk.to_vec(), snapshot: false, heads: vec![ChangeHash([head; 32])] }
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
    disk.commit(&[Write::Compact { key: key(1), before: read, chunk: b"ab".to_vec() }]).unwrap();
    let stored = disk.read(&key(1)).unwrap().unwrap();
    assert_eq!(stored.chunks, [b"ab", b"cc"]);
    assert_eq!(stored.summary, Summary { next: 3, snapshot: 2, tail: 2, heads: vec![ChangeHash([3; 32])] });
}

#[test]
fn a_format_that_is_not_known_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    drop(Disk::open(folder.path(), 1 << 20).unwrap());
    let path = folder.path().join("echo.redb");
    let database = Database::open(&path).unwrap();
    commit(&database, |writing| {
        writing.open_table(ABOUT)?.insert("format", &7u32.to_le_bytes()[..])?;
        Ok(())
    })
    .unwrap();
    drop(database);
    let error = Disk::open(folder.path(), 1 << 20).map(drop).unwrap_err();
    assert!(matches!(error, Error::Format { .. }));
    let text = error.to_string();
    assert!(text.contains("format 7") && text.contains("format 0") && text.contains("echo.redb"), "{text}");
}

#[test]
fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("echo.redb"), "not a database, and long enough to be looked at").unwrap();
    let error = Disk::open(folder.path(), 1 << 20).map(drop).unwrap_err().to_string();
    assert!(error.contains("echo.redb"), "{error}");
}

#[test]
fn a_store_that_can_commit_says_so_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), 1 << 20).unwrap();
    disk.commit(&[]).unwrap();
    let about = disk.reading(|database| Ok(database.begin_read()?.open_table(ABOUT)?.get("probe")?.is_none()));
    assert!(about.unwrap());
}
