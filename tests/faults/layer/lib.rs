//! Stands in for what a program calls to write files and to know the time, and does what the dials say.
//!
//! What it does itself it does by system calls: the functions of the C library of these names are its own.
mod disk;

use std::{
    env,
    ffi::{CStr, c_char, c_int, c_long, c_void},
    os::unix::ffi::OsStrExt,
    ptr,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use kube_faults::{ANY_FILE, DIALS, Dial, FOLDER, THE_DATABASE, THE_LOG};
use libc::{mode_t, off_t, pthread_cond_t, pthread_mutex_t, size_t, ssize_t, time_t, timespec, timeval};

use disk::{Disk, Place};

/// How often a flush that is slowed down looks whether it still is.
const MOMENT: Duration = Duration::from_millis(2);

struct Layer {
    dials: &'static [AtomicU64; Dial::COUNT],
    folder: Vec<u8>,
    disk: Mutex<Disk>,
    /// How many flushes could have been slowed down.
    flushes: AtomicU64,
}

/// What this program has, if it is one to harm.
fn layer() -> Option<&'static Layer> {
    static LAYER: OnceLock<Option<Layer>> = OnceLock::new();
    LAYER.get_or_init(Layer::load).as_ref()
}

impl Layer {
    fn load() -> Option<Self> {
        let (path, folder) = (env::var_os(DIALS)?, env::var_os(FOLDER)?);
        let path = [path.as_bytes(), b"\0"].concat();
        // SAFETY: the path ends in a zero byte, and the call takes no more than it.
        let fd =
            unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        let fd = c_int::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        let (read_write, length) = (libc::PROT_READ | libc::PROT_WRITE, Dial::COUNT * 8);
        // SAFETY: a new mapping where the system likes it; the descriptor is ours.
        let dials = unsafe { libc::mmap(ptr::null_mut(), length, read_write, libc::MAP_SHARED, fd, 0) };
        if dials == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the mapping has that length, is aligned to a page, stays for ever, and all its bits make numbers; who else
        // writes to it does so in another process, a number at a time.
        let dials = unsafe { &*dials.cast::<[AtomicU64; Dial::COUNT]>() };
        let folder = folder.as_bytes().to_vec();
        Some(Self { dials, folder, disk: Mutex::default(), flushes: AtomicU64::new(0) })
    }

    fn get(&self, dial: Dial) -> u64 {
        self.dials[dial as usize].load(Ordering::SeqCst)
    }

    fn add(&self, dial: Dial, number: u64) {
        self.dials[dial as usize].fetch_add(number, Ordering::SeqCst);
    }

    /// The error that a dial says, counted.
    fn error(&self, dial: Dial) -> Option<c_int> {
        let error = c_int::try_from(self.get(dial)).ok().filter(|error| *error != 0)?;
        self.add(Dial::Failed, 1);
        Some(error)
    }

    fn is_inside(&self, path: &[u8]) -> bool {
        path.starts_with(&self.folder)
    }

    /// A file of the folder, by its descriptor.
    fn place(&self, fd: c_int) -> Option<Place> {
        Place::of(fd).filter(|place| self.is_inside(&place.path))
    }

    fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts down to the flush at which power is cut; says whether it is this one.
    fn is_cut(&self, place: &Place) -> bool {
        let counts = match self.get(Dial::CutFile) {
            ANY_FILE => true,
            THE_LOG => place.is_log(),
            THE_DATABASE => !place.is_log(),
            _ => false,
        };
        let cut = &self.dials[Dial::Cut as usize];
        counts && cut.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) == Ok(1)
    }

    /// Waits as a slow disk does.
    fn dawdle(&self) {
        let delay = || Duration::from_micros(self.get(Dial::Delay));
        if delay().is_zero() {
            return;
        }
        let number = self.flushes.fetch_add(1, Ordering::SeqCst);
        if !number.is_multiple_of(self.get(Dial::DelayOneIn).max(1)) {
            return;
        }
        self.add(Dial::Slowed, 1);
        let begun = Instant::now();
        while begun.elapsed() < delay() {
            thread::sleep(MOMENT);
        }
    }
}

/// Fails as the C library does.
fn fail(error: c_int) -> c_int {
    // SAFETY: the place of this thread's error is always there.
    unsafe { *libc::__errno_location() = error };
    -1
}

/// Whether a file is opened to be written.
fn writes(flags: c_int) -> bool {
    flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_CREAT != 0
}

