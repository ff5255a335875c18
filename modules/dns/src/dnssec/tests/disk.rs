use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use super::*;
use crate::dnssec::{
    keys::{path, read, write},
    rollover::{Longest, Stage, Withdrawal},
};

fn keyset() -> Keyset {
    let mut keyset = Keyset::new(name("example"));
    let served = Served { ttl: 3600, delay: 60 };
    keyset.roll(key(), served, NOW).unwrap();
    keyset.keys[0].stage = Stage::Active;
    keyset.roll(Arc::new(Key::generate(&keyset.tags()).unwrap()), served, NOW + 1).unwrap();
    keyset.longest = Longest { zone: 7, parent: 8 };
    keyset
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn keys_come_back_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("keys");
    let mut keyset = keyset();
    let file = path(&folder, &keyset.zone);
    assert_eq!(read(&folder, &keyset.zone).unwrap(), None, "no file, no keys");
    write(&folder, &keyset).unwrap();
    assert_eq!(read(&folder, &keyset.zone).unwrap(), Some(keyset.clone()));
    assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));

    // A crash may leave the next file behind.
    fs::write(file.with_added_extension("next"), "half").unwrap();
    keyset.withdrawal = Some(Withdrawal { until: Some(NOW) });
    keyset.keys[0].stage = Stage::Retired { until: NOW };
    write(&folder, &keyset).unwrap();
    assert_eq!(read(&folder, &keyset.zone).unwrap(), Some(keyset.clone()));

    keyset.keys.clear();
    write(&folder, &keyset).unwrap();
    assert_eq!(read(&folder, &keyset.zone).unwrap(), Some(keyset.clone()));

    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    read(&folder, &keyset.zone).unwrap();
    assert_eq!(mode(&file), 0o600, "nobody else may read it");
}

#[test]
fn a_damaged_file_is_an_error_with_its_name_and_without_its_secret() {
    let folder = tempfile::tempdir().unwrap();
    let keyset = keyset();
    write(folder.path(), &keyset).unwrap();
    let file = path(folder.path(), &keyset.zone);
    let good = fs::read_to_string(&file).unwrap();
    let secret = good.split('"').find(|text| text.starts_with("MI")).unwrap();
    let other = secret.replacen("MI", "AA", 1);
    let damaged = [
        good.replace(secret, &secret[..40]),
        good.replace(secret, &other),
        good.replace(secret, "?"),
        good.replace("\"example.\"", "\"other.\""),
        good.replace("active", "asleep"),
        good.replace("\"version\": 1", "\"version\": 2"),
        good.replace("\"version\": 1", "\"version\": 1, \"more\": 1"),
        good.replace("\"created\": ", &format!("\"created\": \"{secret}\", \"was\": ")),
        good.replace(keys_of(&good)[1], keys_of(&good)[0]),
        " ".repeat(1 << 20),
        String::new(),
    ];
    let cut = (1..good.len() - 1).step_by(7).map(|length| good[..length].to_owned());
    for text in damaged.into_iter().chain(cut) {
        fs::write(&file, &text).unwrap();
        let error = read(folder.path(), &keyset.zone).unwrap_err();
        let (shown, debugged) = (error.to_string(), format!("{error:?}"));
        assert!(shown.contains("example.json"), "{shown}");
        assert!(!shown.contains(&secret[..20]) && !debugged.contains(&secret[..20]), "{shown}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text, "it is left as it is");
    }
    assert!(!format!("{keyset:?}").contains(&secret[..20]));
}

/// The private keys in the text of a file.
fn keys_of(text: &str) -> Vec<&str> {
    text.split('"').filter(|text| text.starts_with("MI")).collect()
}

#[test]
fn a_file_that_cannot_be_read_is_no_missing_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(path(folder.path(), &name("example"))).unwrap();
    assert!(read(folder.path(), &name("example")).is_err());
}

#[test]
fn every_zone_has_a_file_of_its_own_in_the_folder() {
    for (zone, file) in [
        ("example.org", "/k/example.org.json"),
        (".", "/k/%2e.json"),
        (r"a/b.example", "/k/a%2fb.example.json"),
        ("%2e", "/k/%252e.json"),
        (r"\046\046.example", r"/k/%5c.%5c..example.json"),
    ] {
        assert_eq!(path(Path::new("/k"), &name(zone)), Path::new(file));
    }
}
