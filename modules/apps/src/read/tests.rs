use std::{fs::OpenOptions, io::Write, os::unix::fs::PermissionsExt};

use tempfile::TempDir;

use super::*;

/// A task that reads the app `shop` of a new apps folder, at a time when nothing counts as fresh.
fn task() -> (TempDir, Task) {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("apps");
    fs::create_dir_all(folder.join("shop")).unwrap();
    let (store, _) = Store::open(&home.path().join("state")).unwrap();
    let task = Task {
        name: "shop".parse().unwrap(),
        folder,
        known: Arc::default(),
        limits: Limits::none(),
        store: Arc::new(store),
        fresh: Duration::ZERO,
    };
    (home, task)
}

fn version(task: &Task) -> Version {
    match task.read().outcome {
        Outcome::Read(version) => version,
        Outcome::Gone => panic!("gone"),
        Outcome::Adrift => panic!("adrift"),
        Outcome::Failed(problem) => panic!("{problem}"),
    }
}

fn settle(record: &Record) -> Arc<Record> {
    let settled = |(path, known): (&String, &Known)| (path.clone(), Known { settled: true, ..known.clone() });
    Arc::new(record.iter().map(settled).collect())
}

#[test]
fn a_file_with_the_same_stamp_is_not_read_again_once_it_is_settled() {
    let (_home, mut task) = task();
    let page = task.folder.join("shop/page");
    fs::write(&page, "one").unwrap();
    let first = version(&task);
    assert!(first.whole && !first.record["page"].settled, "it was written a moment ago");

    // A known file with a hash that is not its own: whoever gets the right one has read the file.
    let (other, size) = task.store.admit("x", &b"two"[..], &Limits::none()).unwrap();
    let mut wrong = first.record.clone();
    wrong.get_mut("page").unwrap().hash = other;
    task.known = Arc::new(wrong.clone());
    assert_eq!(version(&task).record["page"].hash, first.record["page"].hash, "not settled: read again");
    task.known = settle(&wrong);
    assert_eq!(version(&task).record["page"].hash, other, "settled: not read");
    fs::remove_file(task.store.blobs().join(other.to_string())).unwrap();
    assert_eq!(version(&task).record["page"].hash, first.record["page"].hash, "its content was lost: read again");
    assert_eq!(size, 3);
}

#[test]
fn a_file_that_changes_while_it_is_read_makes_the_version_torn() {
    let (_home, task) = task();
    let path = task.folder.join("shop/page");
    fs::write(&path, "one").unwrap();
    let root = Root::open(fs::canonicalize(task.folder.join("shop")).unwrap()).unwrap();
    let found = root.list(&Limits::none()).unwrap().files["page"].clone();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b", two").unwrap();
    let mut version = Version { record: Record::new(), skipped: Skipped::default(), whole: true };
    task.read_file(&root, &path, "page", &found, &mut version).unwrap();
    assert!(!version.whole);
    assert_eq!(version.record["page"].size, 8, "and what was copied has the size and the hash of what was copied");

    fs::remove_file(&path).unwrap();
    let mut version = Version { record: Record::new(), skipped: Skipped::default(), whole: true };
    task.read_file(&root, &path, "page", &found, &mut version).unwrap();
    assert!(!version.whole && version.record.is_empty());
}

#[test]
fn a_file_that_was_changed_just_now_is_not_taken_for_finished() {
    let (_home, mut task) = task();
    fs::write(task.folder.join("shop/page"), "one").unwrap();
    task.fresh = Duration::from_secs(3600);
    let fresh = version(&task);
    assert!(!fresh.whole);
    task.known = Arc::new(fresh.record);
    assert!(version(&task).whole, "it is the same as before: nobody is writing it");
}

#[test]
fn an_app_that_was_emptied_is_waited_for() {
    let (_home, mut task) = task();
    assert!(version(&task).whole, "an empty folder, where there was none");
    fs::write(task.folder.join("shop/page"), "one").unwrap();
    task.known = Arc::new(version(&task).record);
    fs::remove_file(task.folder.join("shop/page")).unwrap();
    assert!(!version(&task).whole);
}

#[test]
fn without_the_apps_folder_nothing_is_said_about_its_apps() {
    let (home, task) = task();
    assert!(matches!(task.read().outcome, Outcome::Read(_)));
    fs::remove_dir(task.folder.join("shop")).unwrap();
    assert!(matches!(task.read().outcome, Outcome::Gone));
    fs::write(task.folder.join("shop"), "a file").unwrap();
    assert!(matches!(task.read().outcome, Outcome::Gone));
    fs::rename(&task.folder, home.path().join("away")).unwrap();
    assert!(matches!(task.read().outcome, Outcome::Adrift));
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let (_home, task) = task();
    let path = task.folder.join("shop/page");
    fs::write(&path, "one").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    match task.read().outcome {
        Outcome::Failed(problem) => assert!(problem.to_string().contains("shop/page: Permission denied"), "{problem}"),
        // Root may read anything.
        Outcome::Read(_) => assert!(rustix::process::geteuid().is_root()),
        Outcome::Gone | Outcome::Adrift => panic!("it is there"),
    }
}
