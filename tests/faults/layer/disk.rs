//! What is written and not flushed, and what of it a power cut leaves.
use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_int},
    mem,
};

use kube_faults::CUT_STATUS;

/// Pages are there after a cut, or are not; or sectors of them are.
const PAGE: u64 = 4096;
const SECTOR: usize = 512;

/// A file by its descriptor.
pub(crate) struct Place {
    pub(crate) path: Vec<u8>,
    pub(crate) size: u64,
    id: (u64, u64),
}

impl Place {
    /// None when it is no file with a name.
    pub(crate) fn of(fd: c_int) -> Option<Self> {
        let link = CString::new(format!("/proc/self/fd/{fd}")).ok()?;
        let mut path = vec![0; 1024];
        // SAFETY: the name ends in a zero byte, and there is room for as many bytes as it says.
        let length = unsafe { libc::readlink(link.as_ptr(), path.as_mut_ptr().cast(), path.len()) };
        path.truncate(usize::try_from(length).ok()?);
        if path.first() != Some(&b'/') {
            return None;
        }
        let (id, size) = status(|status| {
            // SAFETY: there is room for what is known of a file.
            unsafe { libc::fstat64(fd, status) }
        })?;
        Some(Self { path, size, id })
    }

    pub(crate) fn is_log(&self) -> bool {
        self.path.ends_with(b"-wal")
    }

    /// Whether it is made anew at every start.
    fn is_index(&self) -> bool {
        self.path.ends_with(b"-shm")
    }
}

/// The number and the size of a file.
fn status(ask: impl FnOnce(*mut libc::stat64) -> c_int) -> Option<((u64, u64), u64)> {
    // SAFETY: zeros are a status, of nothing.
    let mut status: libc::stat64 = unsafe { mem::zeroed() };
    (ask(&raw mut status) == 0).then(|| ((status.st_dev, status.st_ino), status.st_size.cast_unsigned()))
}

/// What is not flushed.
#[derive(Default)]
pub(crate) struct Disk {
    files: BTreeMap<(u64, u64), Unflushed>,
    /// How many failures of its file each descriptor knows of.
    told: BTreeMap<c_int, ((u64, u64), u64)>,
}

/// What is not flushed of one file.
#[derive(Default)]
struct Unflushed {
    path: Vec<u8>,
    /// How many flushes failed: every descriptor that was open then is told once.
    failures: u64,
    /// Its size at the last flush.
    size: u64,
    /// What was in the pages that were written since; less than a page where the file ended.
    written: BTreeMap<u64, Vec<u8>>,
    /// The same of pages whose flush failed: no later one is for them.
    lost: BTreeMap<u64, Vec<u8>>,
}

impl Disk {
    /// A new descriptor knows of all that was before.
    pub(crate) fn opened(&mut self, place: &Place, fd: c_int) {
        let failures = self.files.get(&place.id).map_or(0, |file| file.failures);
        self.told.insert(fd, (place.id, failures));
    }

    /// Whether a flush by another descriptor failed since this one was asked last.
    pub(crate) fn has_failed(&mut self, place: &Place, fd: c_int) -> bool {
        let failures = self.files.get(&place.id).map_or(0, |file| file.failures);
        let told = self.told.insert(fd, (place.id, failures)).filter(|(id, _)| *id == place.id);
        failures > told.map_or(0, |(_, told)| told)
    }

    /// Keeps what is in a part of a file that will be written.
    pub(crate) fn touch(&mut self, place: &Place, fd: c_int, offset: u64, length: u64) {
        if length == 0 || place.is_index() {
            return;
        }
        let new = || Unflushed { path: place.path.clone(), size: place.size, ..Unflushed::default() };
        let file = self.files.entry(place.id).or_insert_with(new);
        for page in offset / PAGE..=(offset + length - 1) / PAGE {
            let lost = &mut file.lost;
            file.written.entry(page).or_insert_with(|| lost.remove(&page).unwrap_or_else(|| read(fd, page)));
        }
    }

