//! Pure: what this machine lets KUBE do to keep processes apart, and what that means for a process.
use std::{ops::RangeInclusive, path::PathBuf};

use crate::{Process, Sandbox, entry::Identity, uids};

/// What KUBE found that it may do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Means {
    /// KUBE's own user.
    pub(crate) uid: u32,
    /// Users that it may become.
    pub(crate) users: Users,
    /// The version of Landlock ([landlock(7)](https://man7.org/linux/man-pages/man7/landlock.7.html)); 0 is none.
    pub(crate) landlock: u32,
    /// Where its control groups are, or why there are none.
    pub(crate) groups: Result<Groups, String>,
    /// Most open files that it may give.
    pub(crate) files: u64,
    /// Whether children bear a mark.
    pub(crate) mark: bool,
}

/// Users that KUBE may become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Users {
    /// Capabilities that would be needed and are not there, by name; empty: it may switch.
    pub(crate) missing: Vec<&'static str>,
    /// Ids that exist here (`/proc/self/uid_map`, user_namespaces(7)).
    pub(crate) mapped: Vec<RangeInclusive<u32>>,
}

/// Control groups of KUBE's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Groups {
    /// The folder of one group for each instance.
    pub(crate) folder: PathBuf,
    /// Controllers that are enabled in it.
    pub(crate) controllers: Vec<String>,
}

/// What is known of the control group that KUBE is in.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Whether systemd has started this machine: all groups are its own then, but those that it gives away.
    pub(crate) systemd: bool,
    /// Whether it has given this one away.
    pub(crate) delegated: bool,
    /// Whether KUBE may make groups in it.
    pub(crate) writable: bool,
    /// Where it is.
    pub(crate) own: PathBuf,
}

/// Whether KUBE may make control groups, or why not
/// ([CGROUP_DELEGATION](https://systemd.io/CGROUP_DELEGATION/)).
pub(crate) fn usable(found: &Found) -> Result<(), String> {
    if found.systemd && !found.delegated {
        return Err("systemd has not delegated control groups to KUBE (Delegate=yes in its unit)".to_owned());
    }
    if found.writable { Ok(()) } else { Err(format!("KUBE may not write {}", found.own.display())) }
}

/// Why a process may not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is nothing that would keep it from KUBE's keys.
    #[error(
        "it would run as KUBE's own user with KUBE's keys in reach: let KUBE switch users (run it as root, or with \
         packaging/kube-users.conf), use a kernel with Landlock (Linux 5.13), or allow it by sandbox = \"off\""
    )]
    Exposed,
    /// Its user is not KUBE's, and KUBE cannot become another.
    #[error(
        "user = {user:?}: KUBE may not switch users: run it as root, or give it {}; or leave `user` out", missing.join(", ")
    )]
    Switch {
        /// The user.
        user: String,
        /// Capabilities that KUBE would need.
        missing: Vec<&'static str>,
    },
    /// Its user does not exist in KUBE's user namespace.
    #[error("user = {user:?}: user id {uid} does not exist in this container: map it, or take another user")]
    Unmapped {
        /// The user.
        user: String,
        /// Its id.
        uid: u32,
    },
    /// Root is not kept apart from anything.
    #[error("user = {user:?}: root cannot be kept apart: take another user, or allow it by sandbox = \"off\"")]
    Root {
        /// The user.
        user: String,
    },
    /// Other users than KUBE's cannot walk to their folders.
    #[error(
        "its folder in {} cannot be reached by another user: chmod o+x {}, or have `data` elsewhere",
        folders.display(), closed.display()
    )]
    Unreachable {
        /// The folder on the way that is closed.
        closed: PathBuf,
        /// Where the folders of processes are.
        folders: PathBuf,
    },
    /// No user is called so.
    #[error("user = {user:?}: there is no such user")]
    Unknown {
        /// The user.
        user: String,
    },
}

/// How a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Whom it becomes; stays KUBE's user without.
    pub(crate) identity: Option<Identity>,
    /// Whether the user id is the process's own, and nobody else's.
    pub(crate) own: bool,
    /// Whether it is kept apart.
    pub(crate) apart: bool,
    /// Whether Landlock is among what keeps it apart.
    pub(crate) landlock: bool,
    /// What a person asked for and does not get.
    pub(crate) warnings: Vec<String>,
}

impl Terms {
    /// How it is kept apart, in a few words.
    pub(crate) fn words(&self) -> String {
        let user = self.identity.as_ref().map(|identity| format!("user {}", identity.uid));
        let landlock = self.landlock.then(|| "Landlock".to_owned());
        let words: Vec<_> = user.into_iter().chain(landlock).collect();
        if words.is_empty() { "off".to_owned() } else { words.join(", ") }
    }
}

