//! From nothing to an app that is served: `kube new`, npm, and a copied folder.
use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::kube::{Home, Ran};

/// How long npm may take, which may have to ask its registry.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs npm as the user of this machine, whose settings and cache it needs.
fn npm(project: &Path, words: &[&str]) {
    let patience = PATIENCE.as_secs().to_string();
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", &patience, "npm"]).args(words).current_dir(project);
    Ran::from(&mut command).ok();
}

#[test]
#[expect(clippy::print_stdout, reason = "figures to read, not to assert")]
fn a_new_app_is_built_as_it_is_and_served() {
    let home = Home::new();
    let kube = home.start();
    let project = home.path("notes");
    let begun = Instant::now();
    let say = |what: &str| println!("{what} after {:?}", begun.elapsed());

    let said = home.run(&["new", "notes"]).ok();
    say("written");
    let apps = home.path("data/apps");
    let copy = format!("cp -r dist/. {}/notes", apps.display());
    for step in ["cd notes\n", "npm install\n", "npm run dev ", "npm run build\n", &copy] {
        assert!(said.contains(step), "no {step:?} in {said}");
    }
    assert!(!said.contains('\u{1b}'), "colour is for terminals: {said:?}");
    npm(&project, &["install", "--prefer-offline", "--no-audit", "--no-fund"]);
    say("installed");
    npm(&project, &["run", "build"]);
    say("built");
    // As the steps say, and again, which changes what is served and nests nothing.
    for _ in 0..2 {
        Ran::from(Command::new("sh").args(["-c", &copy]).current_dir(&project)).ok();
    }
    kube.is_served("notes", "/");
    say("served");

    let page = kube.get("notes.localhost", "/").text();
    assert!(page.contains("<title>notes</title>"), "{page}");
    let worker = kube.get("notes.localhost", "/worker.js").text();
    let list = worker.lines().find_map(|line| line.strip_prefix("const files = ")).unwrap();
    let kept: Vec<String> = serde_json::from_str(list).unwrap();
    assert!(kept.len() >= 4, "the page, the script, the style and Automerge: {kept:?}");
    for path in &kept {
        let answer = kube.get("notes.localhost", path);
        let file = if path == "/" { "index.html" } else { &path[1..] };
        assert!(answer.body == fs::read(project.join("dist").join(file)).unwrap(), "{path} is not what was built");
    }
    kube.stop();
}

#[test]
fn an_app_that_cannot_be_begun_is_refused_and_harms_nothing() {
    let home = Home::new();
    home.run(&["new"]).complains(64, &["NAME"]);
    home.run(&["new", "My Notes"]).complains(64, &["\"My Notes\"", "'M'"]);
    home.run(&["new", "sync"]).complains(64, &["\"sync\"", "reserved"]);
    home.run(&["new", "data"]).complains(1, &["data is not empty"]);
    home.run(&["new", "kube.toml/notes"]).complains(1, &["kube.toml/notes"]);
    home.run(&["new", "/proc/notes"]).complains(1, &["/proc/notes"]);

    // A config with problems does not keep anyone from beginning.
    home.configure("nonsense");
    assert!(home.run(&["new", "apps/notes"]).ok().contains("kube check"));
    assert!(home.path("apps/notes/kit/src/index.ts").exists());
}
