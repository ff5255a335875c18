//! The files of one log: `current.jsonl`, and those put aside, `1.jsonl` and on: the greater, the newer.
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use memchr::{memchr, memrchr};

use super::{
    line::{BEGIN, LONGEST_WRITTEN, TIME},
    stamp,
};
use crate::config::Log;

/// The file that is written.
pub(crate) const CURRENT: &str = "current.jsonl";

/// The file of one log that is written, open.
#[derive(Debug)]
pub(crate) struct Current {
    folder: PathBuf,
    file: File,
    size: u64,
}

impl Current {
    /// Opens the file in `folder`, making both if need be, and cuts off half a line that a crash left.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        private_folder(&folder)?;
        let path = folder.join(CURRENT);
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let size = mend(&mut file)?;
        Ok(Self { folder, file, size })
    }

    /// Writes whole lines from the beginning of `lines`, and moves it on past those that are in the file. A file that has grown to
    /// its size is put aside.
    ///
    /// # Errors
    /// The disk's; the file ends with a whole line then too, and this is to be opened again.
    pub(crate) fn write(&mut self, lines: &mut &[u8], log: &Log) -> io::Result<()> {
        while !lines.is_empty() {
            let room = usize::try_from(log.size.as_u64().saturating_sub(self.size)).unwrap_or(usize::MAX);
            let end = match lines.get(..room) {
                None => lines.len(),
                Some(fits) => match memrchr(b'\n', fits) {
                    Some(last) => last + 1,
                    // A line that is longer than a file may be has one of its own.
                    None if self.size == 0 => memchr(b'\n', lines).map_or(lines.len(), |end| end + 1),
                    None => {
                        self.put_aside(log)?;
                        continue;
                    }
                },
            };
            self.append(lines, end)?;
        }
        Ok(())
    }

    fn append(&mut self, lines: &mut &[u8], end: usize) -> io::Result<()> {
        let mut written = 0;
        let result = loop {
            match self.file.write(&lines[written..end]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if written == end {
                break Ok(());
            }
        };
        let whole = memrchr(b'\n', &lines[..written]).map_or(0, |last| last + 1);
        *lines = &lines[whole..];
        self.size += whole as u64;
        if whole < written {
            self.file.set_len(self.size)?;
        }
        result
    }

    fn put_aside(&mut self, log: &Log) -> io::Result<()> {
        put_aside(&self.folder, log)?;
        *self = Self::open(std::mem::take(&mut self.folder))?;
        Ok(())
    }

    /// Whether someone has deleted the file.
    pub(crate) fn is_gone(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }
}

/// Cuts off what is no whole line; the size after that.
fn mend(file: &mut File) -> io::Result<u64> {
    let size = file.metadata()?.len();
    if size == 0 {
        return Ok(0);
    }
    let from = size.saturating_sub(LONGEST_WRITTEN as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    file.take(LONGEST_WRITTEN as u64).read_to_end(&mut end)?;
    let whole = memrchr(b'\n', &end).map_or(0, |last| last + 1);
    let whole = from + whole as u64;
    if whole < size {
        file.set_len(whole)?;
    }
    Ok(whole)
}

/// Puts the current file aside, and deletes what there is too much of.
fn put_aside(folder: &Path, log: &Log) -> io::Result<()> {
    let newest = aside(folder)?.last().map_or(0, |(number, _)| *number);
    fs::rename(folder.join(CURRENT), folder.join(format!("{}.jsonl", newest.saturating_add(1))))?;
    prune(folder, log)
}

/// The files that were put aside, the oldest first.
pub(crate) fn aside(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".jsonl"))
            .and_then(|number| number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok()).flatten());
        if let Some(number) = number {
            found.push((number, folder.join(name)));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Deletes files that were put aside: those that are too many, and those that are too old.
fn prune(folder: &Path, log: &Log) -> io::Result<()> {
    let files = aside(folder)?;
    let most = usize::try_from(log.files).unwrap_or(usize::MAX).saturating_sub(1);
    let surplus = files.len().saturating_sub(most);
    for (at, (_, path)) in files.iter().enumerate() {
        if at < surplus || is_older(path, log.age)? {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Whether nothing was written to the file for so long.
fn is_older(path: &Path, age: Duration) -> io::Result<bool> {
    let written = fs::metadata(path)?.modified()?;
    // A time to come is that of a clock that was put back.
    Ok(SystemTime::now().duration_since(written).is_ok_and(|since| since > age))
}

/// Looks after the log of a process that is in the config: what is too old goes. The current file is put aside once its first line
/// is as old as that, so that lines of a quiet process go too; says whether it was.
///
/// # Errors
/// The disk's.
pub(crate) fn tend(folder: &Path, log: &Log) -> io::Result<bool> {
    if !folder.exists() {
        return Ok(false);
    }
    let oldest = SystemTime::now().checked_sub(log.age).map(|oldest| stamp(oldest).to_string()).unwrap_or_default();
    let mut first = [0; BEGIN.len() + TIME];
    let is_read = File::open(folder.join(CURRENT)).and_then(|mut file| file.read_exact(&mut first)).is_ok();
    let is_due = is_read && first.strip_prefix(BEGIN).is_some_and(|time| time < oldest.as_bytes());
    if is_due {
        put_aside(folder, log)?;
    } else {
        prune(folder, log)?;
    }
    Ok(is_due)
}

/// Deletes what is too old of a log whose process is no longer in the config, and its folder when it is empty.
///
/// # Errors
/// The disk's.
pub(crate) fn forget(folder: &Path, age: Duration) -> io::Result<()> {
    let mut files: Vec<_> = aside(folder)?.into_iter().map(|(_, path)| path).collect();
    files.extend(Some(folder.join(CURRENT)).filter(|path| path.exists()));
    for path in files {
        if is_older(&path, age)? {
            fs::remove_file(path)?;
        }
    }
    // Whatever else a person put there stays, and so does the folder.
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes the folder, for this user alone; one that exists stays as it is.
///
/// # Errors
/// It cannot be made.
pub(crate) fn private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
