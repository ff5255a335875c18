//! Pure: what an app version is made of.
//!
//! # What it does
//! A [`Manifest`] lists the files of one version of an app by path, content hash, size and time, each with its encoded
//! forms: `app.js.br`, `app.js.zst` and `app.js.gz` beside `app.js`. [`Sites`] is the immutable set of apps that are live
//! at one moment; whoever serves follows a watch of it.
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
//! It reads no file, and knows neither where blobs come from nor how they are sent. That `app.js.br` decodes to `app.js` is
//! for whoever made both to see to; only one that is clearly older than its file is left out.
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
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

/// An encoded form that is older than its file by more than this was left behind by an earlier version. Less says nothing:
/// files that are copied together get their times in any order.
const LEFT_BEHIND: Duration = Duration::from_secs(600);

/// A way to encode content, which the end of a file's name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `.br`, RFC 7932.
    Brotli,
    /// `.zst`, RFC 8878.
    Zstd,
    /// `.gz`, RFC 1952.
    Gzip,
}

impl Coding {
    /// What the file at `path` encodes, by its name.
    fn encoded(path: &str) -> Option<(&str, Self)> {
        let (of, end) = path.rsplit_once('.')?;
        let coding = match end {
            "br" => Self::Brotli,
            "zst" => Self::Zstd,
            "gz" => Self::Gzip,
            _ => return None,
        };
        Some((of, coding))
    }
}

/// A file, and the files beside it that hold the same content encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The file itself.
    pub file: File,
    /// The smallest first, each smaller than the file itself.
    pub encoded: Vec<(Coding, File)>,
}

/// The files of one version, by path: relative, `/` between segments, neither empty, `.` nor `..` segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    files: BTreeMap<String, Entry>,
}

impl Manifest {
    /// The file at `path`, if the version has one.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.entry(path).map(|entry| &entry.file)
    }

    /// The file at `path` and its encoded forms, if the version has one.
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        self.files.get(path)
    }

    /// Every path and its file, by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, entry)| (path.as_str(), &entry.file))
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
        let entry = |(path, file)| (path, Entry { file, encoded: Vec::new() });
        let mut files: BTreeMap<_, _> = files.into_iter().map(entry).collect();
        let coded = files.iter().filter_map(|(path, Entry { file, .. })| {
            let (of, coding) = Coding::encoded(path)?;
            Some((of.to_owned(), coding, file.clone()))
        });
        for (of, coding, file) in coded.collect::<Vec<_>>() {
            // One that saves nothing is never the better answer.
            let late = |of: &File| of.modified.duration_since(file.modified).unwrap_or_default();
            let fits = |of: &File| file.size < of.size && late(of) <= LEFT_BEHIND;
            if let Some(entry) = files.get_mut(&of).filter(|entry| fits(&entry.file)) {
                entry.encoded.push((coding, file));
                entry.encoded.sort_by_key(|(_, file)| file.size);
            }
        }
        Self { files }
    }
}

/// One live app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The app's name: a DNS label.
    pub name: String,
    /// The host names that it has besides those below the domain, in lower case without a final dot.
    pub domains: Vec<String>,
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
    fn a_file_has_its_smaller_encoded_forms_beside_it() {
        use Coding::{Brotli, Gzip, Zstd};
        let file = |size| File { hash: Hash([7; 32]), size, modified: SystemTime::UNIX_EPOCH };
        let files = [
            ("app.js", 100),
            ("app.js.br", 30),
            ("app.js.gz", 40),
            ("app.js.gz.br", 39),
            ("app.js.zst", 20),
            ("br", 100),
            ("docs/.gz", 1),
            ("index.html", 10),
            ("index.html.br", 10),
            ("lone.wasm.br", 1),
            ("same.css", 10),
            ("same.css.BR", 1),
        ];
        let manifest: Manifest = files.iter().map(|(path, size)| (path.to_string(), file(*size))).collect();
        for (path, size) in files {
            let want: &[_] = match path {
                "app.js" => &[(Zstd, file(20)), (Brotli, file(30)), (Gzip, file(40))],
                "app.js.gz" => &[(Brotli, file(39))],
                _ => &[],
            };
            assert_eq!(manifest.entry(path).unwrap().encoded, want, "{path}");
            assert_eq!(manifest.file(path).unwrap().size, size, "{path} is there by its own name too");
        }
    }

    #[test]
    fn an_encoded_form_that_an_earlier_version_left_behind_does_not_count() {
        for (made, counts) in [(0, false), (399, false), (400, true), (1000, true), (5000, true)] {
            let file = |size, made| File {
                hash: Hash([7; 32]),
                size,
                modified: SystemTime::UNIX_EPOCH + Duration::from_secs(made),
            };
            let files = [("index.html".into(), file(100, 1000)), ("index.html.gz".into(), file(50, made))];
            let manifest = Manifest::from_iter(files);
            assert_eq!(!manifest.entry("index.html").unwrap().encoded.is_empty(), counts, "{made}");
        }
    }

    #[test]
    fn a_blob_is_named_by_its_hash() {
        let manifest = manifest(&["index.html"]);
        let site = Site {
            name: "shop".into(),
            domains: Vec::new(),
            manifest: manifest.clone(),
            missing: Missing::Auto,
            blobs: Path::new("/blobs").into(),
        };
        let blob = site.blob(manifest.file("index.html").unwrap());
        assert_eq!(blob, Path::new("/blobs").join("07".repeat(32)));
    }
}
