//! Real faults of a disk and a clock, for a program that does not know of them.
//!
//! # What it does
//! The program is started with a library that stands in for some functions of the C library (`LD_PRELOAD`). To the files of
//! one folder it does what [`Faults`] says while the program runs: the disk is full, cannot be written, fails, is slow, lies, or
//! loses power.
//!
//! # What it promises
//! What a power cut leaves is what a disk may leave: a file has what was there at its last flush, and of everything written
//! since, each page is there, or is not, or half of it. A flush that failed flushed nothing, and what it was for is gone after
//! a cut, though the program reads it until then, and flushes succeed once every open descriptor was told: so do ext4 and XFS.
//!
//! # How it works
//! A file of [dials](Dial), mapped into the program, is set here and read there at every call. Files written otherwise than by
//! `pwrite` are not looked at.
#![forbid(unsafe_code)]

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What is set for the program, and what it tells; each a number. At 0 all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Dial {
    /// The error of every write, and of every file that is made shorter.
    Writes,
    /// The error of every flush.
    Syncs,
    /// The error of every read.
    Reads,
    /// The error of opening a file to write, and of removing one.
    Names,
    /// How many bytes the files may still grow together, plus one; then the disk is full.
    Space,
    /// How long a flush takes, in microseconds.
    Delay,
    /// One flush of so many takes that long; 0 and 1: every one.
    DelayOneIn,
    /// Whether flushes are answered and not done.
    Lies,
    /// At which flush from now on power is cut.
    Cut,
    /// Which flushes count towards that: [`ANY_FILE`], [`THE_LOG`] or [`THE_DATABASE`].
    CutFile,
    /// What the cut leaves is drawn from this; from 0, nothing is left.
    Seed,
    /// How far the clock is off, in seconds; negative as two's complement.
    Clock,
    /// Tells how many flushes were done.
    Synced,
    /// Tells how many flushes are under way.
    Syncing,
    /// Tells how many calls got an error.
    Failed,
    /// Tells how many flushes were slowed down.
    Slowed,
    /// Tells how many pages were lost or torn by a cut.
    Lost,
}

impl Dial {
    /// How many there are.
    pub const COUNT: usize = Self::Lost as usize + 1;
}

/// "No space left on device".
pub const FULL: u64 = libc::ENOSPC as u64;
/// "Read-only file system".
pub const READ_ONLY: u64 = libc::EROFS as u64;
/// "Input/output error".
pub const BROKEN: u64 = libc::EIO as u64;

/// [`Dial::CutFile`]: all.
pub const ANY_FILE: u64 = 0;
/// [`Dial::CutFile`]: SQLite's write-ahead log.
pub const THE_LOG: u64 = 1;
/// [`Dial::CutFile`]: the database beside the log.
pub const THE_DATABASE: u64 = 2;

/// Names the file of dials to the program.
pub const DIALS: &str = "KUBE_FAULTS";
/// Names the folder whose files are harmed.
pub const FOLDER: &str = "KUBE_FAULTS_FOLDER";
/// The program's status after a power cut.
pub const CUT_STATUS: i32 = 99;

/// The faults of one program, which may be started again with the same.
#[derive(Debug)]
pub struct Faults {
    dials: File,
    path: PathBuf,
    folder: PathBuf,
    layer: PathBuf,
}

impl Faults {
    /// No faults yet for the files in `folder`; `path` is where the dials will be.
    ///
    /// # Errors
    /// The file cannot be written, or the library cannot be built.
    pub fn new(path: &Path, folder: &Path) -> io::Result<Self> {
        let dials = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        dials.write_all_at(&[0; Dial::COUNT * 8], 0)?;
        Ok(Self { dials, path: path.to_owned(), folder: folder.to_owned(), layer: layer()? })
    }

    /// What the program needs in its environment.
    pub fn environment(&self) -> [(&'static str, OsString); 3] {
        [("LD_PRELOAD", (&self.layer).into()), (DIALS, (&self.path).into()), (FOLDER, (&self.folder).into())]
    }

    /// Sets a dial; it counts from the program's next call on.
    ///
    /// # Panics
    /// When the file of dials cannot be written, which is the end of what is tested.
    pub fn set(&self, dial: Dial, value: u64) {
        self.dials.write_all_at(&value.to_ne_bytes(), place(dial)).expect("the dials can be written");
    }

    /// Reads a dial.
    ///
    /// # Panics
    /// When the file of dials cannot be read.
    pub fn get(&self, dial: Dial) -> u64 {
        let mut value = [0; 8];
        self.dials.read_exact_at(&mut value, place(dial)).expect("the dials can be read");
        u64::from_ne_bytes(value)
    }

    /// Lets the disk be well again; the clock stays as it is.
    pub fn heal(&self) {
        use Dial::{Cut, CutFile, Delay, DelayOneIn, Lies, Names, Reads, Space, Syncs, Writes};
        for dial in [Writes, Syncs, Reads, Names, Space, Delay, DelayOneIn, Lies, Cut, CutFile] {
            self.set(dial, 0);
        }
    }

    /// Lets every flush take a while.
    pub fn slow_down(&self, delay: Duration) {
        self.set(Dial::Delay, u64::try_from(delay.as_micros()).unwrap_or(u64::MAX));
    }

    /// Lets the files grow by so many bytes and no more.
    pub fn leave(&self, bytes: u64) {
        self.set(Dial::Space, bytes + 1);
    }

    /// Cuts power at the n-th flush from now on of such a file: of what is not flushed, some is lost, and some torn.
    pub fn cut_at(&self, flush: u64, file: u64) {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        self.cut(flush, file, seed | 1);
    }

    /// The same, but all that is not flushed is lost.
    pub fn lose_all_at(&self, flush: u64, file: u64) {
        self.cut(flush, file, 0);
    }

    fn cut(&self, flush: u64, file: u64, seed: u64) {
        self.set(Dial::Seed, seed);
        self.set(Dial::CutFile, file);
        self.set(Dial::Cut, flush);
    }
}

fn place(dial: Dial) -> u64 {
    dial as u64 * 8
}

/// Builds the library; gives its path.
fn layer() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let is_profile = |folder: &&Path| folder.ends_with("debug") || folder.ends_with("release");
    let target = program.ancestors().find(is_profile).and_then(Path::parent);
    let target = target.ok_or_else(|| io::Error::other("not in a target folder of Cargo"))?;
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let build = ["build", "--quiet", "--locked", "--example", "layer", "--manifest-path", manifest, "--target-dir"];
    let built = Command::new(env!("CARGO")).args(build).arg(target).output()?;
    if !built.status.success() {
        return Err(io::Error::other(format!("cannot build the faults: {}", String::from_utf8_lossy(&built.stderr))));
    }
    Ok(target.join("debug/examples/liblayer.so"))
}
