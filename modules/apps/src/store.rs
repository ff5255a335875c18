//! Contents on disk: immutable blobs named by their hash, and the index that says which of them can be trusted.
//!
//! ```text
//!   <data>/blobs/<sha256>     a content; also `.new-<n>` while it is copied
//!   <data>/index.json         version 1: every blob that is safely on disk, and the files of every app
//! ```
//!
//! *The index rule*: a blob that the index does not name, with its size, is deleted at start. Publishing need not wait
//! for the disk then: after a crash, what had not reached it is read from its folder again.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use kube_manifest::{self as manifest, Hash, Manifest};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    error::Error,
    name::Name,
    problem::{Limits, Problem},
    tree::Stamp,
};

/// The version of the index that this code writes and reads.
const VERSION: u32 = 1;
/// What a blob is called until it is complete.
const UNFINISHED: &str = ".new-";

/// One file of an app as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Known {
    #[serde(with = "hex")]
    pub(crate) hash: Hash,
    pub(crate) size: u64,
    pub(crate) stamp: Stamp,
    /// Whether an equal stamp means an equal content. A file that was changed just before it was read may be changed
    /// again within the resolution of the clock that stamps it.
    pub(crate) settled: bool,
}

/// Every file of an app, by path.
pub(crate) type Record = BTreeMap<String, Known>;

/// What is served of a record.
pub(crate) fn manifest(record: &Record) -> Manifest {
    let file = |known: &Known| manifest::File { hash: known.hash, size: known.size, modified: known.stamp.modified() };
    record.iter().map(|(path, known)| (path.clone(), file(known))).collect()
}

/// What is on disk for sure.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Index {
    version: u32,
    blobs: BTreeMap<String, u64>,
    pub(crate) apps: BTreeMap<Name, Arc<Record>>,
}

impl Index {
    /// The index of `apps`, and of the blobs that are there besides.
    pub(crate) fn new(apps: BTreeMap<Name, Arc<Record>>, others: impl Iterator<Item = (Hash, u64)>) -> Self {
        let of_apps = apps.values().flat_map(|record| record.values()).map(|known| (known.hash, known.size));
        let blobs = of_apps.chain(others).map(|(hash, size)| (hash.to_string(), size)).collect();
        Self { version: VERSION, blobs, apps }
    }
}

/// The folder of contents.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    blobs: Arc<Path>,
    next: AtomicU64,
}

