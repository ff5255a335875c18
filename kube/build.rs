//! Packs what `kube new` writes into one compressed archive: the template, and the sources of the kit.
use std::{
    env, fs,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::DeflateEncoder};

type Archive = tar::Builder<DeflateEncoder<Vec<u8>>>;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("template.tar.deflate");
    println!("cargo::rerun-if-changed=build.rs");

    let mut archive = tar::Builder::new(DeflateEncoder::new(Vec::new(), Compression::best()));
    // From the package's folder, in which Cargo runs this wherever the checkout has gone since it was compiled.
    pack(&mut archive, Path::new("template"), Path::new(""));
    pack(&mut archive, Path::new("../static-apps/kit/src"), Path::new("kit/src"));
    let archive = archive.into_inner().and_then(DeflateEncoder::finish).expect("memory takes the archive");
    fs::write(&out, archive).unwrap_or_else(|error| panic!("{}: {error}", out.display()));
}

/// Adds the files of a folder, in the order of their names; `below` is where they are in the archive.
fn pack(archive: &mut Archive, folder: &Path, below: &Path) {
    println!("cargo::rerun-if-changed={}", folder.display());
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> = entries.map(|entry| entry.expect("a folder can be listed").file_name()).collect();
    names.sort();
    for name in names {
        let (path, below) = (folder.join(&name), below.join(&name));
        if path.is_dir() {
            pack(archive, &path, &below);
            continue;
        }
        let content = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, below, content.as_slice()).expect("memory takes every entry");
    }
}
