//! The contents of files: small ones from a bounded memory, others from their blob.
use std::{
    collections::HashMap,
    fs::File,
    io::{self, IoSliceMut},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::{Bytes, BytesMut};
use kube_manifest::{Hash, Site};
use quick_cache::{Weighter, sync::Cache};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::task::spawn_blocking;

use crate::{Config, metrics::Metrics};

/// What an entry takes beside the content, about.
const OVERHEAD: u64 = 128;
/// Forgotten blobs are swept out of the list of open ones when it has grown to this, or to twice what is left.
const SWEEP: usize = 64;

/// Where contents come from.
#[derive(Debug)]
pub(crate) struct Contents {
    memory: Cache<Hash, Bytes, Weight>,
    /// Blobs that someone reads now: however many read the same one, it is open once.
    open: Mutex<Open>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Open {
    blobs: HashMap<Hash, Weak<Blob>>,
    sweep_at: usize,
}

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Hash, Bytes> for Weight {
    fn weight(&self, _: &Hash, content: &Bytes) -> u64 {
        content.len() as u64 + OVERHEAD
    }
}

/// The content of one file.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Memory(Bytes),
    Disk(Arc<Blob>),
}

/// A file's content on disk: open, and of the length that its manifest says.
#[derive(Debug)]
pub(crate) struct Blob {
    file: File,
    path: PathBuf,
}

impl Contents {
    /// An empty memory of the configured size.
    pub(crate) fn new(config: &Config, metrics: Arc<Metrics>) -> Self {
        let size = config.cache.as_u64();
        let files = usize::try_from(size / 16384).unwrap_or(usize::MAX).clamp(1, 1 << 16);
        let open = Open { blobs: HashMap::new(), sweep_at: SWEEP };
        Self { memory: Cache::with_weighter(files, size, Weight), open: Mutex::new(open), metrics }
    }

    /// Makes the memory larger or smaller.
    pub(crate) fn resize(&self, config: &Config) {
        self.memory.set_capacity(config.cache.as_u64());
        self.metrics.cache.bytes.set(self.memory.weight().cast_signed());
    }

    /// The content of a file of `site`; `small` is the largest size that is kept in memory.
    ///
    /// # Errors
    /// The blob cannot be opened or has another length; counted and logged.
    pub(crate) async fn get(&self, site: &Site, file: &kube_manifest::File, small: u64) -> io::Result<Content> {
        if file.size <= small {
            if let Some(content) = self.memory.get(&file.hash) {
                self.metrics.cache.hits.inc();
                return Ok(Content::Memory(content));
            }
            // Many may want the same at once, after a deploy say: one reads, the others wait for it.
            return match self.memory.get_value_or_guard_async(&file.hash).await {
                Ok(content) => {
                    self.metrics.cache.hits.inc();
                    Ok(Content::Memory(content))
                }
                Err(guard) => {
                    self.metrics.cache.misses.inc();
                    let content = self.read(site.blob(file), file.size).await?;
                    // Refused when it was changed meanwhile, which contents never are.
                    let _kept = guard.insert(content.clone());
                    self.metrics.cache.bytes.set(self.memory.weight().cast_signed());
                    Ok(Content::Memory(content))
                }
            };
        }
        if let Some(blob) = self.open().blobs.get(&file.hash).and_then(Weak::upgrade) {
            return Ok(Content::Disk(blob));
        }
        let (path, size) = (site.blob(file), file.size);
        let blob = Arc::new(self.told(path.clone(), off(move || Blob::open(path, size)).await)?);
        let mut open = self.open();
        if open.blobs.len() >= open.sweep_at {
            open.blobs.retain(|_, blob| blob.strong_count() > 0);
            open.sweep_at = (2 * open.blobs.len()).max(SWEEP);
        }
        open.blobs.insert(file.hash, Arc::downgrade(&blob));
        Ok(Content::Disk(blob))
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, path: PathBuf, size: u64) -> io::Result<Bytes> {
        let blob = path.clone();
        let read = off(move || Blob::open(blob, size)?.read(0, usize::try_from(size).map_err(io::Error::other)?)).await;
        self.told(path, read)
    }

    fn told<T>(&self, path: PathBuf, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            self.metrics.errors.blob.inc();
            tracing::error!(path = %path.display(), %error, "cannot read the content of a file");
        })
    }
}

impl Blob {
    fn open(path: PathBuf, size: u64) -> io::Result<Self> {
        let file = File::open(&path)?;
        let found = file.metadata()?;
        if !found.is_file() || found.len() != size {
            return Err(io::Error::other(format!("it has {} bytes, its manifest says {size}", found.len())));
        }
        Ok(Self { file, path })
    }

