//! Pure: what an app version is made of.
//!
//! # What it does
//! A [`Manifest`] lists the files of one version of an app by path, content hash, size and time. [`Sites`] is the
//! immutable set of apps that are live at one moment; whoever serves follows a watch of it.
//!
//! # What it promises
//! A manifest never changes: a changed app is a new manifest, swapped whole. Contents are named by their SHA-256, so a
//! response is always of one version, whatever happens to the folder that it came from.
//!
//! # How it works
//! ```text
//!   folder --(apps: hash, copy)--> blobs/<sha256>   +   Manifest { path -> hash, size, time }
//!                                        ^                       |
//!                                        +---(hosting: serve)----+
//! ```
//!
//! # What a person can set
//! Nothing.
//!
//! # What it deliberately does not do
//! It reads no file, and knows neither where blobs come from nor how they are sent.
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// The SHA-256 of a file's content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    /// 64 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One file of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Names the content.
    pub hash: Hash,
    /// Length in bytes.
    pub size: u64,
    /// When the file was last changed, by its folder.
    pub modified: SystemTime,
}

/// The files of one version, by path: relative, `/` between segments, neither empty, `.` nor `..` segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    files: BTreeMap<String, File>,
}

impl Manifest {
    /// The file at `path`, if the version has one.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// Every path and its file, by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// Whether `path` is a folder with something in it. The empty path is the app's own folder.
    pub fn is_folder(&self, path: &str) -> bool {
        if path.is_empty() {
            return !self.files.is_empty();
        }
        let prefix = format!("{path}/");
        self.files.range(prefix.clone()..).next().is_some_and(|(path, _)| path.starts_with(&prefix))
    }
}

impl FromIterator<(String, File)> for Manifest {
    fn from_iter<T: IntoIterator<Item = (String, File)>>(files: T) -> Self {
        Self { files: files.into_iter().collect() }
    }
}

/// One live app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The app's name: a DNS label.
    pub name: String,
    /// What is served.
    pub manifest: Manifest,
    /// What a path that names no file gets.
    pub missing: Missing,
    /// The folder that holds the contents; see [`Site::blob`].
    pub blobs: Arc<Path>,
}

impl Site {
    /// Where the content of one of this site's files lies: immutable, named by its hash.
    pub fn blob(&self, file: &File) -> PathBuf {
        self.blobs.join(file.hash.to_string())
    }
}

/// What a path that names no file gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// `404.html` if the app has one; else `index.html` for a path that looks like a page, as a single-page app expects.
    #[default]
    Auto,
    /// `index.html`, with status 200.
    Index,
    /// Status 404, with `404.html` if the app has one.
    NotFound,
}

/// The apps that are live at one moment, by name.
pub type Sites = BTreeMap<String, Arc<Site>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(paths: &[&str]) -> Manifest {
        let file = File { hash: Hash([7; 32]), size: 1, modified: SystemTime::UNIX_EPOCH };
        paths.iter().map(|path| (path.to_string(), file.clone())).collect()
    }

    #[test]
    fn a_folder_is_what_has_files_below_it() {
        let manifest = manifest(&["docs-old/x", "docs/a/b", "index.html"]);
        for (path, is) in [("", true), ("docs", true), ("docs/a", true), ("doc", false), ("index.html", false)] {
            assert_eq!(manifest.is_folder(path), is, "{path:?}");
        }
        assert!(!Manifest::default().is_folder(""));
    }

    #[test]
    fn a_blob_is_named_by_its_hash() {
        let manifest = manifest(&["index.html"]);
        let site = Site {
            name: "shop".into(),
            manifest: manifest.clone(),
            missing: Missing::Auto,
            blobs: Path::new("/blobs").into(),
        };
        let blob = site.blob(manifest.file("index.html").unwrap());
        assert_eq!(blob, Path::new("/blobs").join("07".repeat(32)));
    }
}