/// The error of opening or removing a file of this name.
fn of_name(path: *const c_char) -> Option<c_int> {
    let layer = layer()?;
    // SAFETY: whoever calls these functions gives a path that ends in a zero byte.
    let path = unsafe { CStr::from_ptr(path) };
    if layer.is_inside(path.to_bytes()) { layer.error(Dial::Names) } else { None }
}

fn open_at(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    if writes(flags)
        && let Some(error) = of_name(path)
    {
        return fail(error);
    }
    // SAFETY: the same arguments that the caller gave.
    let fd = unsafe { libc::syscall(libc::SYS_openat, folder, path, flags, mode) as c_int };
    if let Some((layer, place)) = layer().and_then(|layer| Some((layer, layer.place(fd)?))) {
        layer.disk().opened(&place, fd);
    }
    fd
}

/// # Safety
/// As open(2) says. The mode is one of variable arguments there, which come where the third of these does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_at(libc::AT_FDCWD, path, flags, mode)
}

/// # Safety
/// As open(2) says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_at(libc::AT_FDCWD, path, flags, mode)
}

/// # Safety
/// As unlink(2) says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    if let Some(error) = of_name(path) {
        return fail(error);
    }
    if let Some(layer) = layer() {
        // SAFETY: the same argument that the caller gave.
        layer.disk().forget(unsafe { CStr::from_ptr(path) });
    }
    // SAFETY: the same argument that the caller gave.
    unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0) as c_int }
}

/// # Safety
/// As pread(2) says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread64(fd: c_int, buffer: *mut c_void, count: size_t, offset: off_t) -> ssize_t {
    if let Some(layer) = layer()
        && layer.get(Dial::Reads) != 0
        && layer.place(fd).is_some()
        && let Some(error) = layer.error(Dial::Reads)
    {
        return fail(error) as ssize_t;
    }
    // SAFETY: the same arguments that the caller gave.
    unsafe { libc::syscall(libc::SYS_pread64, fd, buffer, count, offset) as ssize_t }
}

/// # Safety
/// As pread(2) says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread(fd: c_int, buffer: *mut c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: the same arguments that the caller gave.
    unsafe { pread64(fd, buffer, count, offset) }
}

/// # Safety
/// As pwrite(2) says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, buffer: *const c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: the same arguments that the caller gave, but for a smaller count.
    let write = |count: size_t| unsafe { libc::syscall(libc::SYS_pwrite64, fd, buffer, count, offset) as ssize_t };
    let Some((layer, place)) = layer().and_then(|layer| Some((layer, layer.place(fd)?))) else { return write(count) };
    if let Some(error) = layer.error(Dial::Writes) {
        return fail(error) as ssize_t;
    }
    let mut disk = layer.disk();
    let mut room = count;
    if let Some(left) = layer.get(Dial::Space).checked_sub(1) {
        let end = (offset as u64).saturating_add(count as u64);
        let growth = end.saturating_sub(place.size);
        room = count.saturating_sub(growth.saturating_sub(left) as size_t);
        if room == 0 && count > 0 {
            layer.add(Dial::Failed, 1);
            return fail(libc::ENOSPC) as ssize_t;
        }
        layer.dials[Dial::Space as usize].fetch_sub(growth.min(left), Ordering::SeqCst);
    }
    disk.touch(&place, fd, offset as u64, room as u64);
    write(room)
}

/// # Safety
/// As pwrite(2) says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, buffer: *const c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: the same arguments that the caller gave.
    unsafe { pwrite64(fd, buffer, count, offset) }
}

/// # Safety
/// As ftruncate(2) says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: off_t) -> c_int {
    // SAFETY: the same arguments that the caller gave.
    let truncate = || unsafe { libc::syscall(libc::SYS_ftruncate, fd, length) as c_int };
    let Some((layer, place)) = layer().and_then(|layer| Some((layer, layer.place(fd)?))) else { return truncate() };
    if let Some(error) = layer.error(Dial::Writes) {
        return fail(error);
    }
    let mut disk = layer.disk();
    disk.touch(&place, fd, length as u64, place.size.saturating_sub(length as u64));
    truncate()
}

/// # Safety
/// As ftruncate(2) says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(fd: c_int, length: off_t) -> c_int {
    // SAFETY: the same arguments that the caller gave.
    unsafe { ftruncate64(fd, length) }
}

