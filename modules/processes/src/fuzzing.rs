//! What fuzzers call.
use std::{fs, io::Write as _, sync::LazyLock};

use crate::logs::{Entry, Query, Reader};

/// Reads a log: how many of the last lines, then its files, six at most, each of which ends at a byte 255.
///
/// # Panics
/// The last lines are not the last of all, or what is followed is not what is read at once.
pub fn log(input: &[u8]) {
    static FOLDER: LazyLock<std::path::PathBuf> =
        LazyLock::new(|| std::env::temp_dir().join(format!("kube-fuzz-{}", std::process::id())));
    let Some((&count, files)) = input.split_first() else { return };
    let folder = FOLDER.join("worker");
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(&folder).expect("a folder");
    let mut files: Vec<_> = files.splitn(6, |byte| *byte == 255).collect();
    let current = files.pop().unwrap_or_default();
    for (number, file) in files.iter().enumerate() {
        fs::write(folder.join(format!("{number}.jsonl")), file).expect("a file");
    }
    let (begin, end) = current.split_at(current.len() / 2);
    let mut file = fs::File::create(folder.join("current.jsonl")).expect("a file");
    file.write_all(begin).expect("a disk");
    let mut reader = Reader::open(&FOLDER, "worker", &Query::default()).expect("a log");
    let mut followed = rest(&mut reader);
    file.write_all(end).expect("a disk");
    followed.extend(rest(&mut reader));

    let all = rest(&mut Reader::open(&FOLDER, "worker", &Query::default()).expect("a log"));
    assert_eq!(followed, all);
    let query = Query { lines: Some(count.into()), ..Query::default() };
    let last = rest(&mut Reader::open(&FOLDER, "worker", &query).expect("a log"));
    assert!(last.len() <= count.into() && all.ends_with(&last));
}

fn rest(reader: &mut Reader) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(line) = reader.next().expect("a file") {
        drop(Entry::read(line));
        lines.push(line.to_owned());
    }
    lines
}
