//! Pure: the mark that a process and all that it starts bear.
//!
//! It is their limit on file locks (`RLIMIT_LOCKS` of getrlimit(2)), which Linux has not heeded since 2.4.25. A limit goes to
//! every descendant, whatever session it makes, whoever becomes its parent and whatever it does to its environment; everybody
//! may read it in `/proc/PID/limits`; and nobody without privileges raises it.
//!
//! ```text
//! 63   62              32 31                0
//!  0    KUBE's number      the instance's number
//! ```
use std::{os::unix::ffi::OsStrExt, path::Path};

use sha2::{Digest, Sha256};

/// What is common to all marks of the KUBE that has this folder; never 0.
pub(crate) fn kube(folder: &Path) -> u32 {
    let digest = Sha256::digest(folder.as_os_str().as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) >> 1 | 1 << 30
}

/// The mark of an instance.
pub(crate) fn of(kube: u32, serial: u32) -> u64 {
    u64::from(kube) << 32 | u64::from(serial)
}

/// Whose mark it is: KUBE's number and the instance's.
pub(crate) fn read(mark: u64) -> (u32, u32) {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    let halves = ((mark >> 32) as u32, mark as u32);
    halves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_folders_and_instances_apart() {
        let (one, other) = (kube(Path::new("/a")), kube(Path::new("/b")));
        assert_ne!(one, other);
        assert_eq!(read(of(one, 7)), (one, 7));
        assert_eq!(read(of(other, u32::MAX)), (other, u32::MAX));
        assert!(of(one, 0) < u64::MAX / 2 && of(one, 0) > u64::from(u32::MAX));
    }
}
