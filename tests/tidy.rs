//! The rules of the house, checked.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use kube::config::{Config, Environment, domain::Domain};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folders of `modules/`, sorted.
fn modules() -> Vec<String> {
    let entries = fs::read_dir(root().join("modules")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A pure library knows no module and may be used by any.
fn is_pure_library(module: &str) -> bool {
    text(format!("modules/{module}/src/lib.rs")).starts_with("//! Pure")
}

/// Modules proper: neither the contract nor a pure library.
fn capabilities() -> Vec<String> {
    modules().into_iter().filter(|name| name != "contract" && !is_pure_library(name)).collect()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source file of the product, with its text; tests are not among them.
fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    rust_files(&root().join("modules"), &mut files);
    rust_files(&root().join("kube"), &mut files);
    let is_test =
        |path: &PathBuf| path.ends_with("tests.rs") || path.iter().any(|part| part == "tests" || part == "benches");
    files.retain(|path| !is_test(path));
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// No module depends on another: `kube/src/wire.rs` is where they meet.
#[test]
fn modules_do_not_know_each_other() {
    for module in modules() {
        let manifest: toml::Table = text(format!("modules/{module}/Cargo.toml")).parse().unwrap();
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for name in manifest.get(table).and_then(|t| t.as_table()).into_iter().flatten().map(|(name, _)| name) {
                let allowed = match name.strip_prefix("kube-") {
                    Some("contract") | None => name != "kube",
                    Some(other) => is_pure_library(other),
                };
                assert!(allowed, "kube-{module} depends on {name}");
            }
        }
    }
}

/// Only the wiring knows two modules: elsewhere in the binary a file may name one, or the config of all.
#[test]
fn modules_meet_in_one_file() {
    for (path, text) in sources() {
        if path.starts_with(root().join("modules")) {
            for module in modules() {
                let uses = format!("kube_{module}::");
                let allowed = module == "contract"
                    || is_pure_library(&module)
                    || path.starts_with(root().join("modules").join(&module));
                assert!(allowed || !text.contains(&uses), "{} names {uses}", path.display());
            }
        }
    }
}

/// One folder, one package, one table: the lists cannot drift apart.
#[test]
fn a_module_is_named_once() {
    let tables = toml::Table::try_from(Config::default()).unwrap();
    for module in modules() {
        let manifest: toml::Table = text(format!("modules/{module}/Cargo.toml")).parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some(&*format!("kube-{module}")));
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{module}");
        assert_eq!(manifest["package"]["publish"]["workspace"].as_bool(), Some(true), "{module}");
    }
    for module in capabilities() {
        assert!(tables.get(&module).is_some_and(toml::Value::is_table), "{module} has no table in kube.toml");
        assert!(text("README.md").contains(&format!("modules/{module}")), "{module} is not on the README's map");
    }
}

/// `#key = value` in the reference config is an option at its default; `# text` is prose.
#[test]
fn the_reference_config_is_the_default_config() {
    let file = text("config/kube.toml");
    let environment = Environment { home: Some("/home/you".into()), ..Environment::default() };
    let folder = Path::new("/");
    let (written, _) = kube::config::read(&file, folder, &environment).unwrap();
    let (default, _) = kube::config::read("", folder, &environment).unwrap();
    assert_eq!(written, default, "as written, everything is commented out");

    let option = |line: &str| Some(line.strip_prefix('#')?.to_owned()).filter(|option| !option.starts_with([' ', '#']));
    let uncommented: String = file.lines().map(|line| option(line).unwrap_or_else(|| line.to_owned()) + "\n").collect();
    let (documented, _) = kube::config::read(&uncommented, folder, &environment).unwrap();
    assert_eq!(documented, default, "uncommented, every option is at its default");

    let options = |table: toml::Table| {
        let mut names = BTreeSet::new();
        paths("", &table, &mut names);
        names
    };
    let expected = toml::Table::try_from(Config::for_domain(Domain::default(), &environment)).unwrap();
    let documented = options(uncommented.parse().unwrap());
    for optional in OPTIONAL {
        assert!(file.contains(&format!("\n# {optional} = ")), "{optional} is not explained");
    }
    assert_eq!(documented, options(expected), "the file names every option, and nothing else");
}

/// Options without a default, explained in the reference config as `# option = example`.
const OPTIONAL: [&str; 7] =
    ["email", "directory", "directory_ca", "preferred_chain", "external_account", "certificate", "key"];

fn paths(path: &str, table: &toml::Table, names: &mut BTreeSet<String>) {
    for (key, value) in table {
        match value.as_table() {
            Some(inner) => paths(&format!("{path}{key}."), inner, names),
            None => assert!(names.insert(format!("{path}{key}"))),
        }
    }
}

/// A file that says `//! Pure` asks the machine for nothing.
#[test]
fn pure_files_are_pure() {
    const ASKS: [&str; 9] = [
        "tokio",
        "Instant::now",
        "SystemTime::now",
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "rand::",
        "std::env",
        "std::thread",
    ];
    let mut pure = 0;
    for (path, text) in sources() {
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        if product.starts_with("//! Pure") {
            pure += 1;
            for asks in ASKS {
                assert!(!product.contains(asks), "{} uses {asks}", path.display());
            }
        }
    }
    assert!(pure > 5, "the rule looks at {pure} files: is it looking in the right place?");
}

/// A newcomer reads the same five answers in every crate.
#[test]
fn crate_docs_have_five_headings() {
    for library in modules().iter().map(|module| format!("modules/{module}")).chain(["kube".to_owned()]) {
        let docs = text(format!("{library}/src/lib.rs"));
        let headings: Vec<_> = docs.lines().filter_map(|line| line.strip_prefix("//! # ")).collect();
        assert_eq!(
            headings,
            [
                "What it does",
                "What it promises",
                "How it works",
                "What a person can set",
                "What it deliberately does not do"
            ],
            "{library}"
        );
    }
}

/// A file one would not read aloud is not finished.
#[test]
fn files_are_short_and_finished() {
    for (path, text) in sources() {
        let shown = path.display();
        let lines = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().lines().count();
        assert!(lines <= 600, "{shown} has {lines} lines: split it");
        assert!(!path.ends_with("mod.rs"), "{shown}: foo.rs beside foo/, no mod.rs");
        for mark in ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("] {
            assert!(!text.contains(mark), "{shown} says {mark}");
        }
    }
}

/// One word means one thing: no file or crate is a bag.
#[test]
fn nothing_is_called_common() {
    for (path, _) in sources() {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        assert!(
            !["common", "types", "util", "utils", "helper", "helpers", "manager", "misc"].contains(&stem),
            "{}",
            path.display()
        );
    }
}
