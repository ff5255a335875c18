//! Logs, read from their files: while they are written, or when nobody writes them.
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use memchr::{memchr, memrchr};
use serde::Deserialize;

use super::{
    files::{self, CURRENT},
    line::{BEGIN, LONGEST_WRITTEN, Stream, TIME},
    stamp,
};
use crate::name::{Name, OWN};

/// Bytes that are looked at together when the last lines are searched.
const WINDOW: usize = 64 << 10;
/// More than what of a line says whether it was asked for.
const ENOUGH: usize = 256;
/// How often it is tried to open a file that is just being put aside.
const TRIES: usize = 10;

/// Which lines are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query {
    /// Those from then on.
    pub since: Option<SystemTime>,
    /// The last of them, so many.
    pub lines: Option<usize>,
    /// Those of this stream.
    pub stream: Option<Stream>,
}

/// One line, as files have it.
#[derive(Debug, Deserialize)]
pub struct Entry<'a> {
    /// When KUBE took it: RFC 3339, in UTC with microseconds.
    #[serde(borrow)]
    pub time: Cow<'a, str>,
    /// Whom it is from.
    pub stream: Stream,
    /// The process that wrote it.
    pub pid: Option<u32>,
    /// How bad it is, if it is of KUBE itself.
    #[serde(borrow)]
    pub level: Option<Cow<'a, str>>,
    /// The part of KUBE that it is from.
    #[serde(borrow)]
    pub target: Option<Cow<'a, str>>,
    /// The text.
    #[serde(borrow)]
    pub line: Cow<'a, str>,
    /// Whether it goes on in the next line of its stream: it was too long for one.
    #[serde(default)]
    pub part: bool,
    /// What else is known, if it is of KUBE itself.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
}

impl<'a> Entry<'a> {
    /// Reads a line of JSON; `None` if it is not one of a log.
    pub fn read(line: &'a str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

/// The names of the logs in `folder`, sorted.
///
/// # Errors
/// The folder cannot be read.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().into_string().ok();
        names.extend(name.filter(|name| name == OWN || name.parse::<Name>().is_ok()));
    }
    names.sort();
    Ok(names)
}

/// Reads the lines of one log in their order, across its files.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    since: String,
    stream: Option<Stream>,
    at: Option<Place>,
}

/// How far it is read.
#[derive(Debug)]
struct Place {
    file: BufReader<File>,
    inode: u64,
    position: u64,
    /// The line that was read, or as much of it as there is.
    line: Vec<u8>,
    /// Whether the line that is read is too long to be one of a log.
    is_too_long: bool,
    /// Whether nothing will be written to the file any more.
    is_aside: bool,
}

