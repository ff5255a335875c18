use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn store() -> (TempDir, Store) {
    let data = tempfile::tempdir().unwrap();
    let (store, index) = Store::open(data.path()).unwrap();
    assert!(index.apps.is_empty());
    (data, store)
}

fn blobs(store: &Store) -> Vec<String> {
    let entries = fs::read_dir(store.blobs()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn admit(store: &Store, text: &str) -> (Hash, u64) {
    store.admit("a", text.as_bytes(), &Limits::none()).unwrap()
}

/// The index of one app with one file of this content.
fn index((hash, size): (Hash, u64)) -> Index {
    let file = tempfile::tempfile().unwrap();
    let known = Known { hash, size, stamp: Stamp::of(&file).unwrap(), settled: true };
    let record = Record::from([("index.html".to_owned(), known)]);
    Index::new(BTreeMap::from([("shop".parse().unwrap(), Arc::new(record))]), std::iter::empty())
}

#[test]
fn a_content_is_named_by_its_sha_256() {
    let (_data, store) = store();
    let (hash, size) = admit(&store, "abc");
    // FIPS 180-2, appendix B.1.
    assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(size, 3);
    assert_eq!(admit(&store, "abc"), (hash, size));
    assert_eq!(blobs(&store), [hash.to_string()], "no second copy, and nothing unfinished");
    assert_eq!(fs::read(store.blobs().join(hash.to_string())).unwrap(), b"abc");
}

#[test]
fn a_content_that_fails_leaves_nothing_behind() {
    let (_data, store) = store();
    let limits = Limits { largest_file: 2, ..Limits::none() };
    let large = store.admit("a", &b"abc"[..], &limits).unwrap_err();
    assert!(matches!(large, Admission::Problem(Problem::FileTooLarge { .. })));
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    assert!(matches!(store.admit("a", Broken, &Limits::none()), Err(Admission::Unreadable(_))));
    let stopped = Limits::none();
    stopped.stop.set();
    assert!(matches!(store.admit("a", &b"abc"[..], &stopped), Err(Admission::Problem(Problem::Stopped))));
    assert!(blobs(&store).is_empty());
}

#[test]
fn what_the_index_names_is_there_after_a_restart_and_nothing_else() {
    let (data, store) = store();
    let kept = admit(&store, "kept");
    store.write(&index(kept)).unwrap();
    admit(&store, "not indexed");
    fs::write(store.blobs().join(".new-7"), "unfinished").unwrap();
    let (store, index) = Store::open(data.path()).unwrap();
    assert_eq!(blobs(&store), [kept.0.to_string()]);
    assert_eq!(index.apps.values().next().unwrap()["index.html"].hash, kept.0);
}

#[test]
fn a_blob_of_another_size_is_deleted_and_its_app_read_again() {
    let (data, store) = store();
    let kept = admit(&store, "kept");
    store.write(&index(kept)).unwrap();
    fs::write(store.blobs().join(kept.0.to_string()), "torn by a crash").unwrap();
    let (store, index) = Store::open(data.path()).unwrap();
    assert!(blobs(&store).is_empty() && index.apps.is_empty());
}

#[test]
fn an_index_that_cannot_be_read_is_no_index() {
    let (data, store) = store();
    let kept = admit(&store, "kept");
    store.write(&index(kept)).unwrap();
    let path = data.path().join("index.json");
    let good = fs::read_to_string(&path).unwrap();
    for bad in [
        "",
        "{",
        "[]",
        "{\"version\":2,\"blobs\":{},\"apps\":{}}",
        &good[..good.len() / 2],
        &good.replace("shop", "../x"),
    ] {
        fs::write(&path, bad).unwrap();
        admit(&store, "kept");
        let (store, index) = Store::open(data.path()).unwrap();
        assert!(blobs(&store).is_empty() && index.apps.is_empty(), "{bad}");
    }
}

#[test]
fn what_nobody_keeps_is_collected() {
    let (_data, store) = store();
    let (kept, _) = admit(&store, "kept");
    admit(&store, "not kept");
    assert_eq!(store.collect(&BTreeSet::from([kept])).unwrap(), 1);
    assert_eq!(blobs(&store), [kept.to_string()]);
}

proptest! {
    #[test]
    fn an_index_of_any_bytes_is_read_or_ignored(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join("index.json"), bytes).unwrap();
        prop_assert!(Store::open(data.path()).unwrap().1.apps.is_empty());
    }
}
