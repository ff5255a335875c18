//! Packs the apps of `static-apps` into one compressed archive, contents named by their hash, and a table of files.
//!
//! Text gets its compressed form beside it, unless the app's own build has made one.
use std::{
    collections::BTreeMap,
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder},
};
use sha2::{Digest, Sha256};

fn main() {
    // From the package's folder, in which Cargo runs this wherever the checkout has gone since it was compiled.
    let apps = Path::new("../../static-apps");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");

    let mut table = String::from("&[\n");
    let mut contents = BTreeMap::new();
    for app in folders(apps) {
        let name = app.file_name().and_then(|name| name.to_str()).expect("an app is named in ASCII").to_owned();
        // What has a package but no page is no app: something that apps share.
        let packaged = app.join("package.json").is_file();
        if packaged && !app.join("index.html").is_file() {
            continue;
        }
        // Not the whole folder of a package: what npm keeps there is large, and changes by itself.
        let root = if packaged { app.join("dist") } else { app };
        println!("cargo::rerun-if-changed={}", root.display());
        if !root.is_dir() {
            println!("cargo::warning=static-apps/{name} has no dist folder: it is not bundled (make builds it)");
            continue;
        }
        let mut files = Vec::new();
        collect(&root, "", &mut files);
        files.sort();
        let mut all = Vec::new();
        for (path, file) in &files {
            let content = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let gzip = format!("{path}.gz");
            if is_text(path) && !files.iter().any(|(path, _)| *path == gzip) {
                all.extend(compressed(&content).map(|content| (gzip, file, content)));
            }
            all.push((path.clone(), file, content));
        }
        for (path, file, content) in all {
            let hash: [u8; 32] = Sha256::digest(&content).into();
            let (size, modified) = (content.len(), modified(file));
            table += &format!(
                "    Bundled {{ app: {name:?}, path: {path:?}, hash: Hash({hash:?}), size: {size}, modified: {modified} }},\n"
            );
            contents.insert(hash.map(|byte| format!("{byte:02x}")).concat(), content);
        }
    }
    table.push(']');

    let mut archive = tar::Builder::new(DeflateEncoder::new(Vec::new(), Compression::best()));
    for (hash, content) in contents {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, hash, content.as_slice()).expect("memory takes every entry");
    }
    let archive = archive.into_inner().and_then(DeflateEncoder::finish).expect("memory takes the archive");
    write(&out.join("bundle.tar.deflate"), &archive);
    write(&out.join("bundle.rs"), table.as_bytes());
}

fn is_text(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, end)| ["css", "html", "js", "json", "svg"].contains(&end))
}

/// The content as gzip, if that is worth a response of its own.
fn compressed(content: &[u8]) -> Option<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    let gzip = gzip.write_all(content).and_then(|()| gzip.finish()).expect("memory takes all");
    (content.len() >= 1024 && gzip.len() < content.len() / 10 * 9).then_some(gzip)
}

fn write(path: &Path, content: &[u8]) {
    let mut file = fs::File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.write_all(content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// The visible folders in `folder`, by name; none when there is no such folder.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("a folder can be listed"));
    let mut folders: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !is_hidden(path)).collect();
    folders.sort();
    folders
}

fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') && name != ".well-known"
}

fn collect(folder: &Path, below: &str, files: &mut Vec<(String, PathBuf)>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let entry = entry.expect("a folder can be listed");
        let (path, kind) = (entry.path(), entry.file_type().expect("an entry has a type"));
        let name = entry.file_name().into_string().expect("a bundled file is named in UTF-8");
        if is_hidden(&path) || name == "node_modules" {
            continue;
        }
        let name = if below.is_empty() { name } else { format!("{below}/{name}") };
        if kind.is_dir() {
            collect(&path, &name, files);
        } else if kind.is_file() {
            files.push((name, path));
        }
    }
}

/// Seconds since 1970: of the release when it says so, which makes builds reproducible, else of the file.
fn modified(file: &Path) -> u64 {
    let release = env::var_os("SOURCE_DATE_EPOCH").and_then(|text| text.to_str()?.parse().ok());
    release.unwrap_or_else(|| {
        let modified = fs::metadata(file).and_then(|is| is.modified()).expect("a file has a time");
        modified.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    })
}
