//! Pure: the files that a child may see, as Landlock wants them said.
//!
//! Landlock knows only what is allowed, and what is allowed on a folder is allowed on all below it. So what is hidden is
//! walked around: on the way from `/` to it everything beside the way is allowed, and the way itself is not.
use std::path::{Path, PathBuf};

use crate::entry::Rules;

/// What a program needs of the system when `read` says what it may read.
const SYSTEM: [&str; 16] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc",
    "/proc",
    "/sys",
    "/nix/store",
    // Where the links `/etc/resolv.conf` and `/etc/ssl/certs` of some systems lead to.
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/nscd",
    "/var/lib/ca-certificates",
    "/usr/local",
];

/// Devices that are everybody's.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Folders that are everybody's: programs that do not ask `TMPDIR` write there.
const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// What is allowed on a path and all below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Grant {
    pub(crate) path: PathBuf,
    /// Beside reading and executing.
    pub(crate) write: bool,
}

/// The file system, as far as the walk asks it.
pub(crate) trait Files {
    /// The path without links; none if nothing is there.
    fn real(&self, path: &Path) -> Option<PathBuf>;
    /// What is in a folder, but for links: where they lead to is judged by its own path.
    fn list(&self, folder: &Path) -> Vec<PathBuf>;
}

/// Everything that `rules` allow. A listed path that is not there is an error, and is named by it.
pub(crate) fn grants(rules: &Rules, files: &impl Files) -> Result<Vec<Grant>, PathBuf> {
    let hidden: Vec<_> = rules.hidden.iter().map(|path| nearest(path, files)).collect();
    let listed = |paths: &[PathBuf]| -> Result<Vec<PathBuf>, PathBuf> {
        paths.iter().map(|path| files.real(path).ok_or_else(|| path.clone())).collect()
    };
    let there = |paths: &[&str]| paths.iter().filter_map(|path| files.real(Path::new(path))).collect::<Vec<_>>();
    let reads = match &rules.read {
        None => vec![PathBuf::from("/")],
        Some(more) => [there(&SYSTEM), listed(more)?].concat(),
    };
    let writes = [there(&DEVICES), there(&TEMPORARY), listed(&rules.write)?].concat();
    let mut all = Vec::new();
    for (roots, write) in [(reads, false), (writes, true)] {
        for root in roots {
            around(root, &hidden, files, &mut |path| all.push(Grant { path, write }));
        }
    }
    all.push(Grant { path: files.real(&rules.own).ok_or_else(|| rules.own.clone())?, write: true });
    all.sort();
    all.dedup();
    Ok(all)
}

/// Says all below `root` that is not hidden.
fn around(root: PathBuf, hidden: &[PathBuf], files: &impl Files, say: &mut impl FnMut(PathBuf)) {
    if hidden.iter().any(|hidden| root.starts_with(hidden)) {
        return;
    }
    if !hidden.iter().any(|hidden| hidden.starts_with(&root)) {
        return say(root);
    }
    for path in files.list(&root) {
        around(path, hidden, files, say);
    }
}