impl Users {
    fn has(&self, uid: u32) -> bool {
        self.mapped.iter().any(|range| range.contains(&uid))
    }

    /// Whether each process can have an id of its own.
    pub(crate) fn own(&self) -> bool {
        self.missing.is_empty() && self.has(*uids::RANGE.start()) && self.has(*uids::RANGE.end())
    }
}

/// Decides how `process` runs, whose own id would be `own`, and whose `user` was looked up: none if there is none such.
pub(crate) fn terms(means: &Means, process: &Process, own: u32, found: Option<&Identity>) -> Result<Terms, Refusal> {
    let apart = process.sandbox == Sandbox::On;
    let identity = match (&process.user, found) {
        (Some(user), None) => return Err(Refusal::Unknown { user: user.clone() }),
        (Some(user), Some(found)) if found.uid == 0 && apart => return Err(Refusal::Root { user: user.clone() }),
        (Some(_), Some(found)) if found.uid == means.uid => None,
        (Some(user), Some(_)) if !means.users.missing.is_empty() => {
            return Err(Refusal::Switch { user: user.clone(), missing: means.users.missing.clone() });
        }
        (Some(user), Some(found)) if !means.users.has(found.uid) => {
            return Err(Refusal::Unmapped { user: user.clone(), uid: found.uid });
        }
        (Some(_), Some(found)) => Some(found.clone()),
        (None, _) if apart && means.users.own() => Some(Identity { uid: own, gid: own, groups: Vec::new() }),
        (None, _) => None,
    };
    let landlock = apart && means.landlock > 0;
    if apart && identity.is_none() && !landlock {
        return Err(Refusal::Exposed);
    }
    let is_own = process.user.is_none() && identity.is_some();
    let warnings = warnings(means, process, apart, identity.is_none());
    Ok(Terms { identity, own: is_own, apart, landlock, warnings })
}

