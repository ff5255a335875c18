//! Whose a process is that asks KUBE for something.
//!
//! Landlock does not keep a child from connecting to the admin socket, so the socket asks who is there.
use std::{collections::BTreeMap, fs};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{
    Launcher, Name, Sandbox,
    launch::Living,
    mark,
    scan::{self, Seen},
    uids,
};

/// Most ancestors that are asked for; a chain that is longer is nobody's whom KUBE would trust.
const ANCESTORS: usize = 1000;

/// How often the chain is walked anew because one of it has ended meanwhile.
const WALKS: usize = 5;

/// The process of KUBE's that a peer belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name, if it is still known.
    pub name: Option<Name>,
    /// Whether it is kept apart; what is not known is.
    pub sandbox: Sandbox,
}

/// What KUBE knows when it looks at a chain of ancestors.
struct Known<'a> {
    kube: u32,
    number: u32,
    session: u32,
    living: &'a BTreeMap<u32, Living>,
}

impl Launcher {
    /// Whether `pid`, the peer of a socket (`SO_PEERCRED`, unix(7)), is something that KUBE started, or something of these.
    ///
    /// A process that has ended is taken for one: nobody can tell any more, and who waits for an answer has not ended.
    pub fn owner(&self, pid: u32) -> Option<Owner> {
        let unknown = Some(Owner { name: None, sandbox: Sandbox::On });
        for _ in 0..WALKS {
            let Some(chain) = chain(pid, std::process::id()) else {
                let exists = Pid::from_raw(pid.cast_signed()).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
                match exists {
                    // It is there and may not be seen, so it is another user's (hidepid, proc(5)).
                    Some(Ok(_)) if scan::one(pid).is_none() && fs::metadata(format!("/proc/{pid}")).is_err() => {
                        return None;
                    }
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => return unknown,
                }
            };
            let living = self.0.living().clone();
            let session = scan::own_session();
            let known = Known { kube: std::process::id(), number: self.0.kube, session, living: &living };
            let found = known.owner(&chain).or_else(|| self.in_group(&chain, &living));
            // Still the same process as at the beginning.
            if scan::one(pid).is_some_and(|it| it.start == chain[0].start) {
                return found;
            }
        }
        unknown
    }

    /// The owner by the control groups of a chain.
    fn in_group(&self, chain: &[Seen], living: &BTreeMap<u32, Living>) -> Option<Owner> {
        let groups = self.0.means.groups.as_ref().ok()?;
        let ours = format!("/{}/", groups.folder.file_name()?.to_str()?);
        chain.iter().find_map(|it| {
            let text = fs::read_to_string(format!("/proc/{}/cgroup", it.pid)).ok()?;
            let (_, group) = text.lines().find_map(|line| line.strip_prefix("0::"))?.split_once(&ours)?;
            let name = group.split('/').next()?.rsplit_once('.')?.0.parse().ok()?;
            Some(named(name, living))
        })
    }
}

/// The processes from `pid` up to KUBE or to the first of all; none if one has ended meanwhile.
fn chain(pid: u32, kube: u32) -> Option<Vec<Seen>> {
    let mut chain = vec![scan::one(pid)?];
    while let Some(last) = chain.last() {
        if last.pid == kube || last.parent <= 1 || chain.len() > ANCESTORS {
            break;
        }
        match scan::one(last.parent) {
            Some(parent) => chain.push(parent),
            // Of another user, and hidden (hidepid): the chain does not lead to KUBE, which sees itself.
            None if scan::one(last.pid).is_some_and(|again| again.parent == last.parent) => break,
            None => return None,
        }
    }
    Some(chain)
}

fn named(name: Name, living: &BTreeMap<u32, Living>) -> Owner {
    let sandbox = living.values().find(|it| it.name == name).map_or(Sandbox::On, |it| it.sandbox);
    Owner { name: Some(name), sandbox }
}

impl Known<'_> {
    fn owner(&self, chain: &[Seen]) -> Option<Owner> {
        chain.iter().find_map(|it| self.owner_of(it))
    }

    fn owner_of(&self, seen: &Seen) -> Option<Owner> {
        let of = |living: &Living| Owner { name: Some(living.name.clone()), sandbox: living.sandbox };
        let unknown = Owner { name: None, sandbox: Sandbox::On };
        if let Some(found) = self.living.values().find(|it| it.leader == Some((seen.pid, seen.start))) {
            return Some(of(found));
        }
        if let Some((number, serial)) = seen.locks.map(mark::read)
            && number == self.number
        {
            return Some(self.living.get(&serial).map_or(unknown, of));
        }
        if uids::RANGE.contains(&seen.uid) {
            let found = self.living.values().find(|it| it.uid == Some(seen.uid));
            return Some(found.map_or(unknown, of));
        }
        // Something that a process left behind, and that hides: KUBE itself starts nothing that leaves its session.
        (seen.parent == self.kube && seen.session != self.session).then_some(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pid: u32, parent: u32, session: u32) -> Seen {
        Seen { pid, parent, session, group: session, start: u64::from(pid), uid: 1, locks: None }
    }

    #[test]
    fn a_process_is_known_by_its_ancestors_its_mark_or_its_user() {
        let name: Name = "bot".parse().unwrap();
        let bot =
            Living { name: name.clone(), sandbox: Sandbox::Off, leader: Some((20, 20)), uid: Some(*uids::RANGE.end()) };
        let living = BTreeMap::from([(7, bot)]);
        let known = Known { kube: 10, number: 1 << 30, session: 1, living: &living };
        let named = Some(Owner { name: Some(name), sandbox: Sandbox::Off });
        let unknown = Some(Owner { name: None, sandbox: Sandbox::On });
        let kube = seen(10, 1, 1);

        assert_eq!(known.owner(&[seen(22, 20, 22), seen(20, 10, 20), kube.clone()]), named);
        let marked = |serial| Seen { locks: Some(mark::of(1 << 30, serial)), ..seen(30, 1, 30) };
        assert_eq!(known.owner(&[marked(7)]), named);
        assert_eq!(known.owner(&[marked(8)]), unknown);
        assert_eq!(known.owner(&[Seen { uid: *uids::RANGE.end(), ..seen(31, 1, 31) }]), named);
        assert_eq!(known.owner(&[Seen { uid: *uids::RANGE.start(), ..seen(31, 1, 31) }]), unknown);
        assert_eq!(known.owner(&[seen(32, 10, 32), kube.clone()]), unknown);
        // A shell of a person's, KUBE itself, a process that has got the number.
        assert_eq!(known.owner(&[seen(40, 2, 40), seen(2, 1, 2)]), None);
        assert_eq!(known.owner(std::slice::from_ref(&kube)), None);
        assert_eq!(known.owner(&[seen(41, 10, 1), kube]), None);
        assert_eq!(known.owner(&[Seen { start: 99, ..seen(20, 2, 1) }]), None);
    }
}