    /// All that was written to a file is flushed.
    pub(crate) fn flushed(&mut self, place: &Place) {
        if let Some(file) = self.files.get_mut(&place.id) {
            file.written.clear();
            file.size = place.size;
        }
    }

    /// It is not, and the system takes it for flushed.
    pub(crate) fn not_flushed(&mut self, place: &Place, fd: c_int) {
        if let Some(file) = self.files.get_mut(&place.id) {
            file.lost.append(&mut file.written);
            file.failures += 1;
            self.told.insert(fd, (place.id, file.failures));
        }
    }

    /// A file is removed: its number may be another's.
    pub(crate) fn forget(&mut self, path: &CStr) {
        let found = status(|status| {
            // SAFETY: the path ends in a zero byte, and there is room for what is known of a file.
            unsafe { libc::stat64(path.as_ptr(), status) }
        });
        if let Some((id, _)) = found {
            self.files.remove(&id);
        }
    }

    /// Cuts power, and tells how many pages are not what was written.
    pub(crate) fn cut(&mut self, seed: u64, lost: impl FnOnce(u64)) -> ! {
        let mut dice = (seed != 0).then_some(Dice(seed));
        lost(mem::take(&mut self.files).into_values().map(|file| file.cut(&mut dice).unwrap_or_default()).sum());
        // SAFETY: nothing of the program runs after it.
        unsafe { libc::_exit(CUT_STATUS) }
    }
}

impl Unflushed {
    fn cut(self, dice: &mut Option<Dice>) -> Option<u64> {
        let path = CString::new(self.path).ok()?;
        // SAFETY: the path ends in a zero byte.
        let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDWR) };
        let fd = c_int::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        let now = Place::of(fd)?;
        let is_cut_short = now.size < self.size;
        let mut harmed = 0;
        for (page, old) in &self.written {
            // What was cut off is back as it was.
            let Some(dice) = dice.as_mut().filter(|_| !is_cut_short) else {
                harmed += write(fd, *page, old);
                continue;
            };
            match dice.roll(4) {
                0 => {}
                1 | 2 => harmed += write(fd, *page, old),
                _ => {
                    let new = read(fd, *page);
                    harmed += write(fd, *page, &torn(old, &new, dice.roll(PAGE / SECTOR as u64) as usize * SECTOR));
                }
            }
        }
        for (page, old) in &self.lost {
            harmed += write(fd, *page, old);
        }
        if now.size > self.size && dice.as_mut().is_none_or(|dice| dice.roll(2) == 0) {
            // SAFETY: the descriptor is ours.
            unsafe { libc::syscall(libc::SYS_ftruncate, fd, self.size) };
        }
        Some(harmed)
    }
}

/// The first sectors of what was written, and the last of what was there.
fn torn(old: &[u8], new: &[u8], at: usize) -> Vec<u8> {
    let mut page = old.to_vec();
    page.resize(page.len().max(new.len()), 0);
    let at = at.min(new.len());
    page[..at].copy_from_slice(&new[..at]);
    page
}

/// A page, or what there is of it.
fn read(fd: c_int, page: u64) -> Vec<u8> {
    let mut bytes = vec![0; PAGE as usize];
    // SAFETY: there is room for a page.
    let length = unsafe { libc::syscall(libc::SYS_pread64, fd, bytes.as_mut_ptr(), bytes.len(), page * PAGE) };
    bytes.truncate(usize::try_from(length).unwrap_or_default());
    bytes
}

/// Puts back what was in a page, with zeros where nothing was; says whether that is something else than is there now.
fn write(fd: c_int, page: u64, old: &[u8]) -> u64 {
    let new = read(fd, page);
    let mut bytes = old.to_vec();
    bytes.resize(bytes.len().max(new.len()), 0);
    // SAFETY: that many bytes are there.
    unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes.as_ptr(), bytes.len(), page * PAGE) };
    u64::from(bytes != new)
}

/// A sequence that looks random ([splitmix64](https://prng.di.unimi.it/splitmix64.c)).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}