/// What a person asked for, or relies on, and does not get on this machine.
fn warnings(means: &Means, process: &Process, apart: bool, same_user: bool) -> Vec<String> {
    let mut all = Vec::new();
    let asked = [
        ("memory", "memory", process.memory.is_some()),
        ("cpus", "cpu", process.cpus.is_some()),
        ("pids", "pids", process.pids.is_some()),
    ];
    for (option, controller, asked) in asked {
        let why = match &means.groups {
            Ok(groups) if groups.controllers.iter().any(|it| it == controller) => continue,
            Ok(_) => {
                format!("no {controller} controller of control groups v2 is delegated to KUBE (systemd: Delegate=yes)")
            }
            Err(why) => why.clone(),
        };
        if asked {
            all.push(format!("{option}: not available here: {why}"));
        }
    }
    if process.files.is_some_and(|files| u64::from(files) > means.files) {
        all.push(format!("files: not available here: KUBE itself may have {} at most (LimitNOFILE=)", means.files));
    }
    let lists = [
        ("read", process.read.is_some(), 1, "5.13"),
        ("write", !process.write.is_empty(), 1, "5.13"),
        ("connect", process.connect.is_some(), 4, "6.7"),
        ("bind", process.bind.is_some(), 4, "6.7"),
    ];
    for (option, asked, version, linux) in lists {
        if asked && !apart {
            all.push(format!("{option}: not heeded with sandbox = \"off\""));
        } else if asked && means.landlock < version {
            let has = means.landlock;
            all.push(format!(
                "{option}: not available here: it needs Landlock {version} (Linux {linux}), this kernel has {has}"
            ));
        }
    }
    let holes = [(3, "6.2", "from cutting files of KUBE short"), (6, "6.12", "from sending signals to KUBE")];
    for (version, linux, what) in holes {
        if apart && same_user && means.landlock < version {
            all.push(format!("it runs as KUBE's own user, and this kernel does not keep it {what}: use Linux {linux}, or let KUBE switch users"));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means() -> Means {
        Means {
            uid: 990,
            users: Users { missing: vec!["CAP_SETUID"], mapped: vec![0..=u32::MAX] },
            landlock: 6,
            groups: Err("there is no cgroup2 mount".to_owned()),
            files: 65_536,
            mark: true,
        }
    }

    fn process(more: &str) -> Process {
        serde_json::from_str(&format!(r#"{{"command":["/bin/x"]{more}}}"#)).unwrap()
    }

    const OWN: u32 = 1_900_000_000;

    #[test]
    fn a_process_has_a_user_of_its_own_where_kube_may_switch() {
        let mut means = means();
        means.users.missing.clear();
        for landlock in [0, 6] {
            means.landlock = landlock;
            let terms = terms(&means, &process(""), OWN, None).unwrap();
            assert_eq!(terms.identity, Some(Identity { uid: OWN, gid: OWN, groups: Vec::new() }));
            assert!(terms.own && terms.apart);
            assert_eq!(terms.landlock, landlock > 0);
            assert_eq!(terms.warnings, [""; 0]);
        }
        // In a container that does not have so many.
        means.users.mapped = vec![0..=65_535];
        assert_eq!(terms(&means, &process(""), OWN, None).unwrap().identity, None);
    }

    #[test]
    fn elsewhere_landlock_keeps_it_apart_or_it_does_not_start() {
        let mut means = means();
        let found = terms(&means, &process(""), OWN, None).unwrap();
        assert!(found.identity.is_none() && found.landlock && !found.own);
        means.landlock = 0;
        let refusal = terms(&means, &process(""), OWN, None).unwrap_err();
        assert_eq!(refusal, Refusal::Exposed);
        assert!(refusal.to_string().contains("sandbox = \"off\""));
        let found = terms(&means, &process(r#","sandbox":"off""#), OWN, None).unwrap();
        assert!(!found.apart && !found.landlock);
    }

    #[test]
    fn a_user_that_is_named_has_to_be_one_that_kube_may_become() {
        let mut means = means();
        let named = process(r#","user":"bot""#);
        let bot = Identity { uid: 1001, gid: 1001, groups: vec![5] };
        let root = Identity { uid: 0, gid: 0, groups: Vec::new() };
        let user = "bot".to_owned();
        assert_eq!(terms(&means, &named, OWN, None), Err(Refusal::Unknown { user: user.clone() }));
        let missing = vec!["CAP_SETUID"];
        assert_eq!(terms(&means, &named, OWN, Some(&bot)), Err(Refusal::Switch { user: user.clone(), missing }));
        means.users.missing.clear();
        let found = terms(&means, &named, OWN, Some(&bot)).unwrap();
        assert_eq!((found.identity, found.own), (Some(bot.clone()), false));
        assert_eq!(terms(&means, &named, OWN, Some(&root)), Err(Refusal::Root { user: user.clone() }));
        let off = process(r#","user":"bot","sandbox":"off""#);
        assert_eq!(terms(&means, &off, OWN, Some(&root)).unwrap().identity, Some(root));
        means.users.mapped = vec![0..=1000];
        assert_eq!(terms(&means, &named, OWN, Some(&bot)), Err(Refusal::Unmapped { user, uid: 1001 }));
        // KUBE's own user by its name is no switch.
        let kube = Identity { uid: 990, gid: 990, groups: Vec::new() };
        assert_eq!(terms(&means, &named, OWN, Some(&kube)).unwrap().identity, None);
        means.landlock = 0;
        terms(&means, &named, OWN, Some(&kube)).unwrap_err();
    }

    #[test]
    fn control_groups_are_used_where_they_are_given() {
        let found =
            |systemd, delegated, writable| Found { systemd, delegated, writable, own: "/sys/fs/cgroup/x".into() };
        usable(&found(true, true, true)).unwrap();
        usable(&found(false, false, true)).unwrap();
        assert!(usable(&found(true, false, true)).unwrap_err().contains("Delegate=yes"));
        assert!(usable(&found(true, true, false)).unwrap_err().contains("/sys/fs/cgroup/x"));
        assert!(usable(&found(false, false, false)).unwrap_err().contains("may not write"));
    }

    #[test]
    fn what_is_not_available_is_said() {
        let mut means = means();
        means.landlock = 2;
        means.files = 1024;
        let asked =
            process(r#","memory":"64MiB","cpus":0.5,"pids":9,"files":65536,"read":[],"connect":[443],"bind":[]"#);
        let warnings = terms(&means, &asked, OWN, None).unwrap().warnings;
        let says = |what: &str| warnings.iter().filter(|line| line.starts_with(what)).count();
        for what in ["memory: not", "cpus: not", "pids: not", "files: not", "connect: not", "bind: not"] {
            assert_eq!(says(what), 1, "{what}: {warnings:?}");
        }
        assert_eq!(says("it runs as KUBE's own user"), 2);
        assert_eq!(warnings.len(), 8);

        means.landlock = 6;
        means.files = 65_536;
        means.groups = Ok(Groups { folder: "/x".into(), controllers: vec!["memory".to_owned(), "pids".to_owned()] });
        let warnings = terms(&means, &asked, OWN, None).unwrap().warnings;
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("cpus: not available here: no cpu controller"), "{warnings:?}");
    }
}
