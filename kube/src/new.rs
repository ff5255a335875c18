//! `kube new`: writes a small app that syncs, for a person to make their own.
use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use flate2::read::DeflateDecoder;

use crate::{
    config::Config,
    outcome::Outcome,
    terminal::{self, DIM},
};

/// The project, as `build.rs` packs it. The template can be built as it is, under the name [`PLACEHOLDER`]; a change of its
/// dependencies is made in a project of that name, whose `package-lock.json` then comes back to `kube/template`.
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/template.tar.deflate"));

/// The name of the app in the files of the template.
const PLACEHOLDER: &str = "kube-template";

/// Writes the project into a new folder, named like the app, and says how to go on with the KUBE of this config.
pub(crate) fn new(folder: &Path, config: Option<&Config>) -> Outcome {
    // `.` has a name too.
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let name = absolute.file_name().unwrap_or_default().to_string_lossy();
    if let Err(error) = apps::check_name(&name) {
        terminal::complain(format!("{name:?} cannot be the name of an app: {error}"));
        return Outcome::Usage;
    }
    let shown = folder.display();
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(false) => {}
        Ok(true) => return Outcome::failed(format!("{shown} is not empty: choose another name, or empty it first")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Outcome::failed(format!("{shown} cannot be the folder of a new app: {error}")),
    }
    let files = project(&name).expect("what build.rs packs can be unpacked");
    for (path, text) in &files {
        if let Err(error) = write(&folder.join(path), text) {
            let path = folder.join(path);
            let path = path.display();
            return Outcome::failed(format!("cannot write {path}: {error}; {shown} is incomplete: remove it"));
        }
    }
    terminal::say(format!("wrote {shown}, {} files\n", files.len()));
    terminal::say(steps(folder, &name, config));
    Outcome::Done
}

/// The files of a project, by their path in it.
fn project(name: &str) -> io::Result<Vec<(PathBuf, String)>> {
    let mut archive = tar::Archive::new(DeflateDecoder::new(PACKED));
    let file = |entry: io::Result<tar::Entry<'_, _>>| {
        let (mut entry, mut text) = (entry?, String::new());
        entry.read_to_string(&mut text)?;
        Ok((entry.path()?.into_owned(), text.replace(PLACEHOLDER, name)))
    };
    archive.entries()?.map(file).collect()
}

/// Writes a file that is not there yet, and the folders that lead to it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

/// What to type next, and what it does.
fn steps(folder: &Path, name: &str, config: Option<&Config>) -> String {
    let (dev, copy, site) = match config {
        Some(config) => (
            dev(config),
            quote(&config.apps.folder.join(name)),
            format!("https://{name}.{}{}/", config.domain, port(config.hosting.https.first(), 443)),
        ),
        None => (
            "npm run dev".to_owned(),
            format!("APPS_FOLDER/{name}"),
            "`kube check` says what is wrong with the config".to_owned(),
        ),
    };
    let folder = quote(folder);
    format!(
        "  cd {folder}\n  npm install\n  \
         {dev}  {DIM}# http://localhost:5173, syncs with a running KUBE{DIM:#}\n  \
         npm run build\n  \
         cp -r dist/. {copy}  {DIM}# {site}{DIM:#}"
    )
}

/// How the dev server finds the KUBE of this config.
fn dev(config: &Config) -> String {
    let Config { domain, hosting, .. } = config;
    match hosting.http.first() {
        Some(http) if domain.is_localhost() && http.port() == 8080 => "npm run dev".to_owned(),
        Some(http) if domain.is_localhost() => format!("KUBE=http://localhost{} npm run dev", port(Some(http), 80)),
        _ => format!("KUBE=https://{domain}{} npm run dev", port(hosting.https.first(), 443)),
    }
}

/// `:8443`, or nothing when it is the usual port.
fn port(address: Option<&SocketAddr>, usual: u16) -> String {
    address
        .map(|address| address.port())
        .filter(|port| *port != usual)
        .map(|port| format!(":{port}"))
        .unwrap_or_default()
}