/// The real path of something that need not be there yet.
fn nearest(path: &Path, files: &impl Files) -> PathBuf {
    for ancestor in path.ancestors() {
        if let Some(real) = files.real(ancestor) {
            let rest = path.strip_prefix(ancestor).expect("an ancestor is a prefix");
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Folders and files by their paths; nothing is a link but `/run/link` to `/var`.
    struct Tree(BTreeSet<PathBuf>);

    impl Tree {
        fn new(paths: &[&str]) -> Self {
            let all = paths.iter().flat_map(|path| Path::new(path).ancestors()).map(Path::to_owned);
            Self(all.collect())
        }
    }

    impl Files for Tree {
        fn real(&self, path: &Path) -> Option<PathBuf> {
            let path = path.strip_prefix("/run/link").map_or(path.to_owned(), |rest| Path::new("/var").join(rest));
            self.0.contains(&path).then_some(path)
        }

        fn list(&self, folder: &Path) -> Vec<PathBuf> {
            self.0.iter().filter(|path| path.parent() == Some(folder)).cloned().collect()
        }
    }

    fn rules(hidden: &[&str]) -> Rules {
        Rules {
            own: "/var/lib/kube/processes/a".into(),
            hidden: hidden.iter().map(PathBuf::from).collect(),
            read: None,
            write: Vec::new(),
            connect: None,
            bind: None,
        }
    }

    fn tree() -> Tree {
        Tree::new(&[
            "/usr/bin/sh",
            "/etc/kube/kube.toml",
            "/etc/passwd",
            "/var/lib/kube/keys/a",
            "/var/lib/kube/processes/a",
            "/var/lib/kube/processes/b",
            "/var/lib/other",
            "/var/log",
            "/tmp/x",
            "/dev/null",
            "/srv/bot",
        ])
    }

    fn allowed(grants: &[Grant], path: &str, write: bool) -> bool {
        grants.iter().any(|grant| Path::new(path).starts_with(&grant.path) && (grant.write || !write))
    }

    #[test]
    fn what_is_hidden_is_walked_around() {
        let grants = grants(&rules(&["/var/lib/kube", "/etc/kube/kube.toml"]), &tree()).unwrap();
        let reads = ["/usr/bin/sh", "/etc/passwd", "/var/lib/other/deep", "/var/log", "/tmp/x", "/srv/bot"];
        for path in reads {
            assert!(allowed(&grants, path, false), "{path}");
        }
        for path in
            ["/var/lib/kube/keys/a", "/var/lib/kube/processes/b", "/etc/kube/kube.toml", "/", "/var/lib", "/etc"]
        {
            assert!(!allowed(&grants, path, false), "{path}");
        }
        for path in ["/var/lib/kube/processes/a/x", "/tmp/new", "/dev/null"] {
            assert!(allowed(&grants, path, true), "{path}");
        }
        for path in ["/usr/bin/sh", "/etc/passwd", "/srv/bot", "/var/lib/other"] {
            assert!(!allowed(&grants, path, true), "{path}");
        }
    }

    #[test]
    fn a_list_of_what_to_read_leaves_only_the_system_besides() {
        let mut rules = rules(&["/etc/kube"]);
        rules.read = Some(vec!["/srv/bot".into()]);
        let found = grants(&rules, &tree()).unwrap();
        assert!(allowed(&found, "/usr/bin/sh", false) && allowed(&found, "/etc/passwd", false));
        assert!(allowed(&found, "/srv/bot/run", false) && !allowed(&found, "/var/lib/other", false));
        rules.read = Some(vec!["/srv/none".into()]);
        assert_eq!(grants(&rules, &tree()), Err("/srv/none".into()));
    }

    #[test]
    fn what_a_person_lets_it_write_does_not_uncover_what_is_hidden() {
        let mut rules = rules(&["/run/link/lib/kube", "/var/later/not-yet"]);
        rules.write = vec!["/var".into()];
        let grants = grants(&rules, &tree()).unwrap();
        assert!(allowed(&grants, "/var/lib/other/x", true) && allowed(&grants, "/var/log", true));
        assert!(!allowed(&grants, "/var/lib/kube/keys/a", false));
        assert!(!allowed(&grants, "/var/later/not-yet", false) || !tree().0.contains(Path::new("/var/later")));
    }

    proptest! {
        #[test]
        fn no_grant_reaches_what_is_hidden(
            paths in prop::collection::vec("(/[ab]){1,5}", 1..20),
            hidden in prop::collection::vec("(/[ab]){1,4}", 1..4),
        ) {
            let paths: Vec<_> = paths.iter().map(String::as_str).chain(["/own"]).collect();
            let tree = Tree::new(&paths);
            let mut rules = rules(&[]);
            rules.own = "/own".into();
            rules.hidden = hidden.iter().map(PathBuf::from).collect();
            let grants = grants(&rules, &tree).unwrap();
            for grant in &grants {
                for hidden in &rules.hidden {
                    prop_assert!(!hidden.starts_with(&grant.path) && !grant.path.starts_with(hidden));
                }
            }
            for path in &tree.0 {
                let meets = rules.hidden.iter().any(|it| it.starts_with(path) || path.starts_with(it));
                let found = grants.iter().any(|grant| path.starts_with(&grant.path));
                prop_assert_eq!(found, !meets, "{}", path.display());
            }
        }
    }
}
