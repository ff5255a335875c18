//! Finds out what this machine lets KUBE do ([`Means`]), and takes it: control groups are made here.
use std::{
    fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::id,
};

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
use procfs::process::Process;
use rustix::{
    fs::{Access as Mode, access, getxattr},
    process::{Resource, getrlimit, getuid},
    thread::{CapabilitySet, capabilities},
};

use crate::means::{self, Found, Groups, Means, Users};

/// Controllers that limits need.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// The group that KUBE itself is in, where its own has to be empty.
const LEAF: &str = "kube";

/// Its weight beside the group of all processes, which has the kernel's usual 100: so much for serving while they want all there is.
const WEIGHT: &str = "1000";

/// Finds all of it. `kube` is the number of this KUBE ([`crate::mark::kube`]).
pub(crate) fn means(kube: u32) -> Means {
    let has = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let most = |resource, capability| {
        let most = getrlimit(resource).maximum;
        if has.contains(capability) { u64::MAX } else { most.unwrap_or(u64::MAX) }
    };
    Means {
        uid: getuid().as_raw(),
        users: users(has),
        landlock: landlock(),
        groups: groups(kube),
        files: most(Resource::Nofile, CapabilitySet::SYS_RESOURCE),
        mark: most(Resource::Locks, CapabilitySet::SYS_RESOURCE) == u64::MAX,
    }
}

fn users(has: CapabilitySet) -> Users {
    let needed = [
        (CapabilitySet::SETUID, "CAP_SETUID"),
        (CapabilitySet::SETGID, "CAP_SETGID"),
        (CapabilitySet::CHOWN, "CAP_CHOWN"),
        (CapabilitySet::KILL, "CAP_KILL"),
    ];
    let missing = needed.into_iter().filter(|(one, _)| !has.contains(*one)).map(|(_, name)| name).collect();
    let mapped = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    Users { missing, mapped: mapped.lines().filter_map(range).collect() }
}

/// Reads a line of `uid_map`: the first id inside, the first outside, and how many.
fn range(line: &str) -> Option<RangeInclusive<u32>> {
    let mut numbers = line.split_whitespace().map(str::parse::<u32>);
    let (first, _, many) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(first..=first.checked_add(many.checked_sub(1)?)?)
}

/// The newest version of Landlock of which this kernel knows something.
fn landlock() -> u32 {
    let strict = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let files = |version| strict().handle_access(AccessFs::from_all(version)).and_then(Ruleset::create).is_ok();
    let knows = [
        files(ABI::V1),
        files(ABI::V2),
        files(ABI::V3),
        strict().handle_access(AccessNet::from_all(ABI::V4)).and_then(Ruleset::create).is_ok(),
        files(ABI::V5),
        strict().scope(Scope::from_all(ABI::V6)).and_then(Ruleset::create).is_ok(),
    ];
    knows.into_iter().take_while(|knows| *knows).map(|_| 1).sum()
}

/// Makes the folder of control groups, or says why there is none.
fn groups(kube: u32) -> Result<Groups, String> {
    let own = own_group().map_err(|error| format!("/proc/self cannot be read: {error}"))?;
    let found = own.ok_or("no control groups v2 are mounted")?;
    let ours = format!("kube-{kube:08x}");
    // KUBE has moved below it before, if it was bound before.
    let own = found.parent().filter(|above| found.ends_with(LEAF) && above.join(&ours).exists()).unwrap_or(&found);
    means::usable(&Found {
        systemd: Path::new("/run/systemd/system").exists(),
        delegated: is_delegated(own),
        writable: access(own.join("cgroup.procs"), Mode::WRITE_OK).and_then(|()| access(own, Mode::WRITE_OK)).is_ok(),
        own: own.to_owned(),
    })?;
    let folder = own.join(ours);
    make(&folder).map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
    let offered = fs::read_to_string(own.join("cgroup.controllers")).unwrap_or_default();
    let offered: Vec<_> =
        CONTROLLERS.into_iter().filter(|it| offered.split_whitespace().any(|one| one == *it)).collect();
    // A group that has processes cannot give controllers to those below it; the root can, and has no `cgroup.type`.
    let leaf = own.join(LEAF);
    let has_leaf = !offered.is_empty() && own.join("cgroup.type").exists();
    if has_leaf {
        make(&leaf)
            .and_then(|()| fs::write(leaf.join("cgroup.procs"), id().to_string()))
            .map_err(|error| format!("KUBE cannot move into {}: {error}", leaf.display()))?;
    }
    let enabled = |controller: &&str| {
        let enable = |folder: &Path| fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
        enable(own).and_then(|()| enable(&folder)).is_ok()
    };
    let controllers = offered.into_iter().filter(enabled).map(str::to_owned).collect();
    if has_leaf {
        // Beside all processes together, which are as heavy as one group however light each is: their `nice` is among them alone.
        // Without the controller there is no such file, and nobody is weighed.
        fs::write(leaf.join("cpu.weight"), WEIGHT).ok();
    }
    Ok(Groups { folder, controllers })
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// The folder of the group that KUBE is in.
fn own_group() -> procfs::ProcResult<Option<PathBuf>> {
    let process = Process::myself()?;
    let group = process.cgroups()?.0.into_iter().find(|group| group.hierarchy == 0).map(|group| group.pathname);
    let mount = process.mountinfo()?.0.into_iter().find(|mount| mount.fs_type == "cgroup2");
    Ok(group.zip(mount).and_then(|(group, mount)| {
        let below = Path::new(&group).strip_prefix(&mount.root).ok()?;
        Some(if below.as_os_str().is_empty() { mount.mount_point } else { mount.mount_point.join(below) })
    }))
}

/// Whether systemd has given the group away ([CGROUP_DELEGATION](https://systemd.io/CGROUP_DELEGATION/)).
fn is_delegated(group: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].into_iter().any(|name| {
        let mut value = [0_u8; 8];
        getxattr(group, name, &mut value[..]).is_ok_and(|length| value.get(..length) == Some(b"1"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_map_is_a_range_of_ids() {
        assert_eq!(range("         0          0 4294967295"), Some(0..=4_294_967_294));
        assert_eq!(range("1000 0 1"), Some(1000..=1000));
        for wrong in ["", "0 0", "0 0 0", "a b c", "4294967295 0 2"] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_found_here_is_consistent() {
        assert!(landlock() <= 6);
        let mapped = fs::read_to_string("/proc/self/uid_map").unwrap();
        let own = getuid().as_raw();
        assert!(mapped.lines().filter_map(range).any(|range| range.contains(&own)));
        // A machine need not have control groups v2, but if it has, KUBE's is a folder.
        assert!(own_group().unwrap().is_none_or(|folder| folder.is_absolute()));
    }
}