/// A path as shells read it.
fn quote(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;
    use crate::config::{self, Environment};

    fn begin(folder: &Path) -> Outcome {
        new(folder, None)
    }

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_project_is_whole_and_has_its_name() {
        let project: BTreeMap<_, _> = project("notes").unwrap().into_iter().collect();
        let file = |path: &str| project.get(Path::new(path)).unwrap_or_else(|| panic!("no {path} in {project:?}"));
        for path in [".gitignore", ".npmrc", "README.md", "src/main.ts", "src/worker.js", "kit/src/index.ts"] {
            assert!(!file(path).is_empty(), "{path}");
        }
        assert!(project.values().all(|text| !text.contains(PLACEHOLDER)));
        assert_eq!(json(file("package.json"))["name"], "notes");
    }

    /// The kit of a project is the kit without its tests, for which npm would install what they need.
    #[test]
    fn what_is_locked_is_what_is_asked_for() {
        let package = json(include_str!("../template/package.json"));
        let kit = json(include_str!("../template/kit/package.json"));
        let mut original = json(include_str!("../../static-apps/kit/package.json"));
        for tests in ["scripts", "devDependencies"] {
            original.as_object_mut().unwrap().remove(tests).unwrap();
        }
        assert_eq!(kit, original, "template/kit/package.json is not that of the kit");

        let locked = &json(include_str!("../template/package-lock.json"))["packages"];
        for dependencies in ["dependencies", "devDependencies"] {
            assert_eq!(locked[""][dependencies], package[dependencies]);
            assert_eq!(locked["kit"][dependencies], kit[dependencies]);
        }
        for (name, version) in kit["dependencies"].as_object().unwrap() {
            let ours = &package["dependencies"][name];
            assert!(ours.is_null() || ours == version, "{name} is {ours} in the template, {version} in the kit");
        }
    }

    #[test]
    fn the_name_is_that_of_the_folder_and_must_be_one_of_an_app() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for name in ["Notes", "a--b", "-a", "sync", "folder", "a b", "a.b", ".."] {
            assert_eq!(begin(&at(name)), Outcome::Usage, "{name}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(begin(&at("apps/shop/.")), Outcome::Done);
        assert!(fs::read_to_string(at("apps/shop/index.html")).unwrap().contains("<title>shop</title>"));
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let notes = folder.path().join("notes");
        fs::write(&notes, "a file").unwrap();
        assert_eq!(begin(&notes), Outcome::Failed);
        assert_eq!(fs::read_to_string(&notes).unwrap(), "a file");

        fs::remove_file(&notes).unwrap();
        fs::create_dir(&notes).unwrap();
        assert_eq!(begin(&notes), Outcome::Done, "an empty folder is as good as none");
        fs::write(notes.join("index.html"), "mine").unwrap();
        assert_eq!(begin(&notes), Outcome::Failed);
        assert_eq!(fs::read_to_string(notes.join("index.html")).unwrap(), "mine");
    }

    #[test]
    fn the_steps_are_those_of_the_config() {
        let environment = Environment { home: Some("/home/a b".into()), ..Environment::default() };
        let steps = |text| {
            let (config, _) = config::read(text, Path::new("/"), &environment).unwrap();
            steps(Path::new("apps/notes"), "notes", Some(&config))
        };
        let has =
            |steps: String, lines: &[&str]| lines.iter().for_each(|line| assert!(steps.contains(line), "{steps}"));
        has(steps(""), &["cd apps/notes\n", "  npm run dev", " https://notes.localhost:8443/"]);
        has(steps(""), &["cp -r dist/. '/home/a b/.local/share/kube/apps/notes' "]);
        has(steps("[hosting]\nhttp = [\"127.0.0.1:80\"]"), &["  KUBE=http://localhost npm run dev"]);
        has(steps("domain = \"kube.test\""), &["KUBE=https://kube.test npm", " https://notes.kube.test/"]);
        has(steps("domain = \"kube.test\""), &["cp -r dist/. /var/lib/kube/apps/notes "]);
    }
}
