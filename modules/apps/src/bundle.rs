//! The apps that are part of KUBE: one archive in the binary, unpacked into the store when a content is not there.
use std::{
    collections::BTreeMap,
    io::Read,
    sync::Arc,
    time::{Duration, SystemTime},
};

use flate2::read::DeflateDecoder;
use kube_manifest::{File, Hash, Manifest};

use crate::{
    error::Error,
    name::Name,
    problem::{Limits, Problem},
    store::{Admission, Store},
};

/// One file of a bundled app.
struct Bundled {
    app: &'static str,
    path: &'static str,
    hash: Hash,
    size: u64,
    /// Seconds since 1970.
    modified: u64,
}

const FILES: &[Bundled] = include!(concat!(env!("OUT_DIR"), "/bundle.rs"));
/// Contents, each named by its hash.
const ARCHIVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bundle.tar.deflate"));

/// Every bundled app.
pub(crate) fn manifests() -> BTreeMap<Name, Arc<Manifest>> {
    let mut apps: BTreeMap<Name, Vec<(String, File)>> = BTreeMap::new();
    for file in FILES {
        let name = file.app.parse().expect("a test proves that every folder of static-apps has the name of an app");
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(file.modified);
        let (path, file) = (file.path.to_owned(), File { hash: file.hash, size: file.size, modified });
        apps.entry(name).or_default().push((path, file));
    }
    apps.into_iter().map(|(name, files)| (name, Arc::new(files.into_iter().collect()))).collect()
}

/// Every content of the bundled apps, with its size.
pub(crate) fn contents() -> impl Iterator<Item = (Hash, u64)> {
    FILES.iter().map(|file| (file.hash, file.size))
}

/// Puts what is not in the store there. Costs one look at each content when all are.
pub(crate) fn unpack(store: &Store, limits: &Limits) -> Result<(), Error> {
    if contents().all(|(hash, size)| store.has(hash, size)) {
        return Ok(());
    }
    let broken = |source| Error::Store { path: store.blobs().to_path_buf(), source };
    for entry in tar::Archive::new(DeflateDecoder::new(ARCHIVE)).entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        match store.admit("a bundled file", entry.by_ref(), limits) {
            Ok(_) => {}
            Err(Admission::Unreadable(error)) => return Err(broken(error)),
            Err(Admission::Problem(problem)) => return Err(broken(into_io(&problem))),
        }
    }
    Ok(())
}

fn into_io(problem: &Problem) -> std::io::Error {
    std::io::Error::other(problem.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bundled_app_has_a_name_and_a_page() {
        let apps = manifests();
        assert!(apps.contains_key(&"welcome".parse().unwrap()));
        for (name, manifest) in apps {
            assert!(manifest.file("index.html").is_some(), "{name}");
            assert!(manifest.files().all(|(path, _)| !path.contains("node_modules")), "{name}");
        }
    }

    #[test]
    fn every_bundled_content_is_what_its_name_says() {
        let data = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(data.path()).unwrap();
        unpack(&store, &Limits::none()).unwrap();
        assert!(contents().count() > 2);
        assert!(contents().all(|(hash, size)| store.has(hash, size)));
    }
}