impl Reader {
    /// Begins where `query` says, in the log of `name` in the folder of all logs. There need not be one yet.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn open(folder: &Path, name: &str, query: &Query) -> io::Result<Self> {
        let since = query.since.map(|since| stamp(since).to_string()).unwrap_or_default();
        let folder = folder.join(name);
        let mut reader = Self { folder, since, stream: query.stream, at: None };
        reader.at = reader.start(query)?;
        Ok(reader)
    }

    /// The next line of JSON, without its end; `None`: there is no more, for now.
    ///
    /// # Errors
    /// A file cannot be read.
    #[expect(clippy::should_implement_trait, reason = "it lends")]
    pub fn next(&mut self) -> io::Result<Option<&str>> {
        loop {
            let Some(place) = &mut self.at else {
                self.at = self.first(|_| true)?;
                if self.at.is_none() {
                    return Ok(None);
                }
                continue;
            };
            if place.advance()? {
                if is_asked_for(&place.line, &self.since, self.stream) && str::from_utf8(&place.line).is_ok() {
                    break;
                }
            } else if place.is_aside {
                let inode = place.inode;
                let Some(next) = self.after(inode)? else { return Ok(None) };
                self.at = Some(next);
            } else if place.is_current(&self.folder)? {
                return Ok(None);
            } else {
                // More may have come between the end that was read and the moment it was put aside.
                place.is_aside = true;
            }
        }
        let line = self.at.as_ref().and_then(|place| str::from_utf8(&place.line).ok());
        Ok(line.map(|line| line.trim_end_matches('\n')))
    }

    fn start(&self, query: &Query) -> io::Result<Option<Place>> {
        let is_new = |metadata: &fs::Metadata| {
            query.since.is_none_or(|since| metadata.modified().is_ok_and(|modified| modified >= since))
        };
        let Some(mut left) = query.lines else { return self.first(is_new) };
        let mut oldest = None;
        for (path, metadata) in files(&self.folder)?.into_iter().rev() {
            let Some(mut place) = Place::open(&path, &metadata)? else { continue };
            let is_enough = self.find_back(&mut place, &mut left)?;
            oldest = Some(place);
            if is_enough || !is_new(&metadata) {
                break;
            }
        }
        Ok(oldest)
    }

    /// Goes to the last line but `left` of those that are asked for; if there are fewer, to the beginning, and `left` is so many less.
    fn find_back(&self, place: &mut Place, left: &mut usize) -> io::Result<bool> {
        let file = place.file.get_ref();
        let mut end = file.metadata()?.len();
        let mut text = Vec::new();
        let mut is_first = true;
        let mut found = None;
        while end > 0 && found.is_none() {
            let start = end.saturating_sub(WINDOW as u64);
            let size = usize::try_from(end - start).expect("a window");
            // The beginning of a line whose end is in the window behind.
            let rest = std::mem::take(&mut text);
            text.resize(size, 0);
            file.read_exact_at(&mut text, start)?;
            text.extend_from_slice(&rest);
            // What has no end is no line yet.
            let mut lines_end = memrchr(b'\n', &text).map_or(0, |last| last + 1);
            if is_first && *left == 0 && lines_end > 0 {
                found = Some(start + lines_end as u64);
            }
            is_first = is_first && lines_end == 0;
            while lines_end > 0 && found.is_none() {
                let begin = memrchr(b'\n', &text[..lines_end - 1]).map(|before| before + 1);
                let Some(begin) = begin.or((start == 0).then_some(0)) else { break };
                if is_asked_for(&text[begin..lines_end - 1], &self.since, self.stream) {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        found = Some(start + begin as u64);
                    }
                }
                lines_end = begin;
            }
            text.truncate(lines_end);
            if lines_end > ENOUGH {
                text.truncate(ENOUGH);
                text.push(b'\n');
            }
            end = start;
        }
        place.go_to(found.unwrap_or_default())?;
        Ok(found.is_some())
    }

    /// The oldest file that is wanted; the current one, if none is.
    fn first(&self, is_wanted: impl Fn(&fs::Metadata) -> bool) -> io::Result<Option<Place>> {
        for _ in 0..TRIES {
            let mut files = files(&self.folder)?;
            let at = files.iter().position(|(_, metadata)| is_wanted(metadata)).or(files.len().checked_sub(1));
            let Some(at) = at else { return Ok(None) };
            let (path, metadata) = files.swap_remove(at);
            if let Some(place) = Place::open(&path, &metadata)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// The file that was begun after this one; the oldest that is left, if it is gone by now.
    fn after(&self, inode: u64) -> io::Result<Option<Place>> {
        for _ in 0..TRIES {
            let files = files(&self.folder)?;
            let at = files.iter().position(|(_, metadata)| metadata.ino() == inode).map_or(0, |at| at + 1);
            let Some((path, metadata)) = files.get(at) else { return Ok(None) };
            if let Some(place) = Place::open(path, metadata)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }
}

impl Place {
    /// Opens the file; `None` if it is another one by now.
    fn open(path: &Path, metadata: &fs::Metadata) -> io::Result<Option<Self>> {
        let Some(file) = unless_missing(File::open(path))? else { return Ok(None) };
        let inode = file.metadata()?.ino();
        let file = BufReader::new(file);
        let place = Self { file, inode, position: 0, line: Vec::new(), is_too_long: false, is_aside: false };
        Ok(Some(place).filter(|_| inode == metadata.ino()))
    }

    /// Reads on; whether there is a whole line now.
    fn advance(&mut self) -> io::Result<bool> {
        if self.line.last() == Some(&b'\n') {
            self.line.clear();
        }
        loop {
            let room = LONGEST_WRITTEN + 1 - self.line.len();
            let read = self.file.by_ref().take(room as u64).read_until(b'\n', &mut self.line)?;
            self.position += read as u64;
            let is_whole = self.line.last() == Some(&b'\n');
            if !is_whole && self.line.len() <= LONGEST_WRITTEN {
                return Ok(false);
            }
            if is_whole && !self.is_too_long {
                return Ok(true);
            }
            self.is_too_long = !is_whole;
            self.line.clear();
        }
    }

    /// Whether the file is the current one. If it was cut off, as it is when the disk is full, what was read beyond is forgotten.
    fn is_current(&mut self, folder: &Path) -> io::Result<bool> {
        let Some(metadata) = unless_missing(fs::metadata(folder.join(CURRENT)))? else { return Ok(false) };
        let is_current = metadata.ino() == self.inode;
        if is_current && metadata.len() < self.position {
            self.go_to(metadata.len())?;
        }
        Ok(is_current)
    }

    fn go_to(&mut self, position: u64) -> io::Result<()> {
        self.position = self.file.seek(SeekFrom::Start(position))?;
        (self.is_too_long, self.line) = (false, Vec::new());
        Ok(())
    }
}

/// Whether a line is one of a log, not older than `since`, and of the stream.
fn is_asked_for(line: &[u8], since: &str, stream: Option<Stream>) -> bool {
    let Some((time, rest)) = line.strip_prefix(BEGIN).and_then(|rest| rest.split_at_checked(TIME)) else {
        return false;
    };
    let of = rest.strip_prefix(b"\",\"stream\":\"");
    let of = of.and_then(|of| memchr(b'"', of).map(|end| &of[..end]));
    time >= since.as_bytes() && of.is_some_and(|of| stream.is_none_or(|stream| of == stream.as_str().as_bytes()))
}

/// The files of a log, the oldest first, the current one last.
fn files(folder: &Path) -> io::Result<Vec<(PathBuf, fs::Metadata)>> {
    // Looked at before the others: if it is put aside meanwhile it is found among them, and not missed.
    let path = folder.join(CURRENT);
    let current = unless_missing(fs::metadata(&path))?.map(|metadata| (path, metadata));
    let mut files = Vec::new();
    for (_, path) in unless_missing(files::aside(folder))?.unwrap_or_default() {
        if let Some(metadata) = unless_missing(fs::metadata(&path))? {
            files.push((path, metadata));
        }
    }
    let is_among = |current: &fs::Metadata| files.iter().any(|(_, metadata)| metadata.ino() == current.ino());
    files.extend(current.filter(|(_, metadata)| !is_among(metadata)));
    Ok(files)
}

fn unless_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