impl Store {
    /// Opens the store in `folder`, making it where there is none, and deletes what cannot be trusted.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Index), Error> {
        let blobs = folder.join("blobs");
        let failed = |source| Error::Store { path: folder.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&blobs).map_err(failed)?;
        let store = Self { folder: folder.to_owned(), blobs: blobs.into(), next: AtomicU64::new(0) };
        let mut index = store.read_index().map_err(failed)?;
        let trusted = store.sweep(&index.blobs).map_err(failed)?;
        let is_here = |record: &Arc<Record>| record.values().all(|known| trusted.contains(&known.hash.to_string()));
        index.apps.retain(|_, record| is_here(record));
        Ok((store, index))
    }

    fn read_index(&self) -> io::Result<Index> {
        let path = self.index();
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Index::default()),
            text => text?,
        };
        match serde_json::from_slice::<Index>(&text) {
            Ok(index) if index.version == VERSION => return Ok(index),
            Ok(index) => tracing::warn!(version = index.version, path = %path.display(), "an index of another version"),
            Err(error) => tracing::warn!(%error, path = %path.display(), "the index cannot be read"),
        }
        tracing::warn!("all apps are read again");
        Ok(Index::default())
    }

    /// Deletes every blob that is not named, or has another size; gives the names of the others.
    fn sweep(&self, named: &BTreeMap<String, u64>) -> io::Result<BTreeSet<String>> {
        let mut trusted = BTreeSet::new();
        for entry in fs::read_dir(&self.blobs)? {
            let entry = entry?;
            match entry.file_name().into_string() {
                Ok(name) if named.get(&name).is_some_and(|size| entry.metadata().is_ok_and(|is| is.len() == *size)) => {
                    trusted.insert(name);
                }
                Ok(_) | Err(_) => fs::remove_file(entry.path())?,
            }
        }
        Ok(trusted)
    }

    /// The folder of blobs, as sites name it.
    pub(crate) fn blobs(&self) -> Arc<Path> {
        Arc::clone(&self.blobs)
    }

    fn index(&self) -> PathBuf {
        self.folder.join("index.json")
    }

    /// Whether the content is here.
    pub(crate) fn has(&self, hash: Hash, size: u64) -> bool {
        fs::metadata(self.blobs.join(hash.to_string())).is_ok_and(|is| is.len() == size)
    }

    /// Copies a content into the store, named by what was copied.
    pub(crate) fn admit(&self, path: &str, mut content: impl Read, limits: &Limits) -> Result<(Hash, u64), Admission> {
        let copy = self.blobs.join(format!("{UNFINISHED}{}", self.next.fetch_add(1, Ordering::Relaxed)));
        let admitted = self.copy(&copy, path, &mut content, limits);
        if admitted.is_err()
            && let Err(error) = fs::remove_file(&copy)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %copy.display(), "cannot delete an unfinished copy");
        }
        admitted
    }

    fn copy(
        &self,
        copy: &Path,
        path: &str,
        content: &mut impl Read,
        limits: &Limits,
    ) -> Result<(Hash, u64), Admission> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(copy).map_err(disk)?;
        let (mut hash, mut size) = (Sha256::new(), 0_u64);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            limits.stop.check().map_err(Admission::Problem)?;
            let read = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Admission::Unreadable(error)),
            };
            size += read as u64;
            limits.admit(path, size, 0).map_err(Admission::Problem)?;
            hash.update(&buffer[..read]);
            file.write_all(&buffer[..read]).map_err(disk)?;
        }
        let hash = Hash(hash.finalize().into());
        if self.has(hash, size) {
            fs::remove_file(copy).map_err(disk)?;
        } else {
            fs::rename(copy, self.blobs.join(hash.to_string())).map_err(disk)?;
        }
        Ok((hash, size))
    }

    /// Waits until the blobs of `index` are on disk, and then says so on disk.
    pub(crate) fn write(&self, index: &Index) -> io::Result<()> {
        // One call for all blobs. It also waits for other programs' writes, which delays nobody's request.
        rustix::fs::syncfs(File::open(&self.blobs)?)?;
        let (new, path) = (self.folder.join("index.json.new"), self.index());
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(index)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(&self.folder)?.sync_all()
    }

    /// Deletes every blob that is not in `keep`; gives how many. No content may be admitted meanwhile.
    pub(crate) fn collect(&self, keep: &BTreeSet<Hash>) -> io::Result<usize> {
        let keep: BTreeSet<String> = keep.iter().map(Hash::to_string).collect();
        let mut deleted = 0;
        for entry in fs::read_dir(&self.blobs)? {
            let entry = entry?;
            if !entry.file_name().into_string().is_ok_and(|name| keep.contains(&name)) {
                fs::remove_file(entry.path())?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}

/// Why a content was not admitted.
#[derive(Debug)]
pub(crate) enum Admission {
    Unreadable(io::Error),
    Problem(Problem),
}

fn disk(error: io::Error) -> Admission {
    Admission::Problem(Problem::Store { reason: error.to_string() })
}

/// A hash as 64 hexadecimal digits.
mod hex {
    use kube_manifest::Hash;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(hash)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut hash = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(D::Error::custom("a hash has 64 hexadecimal digits"));
        }
        for (i, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(D::Error::custom)?;
        }
        Ok(Hash(hash))
    }
}

#[cfg(test)]
mod tests;
