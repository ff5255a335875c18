//! Pure: which user id a process has for itself.
//!
//! From a range that nobody else uses: above what systemd takes for containers, below its foreign ids
//! ([UIDS-GIDS](https://systemd.io/UIDS-GIDS/)). It follows from KUBE's folder and the name, so that the same process finds
//! its files again after a reinstallation, and two KUBEs on a machine do not meet.
use std::{collections::BTreeMap, ops::RangeInclusive, os::unix::ffi::OsStrExt, path::Path};

use sha2::{Digest, Sha256};

use crate::Name;

/// The range: 0x7000_0000 to 0x7FFD_FFFF.
pub(crate) const RANGE: RangeInclusive<u32> = 1_879_048_192..=2_147_352_575;

/// The user id for `name`: the first that is not another's already.
pub(crate) fn choose(folder: &Path, name: &Name, taken: &BTreeMap<Name, u32>) -> u32 {
    if let Some(uid) = taken.get(name) {
        return *uid;
    }
    let size = RANGE.end() - RANGE.start() + 1;
    let digest =
        Sha256::new().chain_update(folder.as_os_str().as_bytes()).chain_update([0]).chain_update(name.as_str());
    let digest = digest.finalize();
    let first = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) % size;
    let free = |uid: &u32| !taken.values().any(|other| other == uid);
    let mut candidates = (0..size).map(|step| RANGE.start() + (first + step) % size);
    candidates.find(free).expect("there are fewer processes than ids")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_process_has_the_same_id_each_time_and_its_own() {
        let folder = Path::new("/var/lib/kube/processes");
        let mut taken = BTreeMap::new();
        for n in 0..1000 {
            let name = name(&format!("p{n}"));
            let uid = choose(folder, &name, &taken);
            assert!(RANGE.contains(&uid));
            assert!(!taken.values().any(|other| *other == uid));
            taken.insert(name, uid);
        }
        assert_eq!(choose(folder, &name("p7"), &BTreeMap::new()), taken[&name("p7")]);
        assert_eq!(choose(folder, &name("p7"), &taken), taken[&name("p7")]);
        assert_ne!(choose(Path::new("/other"), &name("p7"), &BTreeMap::new()), taken[&name("p7")]);
    }

    #[test]
    fn two_names_that_meet_get_neighbouring_ids() {
        let folder = Path::new("/x");
        let first = choose(folder, &name("a"), &BTreeMap::new());
        let taken = BTreeMap::from([(name("b"), first)]);
        let next = if first == *RANGE.end() { *RANGE.start() } else { first + 1 };
        assert_eq!(choose(folder, &name("a"), &taken), next);
    }
}
