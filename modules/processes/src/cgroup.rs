//! Control groups: one for each instance, below a folder of KUBE's own
//! ([cgroup v2](https://docs.kernel.org/admin-guide/cgroup-v2.html)).
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Name, Process};

/// Memory that is only moved to the swap is not given back: without this a limit of memory would hold nobody where there is swap.
const SWAP: &str = "memory.swap.max";

/// The control group of an instance.
#[derive(Debug)]
pub(crate) struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// Makes the group, with `limits`. One that an instance of that name and number left is taken over, and is empty then.
    pub(crate) fn make(folder: &Path, name: &Name, instance: u64, limits: &[(&str, String)]) -> io::Result<Self> {
        let group = Self { folder: folder.join(format!("{name}.{instance}")) };
        match fs::create_dir(&group.folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => group.kill()?,
            other => other?,
        }
        for (file, value) in limits {
            let path = group.folder.join(file);
            // Kernels without swap have none of its files.
            if *file != SWAP || path.exists() {
                fs::write(path, value)?;
            }
        }
        Ok(group)
    }

    /// Every group below `folder`.
    pub(crate) fn all(folder: &Path) -> io::Result<Vec<Self>> {
        let folders = folders(folder)?;
        Ok(folders.into_iter().map(|folder| Self { folder }).collect())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kills all that is in it. They are gone when [`Self::is_empty`].
    pub(crate) fn kill(&self) -> io::Result<()> {
        match fs::write(self.folder.join("cgroup.kill"), "1") {
            // Before Linux 5.14.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.folder.exists() => {
                for pid in self.pids()? {
                    crate::group::signal(pid, None, rustix::process::Signal::KILL);
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Whether nothing is in it, nor in groups below it.
    pub(crate) fn is_empty(&self) -> io::Result<bool> {
        match fs::read_to_string(self.folder.join("cgroup.events")) {
            Ok(text) => Ok(flat(&text).get("populated") == Some(&0)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Removes it, with the groups that its processes made below it. It has to be empty.
    pub(crate) fn remove(&self) -> io::Result<()> {
        remove(&self.folder)
    }

    /// What is in it, and in groups below it.
    pub(crate) fn pids(&self) -> io::Result<Vec<u32>> {
        let mut all = Vec::new();
        let mut left = vec![self.folder.clone()];
        while let Some(folder) = left.pop() {
            let text = fs::read_to_string(folder.join("cgroup.procs"))?;
            all.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            left.extend(folders(&folder)?);
        }
        Ok(all)
    }

    /// A number that a controller says; none where the controller is not there.
    pub(crate) fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }

    /// How many of its processes the kernel has killed for lack of memory.
    pub(crate) fn killed_for_memory(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join("memory.events")).unwrap_or_default();
        flat(&text).get("oom_kill").copied().unwrap_or(0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What does not go is found by the next sweep.
        self.kill().and_then(|()| self.remove()).ok();
    }
}

/// The files and values that limit a process with these controllers.
pub(crate) fn limits(process: &Process, controllers: &[String]) -> Vec<(&'static str, String)> {
    let has = |name: &str| controllers.iter().any(|it| it == name);
    let mut all = Vec::new();
    if let Some(most) = process.memory.filter(|_| has("memory")) {
        all.push(("memory.max", most.as_u64().to_string()));
        all.push((SWAP, "0".to_owned()));
    }
    if has("memory") {
        // A process without its children, or the other way round, is no use.
        all.push(("memory.oom.group", "1".to_owned()));
    }
    if has("cpu") {
        all.push(("cpu.weight.nice", process.nice.to_string()));
    }
    if let Some(most) = process.cpus.filter(|_| has("cpu")) {
        all.push(("cpu.max", format!("{} 100000", most.quota())));
    }
    if let Some(most) = process.pids.filter(|_| has("pids")) {
        all.push(("pids.max", most.to_string()));
    }
    all
}

/// Reads `KEY VALUE` lines.
fn flat(text: &str) -> BTreeMap<&str, u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(key, value)| Some((key, value.parse().ok()?)))
        .collect()
}

fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            all.push(entry.path());
        }
    }
    Ok(all)
}

fn remove(folder: &Path) -> io::Result<()> {
    match folders(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?.iter().try_for_each(|folder| remove(folder))?,
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_that_are_asked_for_and_there() {
        let json = r#"{"command":["/x"],"memory":"64MiB","cpus":1.5,"pids":100}"#;
        let process: Process = serde_json::from_str(json).unwrap();
        let all: Vec<_> = ["memory", "cpu", "pids"].map(str::to_owned).to_vec();
        let found = limits(&process, &all);
        let expected = [
            ("memory.max", "67108864"),
            ("memory.swap.max", "0"),
            ("memory.oom.group", "1"),
            ("cpu.weight.nice", "10"),
            ("cpu.max", "150000 100000"),
            ("pids.max", "100"),
        ];
        assert_eq!(found, expected.map(|(file, value)| (file, value.to_owned())));
        assert_eq!(limits(&process, &all[2..]), [("pids.max", "100".to_owned())]);
        assert_eq!(limits(&process, &[]), []);
    }

    #[test]
    fn a_group_says_what_its_files_say() {
        let folder = tempfile::tempdir().unwrap();
        let limits = [("memory.max", "1".to_owned()), (SWAP, "0".to_owned())];
        let group = Cgroup::make(folder.path(), &"a".parse().unwrap(), 3, &limits).unwrap();
        assert_eq!(group.folder(), folder.path().join("a.3"));
        assert_eq!((group.number("memory.max"), group.number(SWAP)), (Some(1), None));
        assert_eq!((group.number("memory.current"), group.killed_for_memory()), (None, 0));
        fs::write(group.folder().join("memory.events"), "low 0\noom 2\noom_kill 1\n").unwrap();
        assert_eq!(group.killed_for_memory(), 1);
        for (text, empty) in [("populated 1\nfrozen 0\n", false), ("populated 0\nfrozen 0\n", true)] {
            fs::write(group.folder().join("cgroup.events"), text).unwrap();
            assert_eq!(group.is_empty().unwrap(), empty);
        }
        fs::create_dir(group.folder().join("below")).unwrap();
        fs::write(group.folder().join("cgroup.procs"), "1\n2\n").unwrap();
        fs::write(group.folder().join("below/cgroup.procs"), "3\n").unwrap();
        assert_eq!(group.pids().unwrap(), [1, 2, 3]);
        assert_eq!(Cgroup::all(folder.path()).unwrap().len(), 1);
    }
}
