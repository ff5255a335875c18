//! Deploying by copying a folder.
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{
    journal::eventually,
    kube::{Home, Kube},
};

impl Kube<'_> {
    /// Waits until an app serves this path.
    pub(crate) fn is_served(&self, app: &str, path: &str) {
        let url = format!("https://{app}.localhost:{}{path}", self.https());
        eventually(&format!("{url} is served\n{}", self.journal), || {
            self.fetch(&["--head"], &url).ok().filter(|answer| answer.status == 200)
        });
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "a figure to read, not to assert")]
fn a_copied_folder_is_served_changed_and_removed() {
    let home = Home::new();
    let kube = home.start();
    let url = format!("https://notes.localhost:{}/", kube.https());
    assert!(kube.fetch(&[], &url).is_err(), "there is no certificate for what is not served");

    let copied = Instant::now();
    home.app("notes", &[("index.html", "one"), ("css/style.css", "p { color: red }")]);
    kube.is_served("notes", "/");
    println!("a copied folder was served after {:?}", copied.elapsed());
    assert_eq!(kube.get("notes.localhost", "/").text(), "one");
    assert_eq!(kube.get("notes.localhost", "/css/style.css").header("content-type"), Some("text/css; charset=utf-8"));

    home.app("notes", &[("index.html", "two")]);
    eventually("the change is served", || (kube.get("notes.localhost", "/").text() == "two").then_some(()));

    fs::remove_dir_all(home.path("data/apps/notes")).unwrap();
    eventually("it is gone", || kube.fetch(&[], &url).is_err().then_some(()));
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn apps_survive_a_restart_and_changes_made_meanwhile_count() {
    let home = Home::new();
    home.app("notes", &[("index.html", "one")]);
    let kube = home.start();
    kube.is_served("notes", "/");
    kube.kill();
    home.app("notes", &[("index.html", "two")]);
    let kube = home.start();
    kube.is_served("notes", "/");
    eventually("the change is served", || (kube.get("notes.localhost", "/").text() == "two").then_some(()));
    kube.stop();
}

#[test]
fn a_name_that_cannot_be_a_host_harms_nobody() {
    let home = Home::new();
    for name in ["sync", "_hidden", "a--b", "-dash", "UPPER CASE", "ünicode", "www"] {
        home.app(name, &[("index.html", "never")]);
    }
    home.app("good", &[("index.html", "good")]);
    let kube = home.start();
    kube.is_served("good", "/");
    let names: Vec<_> = kube.status()["sites"].as_array().unwrap().iter().map(|site| site["name"].clone()).collect();
    assert_eq!(names, ["good", "tasks", "welcome"]);
    assert_ne!(kube.get("sync.localhost", "/").text(), "never");
    kube.stop();
}

/// A build of somebody else's, from npm.
const DIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/node/node_modules/swagger-ui-dist");

#[test]
fn a_third_party_build_works_as_it_is() {
    let home = Home::new();
    let kube = home.start();
    let files = files(Path::new(DIST));
    assert!(files.contains(&"index.html".into()) && files.len() > 10, "{DIST} is not there: run `make test`");
    let app = home.path("data/apps/swagger");
    for file in &files {
        fs::create_dir_all(app.join(file).parent().unwrap()).unwrap();
        fs::copy(Path::new(DIST).join(file), app.join(file)).unwrap();
    }
    // All files, or none of this version.
    kube.is_served("swagger", "/");
    eventually("the whole copy", || {
        let status = kube.status();
        let site = status["sites"].as_array().unwrap().iter().find(|site| site["name"] == "swagger").cloned();
        (site?["files"] == files.len()).then_some(())
    });
    for file in &files {
        let path = format!("/{}", file.display());
        let answer = kube.get("swagger.localhost", &path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body == fs::read(Path::new(DIST).join(file)).unwrap(), "{path} is not what was copied");
        let kind = answer.header("content-type").unwrap_or_default();
        let expected = match file.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
            "html" => "text/html",
            "js" => "text/javascript",
            "css" => "text/css",
            "png" => "image/png",
            "json" | "map" => "application/json",
            _ => "",
        };
        assert!(kind.starts_with(expected), "{path}: {kind}");
    }
    kube.stop();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => {
                files(&path).into_iter().map(|file| PathBuf::from(entry.file_name()).join(file)).collect()
            }
            _ => vec![PathBuf::from(entry.file_name())],
        })
        .collect()
}
