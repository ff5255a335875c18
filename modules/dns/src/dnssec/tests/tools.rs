use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use super::*;
use crate::dnssec::rollover::Stage;

/// A program of the system; none if it is not installed.
fn program(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/usr/local/bin"]
        .map(|folder| Path::new(folder).join(name))
        .into_iter()
        .find(|path| path.exists())
}

#[test]
fn a_zone_in_text_is_the_same_zone() {
    let signing = signed(content());
    let plain = text::write(&signing.content, None);
    assert_eq!(text::read(plain.as_bytes(), None).unwrap(), signing.content);
    let full = text::write(&signing.content, Some(&signing.signed));
    assert!(full.starts_with("example. 3600 IN SOA "), "{full}");
    let count = |rtype: &str| full.matches(&format!(" IN {rtype} ")).count();
    assert_eq!(count("RRSIG"), signing.signed.signatures.len() + signing.signed.denials.len());
    assert_eq!(count("NSEC3"), signing.signed.denials.len());
    let read = text::read(full.as_bytes(), None).unwrap();
    assert_eq!(crate::zone::records(&read, None).len(), full.lines().count(), "nothing is lost");
}

#[test]
fn data_that_does_not_fit_its_type_is_written_so_that_it_can_be_read() {
    let mut content = content();
    for (rtype, data) in [
        (Rtype(16), &b"\x04a;\"\\\x03\x00\n\xff\x00"[..]),
        (Rtype(16), b"\x09short"),
        (Rtype::DS, b"\x01"),
        (Rtype(65), b"\x00\x01\x00\x00\x01\x00\x05\x04a,\\b"),
        (Rtype(65), b"\x00\x01\x00\x00\x07\x00\x04/q ;"),
        (Rtype(64), b"\x00\x01\x00\xff\x00\x00\x00"),
        (Rtype(65), b"\x00\x01\x00\x00\x02\x00\x00"),
        (Rtype(257), b"\x00\x05issue;\"x\\"),
        (Rtype(13), b"\x01a\x02b "),
        (Rtype(65400), b""),
    ] {
        content.add(Record { owner: name(r#"\000\"\ \;\(x.example"#), rtype, ttl: 60, data: data.into() });
    }
    let written = text::write(&content, None);
    let read = text::read(written.as_bytes(), None).unwrap_or_else(|error| panic!("{error}\n{written}"));
    // Each one at a time: all of it at once says too little.
    for (set, again) in content.sets().zip(read.sets()) {
        assert_eq!(set, again, "{written}");
    }
    assert_eq!(content, read);
}

/// What the programs that are installed say of a zone file: a complaint, or nothing.
fn judge(folder: &Path, zone: &str) -> Vec<(&'static str, Option<String>)> {
    let file = folder.join("example.zone");
    std::fs::write(&file, zone).unwrap();
    let file = file.to_str().unwrap();
    let tools: [(_, &[&str]); 5] = [
        ("ldns-verify-zone", &[file]),
        ("dnssec-verify", &["-z", "-o", "example", file]),
        ("named-checkzone", &["-i", "local", "example", file]),
        ("nsd-checkzone", &["example", file]),
        ("kzonecheck", &["-o", "example", file]),
    ];
    let run = |(tool, arguments): (&'static str, &[&str])| {
        let output = Command::new(program(tool)?).args(arguments).output().unwrap();
        let [said, complained] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Some((tool, (!output.status.success()).then(|| said + &complained)))
    };
    tools.into_iter().filter_map(run).collect()
}

#[test]
fn the_programs_of_others_find_no_fault_with_a_signed_zone() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as u32;
    let mut zone = content();
    // NSD takes no zone with names below a DNAME: RFC 6672, section 2.4.
    zone.remove(&name("hid.old.example"), Rtype::A);
    let (mut zone, mut keyset) = prepared(zone);
    for rolling in [false, true] {
        if rolling {
            keyset.keys[0].stage = Stage::Active;
            keyset.roll(Arc::new(Key::generate(&keyset.tags()).unwrap()), Served { ttl: 60, delay: 0 }, now).unwrap();
            keyset.prepare(&mut zone);
        }
        let signing = sign(zone.clone(), keyset.signing(), LIFETIME, None, now).unwrap();
        let text = text::write(&signing.content, Some(&signing.signed));
        for (tool, complaint) in judge(folder.path(), &text) {
            assert_eq!(complaint, None, "{tool}");
        }
        for (tool, complaint) in judge(folder.path(), &text.replace("192.0.2.2\n", "192.0.2.22\n")) {
            assert!(complaint.is_some() || !tool.contains("verify"), "{tool} sees a forgery");
        }
    }
}