    /// Where it lies, for the log.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Reads what the page cache has of `size` bytes at `offset`; `None` when the disk would have to be waited for.
    ///
    /// A thread for each chunk costs more than the read, and nearly every read of a server is of cached pages.
    pub(crate) fn read_now(&self, offset: u64, size: usize) -> io::Result<Option<Bytes>> {
        let mut buffer = buffer(size);
        let slices = &mut [IoSliceMut::new(&mut buffer)];
        match rustix::io::preadv2(&self.file, slices, offset, ReadWriteFlags::NOWAIT) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer.truncate(count);
                Ok(Some(buffer.freeze()))
            }
            // The last two: the file system cannot.
            Err(Errno::AGAIN | Errno::INTR | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads `size` bytes at `offset`, from the disk if need be.
    pub(crate) fn read(&self, offset: u64, size: usize) -> io::Result<Bytes> {
        let mut buffer = buffer(size);
        self.file.read_exact_at(&mut buffer, offset)?;
        Ok(buffer.freeze())
    }
}

/// Somewhere to read to. jemalloc gives pages back to the system when it is asked for zeros, as `vec![0; size]` does, and each
/// is got again when it is written to: that takes longer than the zeros.
fn buffer(size: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(size);
    buffer.resize(size, 0);
    buffer
}

/// Runs what may wait for a disk where it keeps no one else waiting.
async fn off<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use std::{fs, time::SystemTime};

    use bytesize::ByteSize;
    use kube_manifest::{Manifest, Missing};
    use prometheus::Registry;

    use super::*;

    fn contents(cache: u64) -> Contents {
        let config = Config { cache: ByteSize::b(cache), ..Config::default() };
        Contents::new(&config, Arc::new(Metrics::new(&Registry::new())))
    }

    /// A site, and files of `sizes` named by their place.
    fn site(folder: &std::path::Path, sizes: &[u64]) -> (Site, Vec<kube_manifest::File>) {
        let site = Site {
            name: "shop".into(),
            domains: Vec::new(),
            manifest: Manifest::default(),
            missing: Missing::Auto,
            blobs: folder.into(),
        };
        let files: Vec<_> = (0..)
            .zip(sizes)
            .map(|(place, size)| kube_manifest::File {
                hash: Hash([place; 32]),
                size: *size,
                modified: SystemTime::UNIX_EPOCH,
            })
            .collect();
        for file in &files {
            fs::write(site.blob(file), vec![file.hash.0[0]; usize::try_from(file.size).unwrap()]).unwrap();
        }
        (site, files)
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let (site, files) = site(folder.path(), &[1000; 100]);
        let contents = contents(20_000);
        for file in &files {
            let Content::Memory(content) = contents.get(&site, file, 1000).await.unwrap() else { panic!("disk") };
            assert_eq!(content, vec![file.hash.0[0]; 1000]);
            assert!(contents.memory.weight() <= 20_000);
        }
        assert!(contents.metrics.cache.bytes.get() > 0);
        contents.resize(&Config { cache: ByteSize::b(0), ..Config::default() });
        assert_eq!(contents.metrics.cache.bytes.get(), 0);
    }

    #[tokio::test]
    async fn a_small_file_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let (site, files) = site(folder.path(), &[1000]);
        let contents = contents(20_000);
        let (one, two) = tokio::join!(contents.get(&site, &files[0], 1000), contents.get(&site, &files[0], 1000));
        assert!(one.is_ok() && two.is_ok());
        fs::remove_file(site.blob(&files[0])).unwrap();
        contents.get(&site, &files[0], 1000).await.unwrap();
        assert_eq!((contents.metrics.cache.misses.get(), contents.metrics.cache.hits.get()), (1, 2));
    }

    #[tokio::test]
    async fn a_large_file_is_open_once_while_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (site, files) = site(folder.path(), &[5000; 100]);
        let contents = contents(1 << 20);
        let get = async |file| match contents.get(&site, file, 1000).await.unwrap() {
            Content::Disk(blob) => blob,
            Content::Memory(_) => panic!("memory"),
        };
        let (one, two) = (get(&files[7]).await, get(&files[7]).await);
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(one.read(4000, 1000).unwrap(), vec![7; 1000]);
        assert_eq!(one.read_now(4000, 9999).unwrap().unwrap_or(vec![7; 1000].into()), vec![7; 1000]);
        assert_eq!(one.read(4001, 1000).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        for file in &files {
            get(file).await;
        }
        assert!(contents.open().blobs.len() <= SWEEP, "those that nobody reads are forgotten");
    }

    #[tokio::test]
    async fn a_content_that_is_not_what_its_manifest_says_is_an_error_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (site, files) = site(folder.path(), &[1000, 1000, 5000]);
        fs::remove_file(site.blob(&files[0])).unwrap();
        fs::write(site.blob(&files[1]), "short").unwrap();
        fs::write(site.blob(&files[2]), "short").unwrap();
        let contents = contents(1 << 20);
        for file in &files {
            contents.get(&site, file, 1000).await.unwrap_err();
        }
        assert_eq!(contents.metrics.errors.blob.get(), 3);
    }
}
