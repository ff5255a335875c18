//! What a child gives up: capabilities, new privileges, and with Landlock files, ports, and signals to others.
use std::{
    fs,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

use super::{Result, cannot};
use crate::{
    entry::Rules,
    grants::{self, Files},
};

/// The newest version that was tried; an older kernel does what it can.
const NEWEST: ABI = ABI::V6;

struct Disk;

impl Files for Disk {
    fn real(&self, path: &Path) -> Option<PathBuf> {
        fs::canonicalize(path).ok()
    }

    fn list(&self, folder: &Path) -> Vec<PathBuf> {
        // What cannot be listed is not allowed.
        let entries = fs::read_dir(folder).into_iter().flatten().filter_map(std::result::Result::ok);
        entries.filter(|it| it.file_type().is_ok_and(|kind| !kind.is_symlink())).map(|it| it.path()).collect()
    }
}

/// Says `rules` to the kernel, which follows them from [`restrict`] on.
pub(super) fn ruleset(rules: &Rules) -> Result<RulesetCreated> {
    let step = "say its rules to Landlock";
    let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(NEWEST)).map_err(cannot(step))?;
    ruleset = ruleset.scope(Scope::from_all(NEWEST)).map_err(cannot(step))?;
    let ports = [(&rules.connect, AccessNet::ConnectTcp), (&rules.bind, AccessNet::BindTcp)];
    for (_, access) in ports.iter().filter(|(list, _)| list.is_some()) {
        ruleset = ruleset.handle_access(*access).map_err(cannot(step))?;
    }
    let mut created = ruleset.create().map_err(cannot(step))?;
    let missing = |path: PathBuf| cannot(format!("let it use {}", path.display()))("no such file or directory");
    for grant in grants::grants(rules, &Disk).map_err(missing)? {
        // What is gone since, or may not even be opened by KUBE, is not allowed.
        let (Ok(file), Ok(kind)) = (PathFd::new(&grant.path), fs::symlink_metadata(&grant.path)) else { continue };
        let mut access = if grant.write { AccessFs::from_all(NEWEST) } else { AccessFs::from_read(NEWEST) };
        if !kind.is_dir() {
            access &= AccessFs::from_file(NEWEST);
        }
        created = created.add_rule(PathBeneath::new(file, access)).map_err(cannot(step))?;
    }
    for (list, access) in ports {
        for port in list.iter().flatten() {
            created = created.add_rule(NetPort::new(*port, access)).map_err(cannot(step))?;
        }
    }
    Ok(created)
}

/// Follows the rules from now on, and has all that this process starts follow them.
pub(super) fn restrict(ruleset: RulesetCreated) -> Result<()> {
    let status = ruleset.restrict_self().map_err(cannot("follow its rules"))?;
    match status.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(cannot("follow its rules")("this kernel has no Landlock")),
    }
}

/// Takes every capability out of the bounding set, if it may; what `exec` gives is nothing either way, once [`give_up`] is done.
pub(super) fn bound() {
    for bit in 0..64 {
        // A number that this kernel does not know, or a KUBE without CAP_SETPCAP.
        remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)).ok();
    }
}

/// Gives up every capability, for good.
pub(super) fn give_up() -> Result<()> {
    let none = CapabilitySet::empty();
    clear_ambient_capability_set().map_err(cannot("give up capabilities"))?;
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(cannot("give up capabilities"))?;
    set_no_new_privs(true).map_err(cannot("give up new privileges"))
}