fn flush(fd: c_int, call: c_long) -> c_int {
    // SAFETY: the same argument that the caller gave.
    let sync = || unsafe { libc::syscall(call, fd) as c_int };
    let Some((layer, place)) = layer().and_then(|layer| Some((layer, layer.place(fd)?))) else { return sync() };
    layer.add(Dial::Syncing, 1);
    layer.dawdle();
    if layer.is_cut(&place) {
        layer.disk().cut(layer.get(Dial::Seed), |lost| layer.add(Dial::Lost, lost));
    }
    let result = if let Some(error) = layer.error(Dial::Syncs) {
        layer.disk().not_flushed(&place, fd);
        fail(error)
    } else if layer.disk().has_failed(&place, fd) {
        layer.add(Dial::Failed, 1);
        fail(libc::EIO)
    } else if layer.get(Dial::Lies) != 0 {
        0
    } else {
        layer.disk().flushed(&place);
        layer.add(Dial::Synced, 1);
        sync()
    };
    layer.dials[Dial::Syncing as usize].fetch_sub(1, Ordering::SeqCst);
    result
}

/// # Safety
/// As fsync(2) says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    flush(fd, libc::SYS_fsync)
}

/// # Safety
/// As fdatasync(2) says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    flush(fd, libc::SYS_fdatasync)
}

/// How far the clock is off.
fn offset() -> time_t {
    layer().map_or(0, |layer| layer.get(Dial::Clock).cast_signed())
}

/// # Safety
/// As clock_gettime(2) says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the same arguments that the caller gave.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int };
    if result == 0 && [libc::CLOCK_REALTIME, libc::CLOCK_REALTIME_COARSE].contains(&clock) {
        // SAFETY: the call has just written there.
        unsafe { (*time).tv_sec += offset() };
    }
    result
}

/// # Safety
/// As gettimeofday(2) says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut timeval, zone: *mut c_void) -> c_int {
    // SAFETY: the same arguments that the caller gave.
    let result = unsafe { libc::syscall(libc::SYS_gettimeofday, time, zone) as c_int };
    if result == 0 && !time.is_null() {
        // SAFETY: the call has just written there.
        unsafe { (*time).tv_sec += offset() };
    }
    result
}

/// # Safety
/// As time(2) says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(place: *mut time_t) -> time_t {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: there is room for the time.
    unsafe { clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    if !place.is_null() {
        // SAFETY: the caller gives null or room for the time.
        unsafe { *place = now.tv_sec };
    }
    now.tv_sec
}

type TimedWait = unsafe extern "C" fn(*mut pthread_cond_t, *mut pthread_mutex_t, *const timespec) -> c_int;

/// The C library's own, in the version that programs of today are linked with.
fn timed_wait() -> Option<TimedWait> {
    static OWN: OnceLock<Option<TimedWait>> = OnceLock::new();
    *OWN.get_or_init(|| {
        let name = c"pthread_cond_timedwait".as_ptr();
        // SAFETY: both names end in a zero byte.
        let mut own = unsafe { libc::dlvsym(libc::RTLD_NEXT, name, c"GLIBC_2.3.2".as_ptr()) };
        if own.is_null() {
            // SAFETY: as above. Where there was no older version, the name alone says which.
            own = unsafe { libc::dlsym(libc::RTLD_NEXT, name) };
        }
        // SAFETY: what has this name in the C library is this function; no function is none.
        unsafe { std::mem::transmute::<*mut c_void, Option<TimedWait>>(own) }
    })
}

/// Waits until a time of the clock that is off. As with a clock that someone sets, who waits when it is set waits on until it
/// shows that time, however long that is then.
///
/// # Safety
/// As pthread_cond_timedwait(3) says. All conditions are taken to go by the time of day: no others are waited for here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_cond_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    let Some(wait) = timed_wait() else { return libc::ENOSYS };
    // SAFETY: the caller gives a time.
    let until = unsafe { *until };
    loop {
        let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: there is room for the time.
        unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_REALTIME, &raw mut now) };
        let due = timespec { tv_sec: until.tv_sec.saturating_sub(offset()), tv_nsec: until.tv_nsec };
        let look = timespec { tv_sec: now.tv_sec + 1, tv_nsec: now.tv_nsec };
        let is_last = (due.tv_sec, due.tv_nsec) <= (look.tv_sec, look.tv_nsec);
        // SAFETY: the condition and the mutex are the caller's, the time is ours.
        let result = unsafe { wait(condition, mutex, if is_last { &raw const due } else { &raw const look }) };
        if is_last || result != libc::ETIMEDOUT {
            return result;
        }
    }
}
