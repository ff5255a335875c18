//! Programs of a team that KUBE keeps, and what becomes of them.
use std::{collections::BTreeMap, fs};

use serde_json::Value;

use crate::{
    journal::{eventually, in_time},
    kube::{Home, Kube, Ran},
};

/// A table `[processes.NAME]` of a shell script.
pub(crate) fn script(name: &str, script: &str, more: &str) -> String {
    assert!(!script.contains("'''"), "{script}");
    format!("[processes.{name}]\ncommand = [\"/bin/sh\", \"-c\", '''{script}''']\n{more}\n")
}

/// The same of a Python program.
pub(crate) fn python(name: &str, program: &str, more: &str) -> String {
    assert!(!program.contains("'''"), "{program}");
    format!("[processes.{name}]\ncommand = [\"/usr/bin/python3\", \"-c\", '''{program}''']\n{more}\n")
}

/// Writes the config of a home whose tables name it.
pub(crate) fn configure(home: &Home, tables: &str) {
    home.configure(&format!("domain = \"localhost\"\ndata = \"data\"\n{}\n{tables}", crate::kube::LISTEN));
}

/// The programs of this home that run, with how many processes each: their `HOME` tells whose they are.
pub(crate) fn running(home: &Home) -> BTreeMap<String, usize> {
    let folders = format!("HOME={}/", home.path("data/processes").display());
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        // One that ends meanwhile has none.
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let variables = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        for name in variables.filter_map(|variable| Some(variable.strip_prefix(&*folders)?.to_owned())) {
            *found.entry(name).or_default() += 1;
        }
    }
    found
}

/// Waits until nothing of this home's programs runs.
pub(crate) fn all_gone(home: &Home) {
    eventually("the end of all that was started", || running(home).is_empty().then_some(()));
}

impl Kube<'_> {
    /// How one process is, as `kube ps --json` says.
    pub(crate) fn process(&self, name: &str) -> Value {
        let ran = self.home.run(&["ps", "--json", name]);
        let found: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
        found[0].clone()
    }

    /// Waits until a process is in a state; gives how it is then.
    pub(crate) fn until(&self, name: &str, state: &str) -> Value {
        let mut last = Value::Null;
        eventually(&format!("{name} {state}\n{}", self.journal), || {
            last = self.process(name);
            (last["state"] == state).then(|| last.clone())
        })
    }

    /// What a process has written so far, a line each.
    pub(crate) fn wrote(&self, name: &str) -> Vec<String> {
        let lines = self.home.run(&["logs", name, "--lines", "1000", "--json"]).ok();
        let line = |text: &str| -> Option<String> {
            let line: Value = serde_json::from_str(text).unwrap();
            (line["stream"] != "kube").then(|| line["line"].as_str().unwrap().to_owned())
        };
        lines.lines().filter_map(line).collect()
    }

    /// Waits until a process has written a line that contains `text`.
    pub(crate) fn until_it_wrote(&self, name: &str, text: &str) -> String {
        let mut wrote = Vec::new();
        let found = || {
            wrote = self.wrote(name);
            wrote.iter().find(|line| line.contains(text)).cloned()
        };
        let found = in_time(found);
        found.unwrap_or_else(|| panic!("{name} never wrote {text:?}: {wrote:#?}\n{}", self.journal))
    }
}

/// What a command printed, as JSON.
pub(crate) fn json(ran: Ran) -> Value {
    serde_json::from_str(&ran.ok()).unwrap()
}
