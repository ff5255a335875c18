use std::os::unix::{ffi::OsStringExt, fs::symlink, net::UnixListener};

use tempfile::TempDir;

use super::*;

/// A folder outside and an app's folder in it, which has the files.
fn app(files: &[&str]) -> (TempDir, Root) {
    let outside = tempfile::tempdir().unwrap();
    for file in files {
        let path = outside.path().join("app").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    let root = Root::open(fs::canonicalize(outside.path()).unwrap().join("app")).unwrap();
    (outside, root)
}

fn list(root: &Root) -> (Vec<String>, String) {
    let listing = root.list(&Limits::none()).unwrap();
    (listing.files.into_keys().collect(), listing.skipped.to_string())
}

#[test]
fn what_is_neither_file_nor_folder_and_what_has_no_utf_8_name_is_named_and_left_out() {
    let (outside, root) = app(&["index.html"]);
    let folder = outside.path().join("app");
    drop(UnixListener::bind(folder.join("socket")).unwrap());
    rustix::fs::mknodat(CWD, folder.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::write(folder.join(OsString::from_vec(b"caf\xe9".to_vec())), "x").unwrap();
    let (files, skipped) = list(&root);
    assert_eq!(files, ["index.html"]);
    assert_eq!(skipped, "neither file nor folder: pipe, socket; name is not UTF-8: caf\u{fffd}");
}

#[test]
fn a_link_inside_the_app_is_what_it_leads_to() {
    let (outside, root) = app(&["real/page"]);
    let folder = outside.path().join("app");
    symlink("real/page", folder.join("relative")).unwrap();
    symlink(fs::canonicalize(&folder).unwrap().join("real"), folder.join("absolute")).unwrap();
    let listing = root.list(&Limits::none()).unwrap();
    assert_eq!(listing.files.keys().collect::<Vec<_>>(), ["absolute/page", "real/page", "relative"]);
    assert!(listing.files.values().all(|found| found.real == Path::new("real/page")));
}

#[test]
fn a_folder_that_leads_to_itself_is_listed_once() {
    let (outside, root) = app(&["a/page", "b/page"]);
    let folder = outside.path().join("app");
    symlink("../b", folder.join("a/b")).unwrap();
    symlink("../a", folder.join("b/a")).unwrap();
    let (files, skipped) = list(&root);
    assert_eq!(files, ["a/b/page", "a/page", "b/a/page", "b/page"]);
    assert_eq!(skipped, "link to a folder that it is in: a/b/a, b/a/b");
}

#[test]
fn a_folder_that_was_swapped_for_a_link_is_not_entered() {
    let (outside, root) = app(&["d/page"]);
    let folder = outside.path().join("app");
    fs::create_dir(outside.path().join("secrets")).unwrap();
    fs::write(outside.path().join("secrets/page"), "secret").unwrap();
    fs::rename(folder.join("d"), folder.join("old")).unwrap();
    symlink("../secrets", folder.join("d")).unwrap();
    let error = root.file(Path::new("d/page")).unwrap_err();
    assert!(is_gone(&error), "{error}");
    for path in ["../secrets/page", "/etc/passwd", "./../secrets/page"] {
        assert!(root.file(Path::new(path)).is_err(), "{path}");
    }
}

#[test]
fn too_deep_is_a_problem_and_not_an_overflow() {
    let (_outside, root) = app(&[&format!("{}page", "d/".repeat(DEEPEST + 1))]);
    assert!(matches!(root.list(&Limits::none()), Err(Problem::TooDeep { .. })));
}

#[test]
fn every_link_on_the_way_is_known() {
    let (outside, _) = app(&["page"]);
    let outside = fs::canonicalize(outside.path()).unwrap();
    symlink("app", outside.join("two")).unwrap();
    symlink("./two", outside.join("one")).unwrap();
    let (real, links) = resolve(&outside.join("one"));
    assert_eq!(real.unwrap(), outside.join("app"));
    assert_eq!(links, [outside.join("one"), outside.join("two")]);
    symlink("self", outside.join("self")).unwrap();
    let (real, links) = resolve(&outside.join("self"));
    assert!(real.is_err() && links.len() == MOST_LINKS);
}

#[test]
fn any_time_that_a_file_may_have_is_a_time() {
    for time in [(0, 0), (i64::MIN, 0), (i64::MAX, 999_999_999), (-1, 5)] {
        at(time);
    }
    assert_eq!(at((-1, 0)), SystemTime::UNIX_EPOCH - Duration::from_secs(1));
}
