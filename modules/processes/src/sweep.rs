//! Kills what an earlier KUBE has left: one that was killed could not do it itself.
//!
//! Nothing is taken over. What such a process writes goes nowhere since its pipes are closed, nobody would learn how it ends,
//! and systemd kills all of a service that is gone too. What is found needs no file that says it: it bears this KUBE's mark,
//! is in its control groups, or has a user id that one of its folders belongs to.
use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::Path};

use crate::{Launcher, Left, cgroup::Cgroup, group::kill_cgroup, mark, scan::Seen, uids};

impl Launcher {
    /// Kills all that this KUBE or an earlier one of the same folder has started, and says how many processes that were.
    ///
    /// For the start, and for a new start of the module after a fall: what [`Launcher::launch`] gave before is killed too.
    ///
    /// # Errors
    ///
    /// Something is left, or it cannot be found out: starting a process now could mean to have it twice.
    pub async fn sweep(&self) -> Result<usize, Left> {
        let shared = &self.0;
        let mut killed = 0;
        if let Ok(groups) = &shared.means.groups {
            for group in Cgroup::all(&groups.folder).map_err(|error| Left::Unknown(error.to_string()))? {
                killed += group.pids().map_or(0, |pids| pids.len());
                kill_cgroup(&group).await?;
            }
        }
        let ours = given(&shared.places().folders);
        let all = shared.scans.fresh().await?;
        let users: BTreeSet<_> = all.iter().map(|it| it.uid).filter(|uid| ours.contains(uid)).collect();
        let marked = |it: &&Seen| it.locks.is_some_and(|locks| mark::read(locks).0 == shared.kube);
        killed += all.iter().filter(|it| marked(it) || users.contains(&it.uid)).count();
        if shared.means.users.own() {
            for uid in users {
                shared.kill_all_of(uid).await?;
            }
        }
        shared.kill_all(|all| all.iter().filter(marked).cloned().collect()).await?;
        shared.living().clear();
        Ok(killed)
    }
}

/// The user ids of KUBE's giving that own one of its folders; also of processes that the config does not have any more.
fn given(folders: &Path) -> BTreeSet<u32> {
    let owners =
        fs::read_dir(folders).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.metadata().ok()?.uid()));
    owners.filter(|uid| uids::RANGE.contains(uid)).collect()
}
