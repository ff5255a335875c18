//! The module as the appliance sees it.
use std::path::Path;

use kube_contract::testing::battery;
use prometheus::Registry;

use super::*;

/// Knows no token.
struct Nobody;

impl Gatekeeper for Nobody {
    fn admit(&self, _token: &TokenHash) -> Result<Grant, Denied> {
        Err(Denied::Unknown)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

fn config(folder: &Path) -> Config {
    Config { data: folder.join("echo"), ..Config::default() }
}

#[tokio::test]
async fn the_module_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    battery(config(folder.path()), async |config, registry| Echo::bind(config, Arc::new(Nobody), registry)).await;
}

#[test]
fn a_second_peer_with_the_same_folder_is_refused_and_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let _first = Echo::bind(&config, Arc::new(Nobody), &Registry::new()).unwrap();
    let error = Echo::bind(&config, Arc::new(Nobody), &Registry::new()).map(drop).unwrap_err().to_string();
    assert!(error.contains("documents.db") && error.contains("another KUBE is running"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("echo"), "a file").unwrap();
    let error =
        Echo::bind(&config(folder.path()), Arc::new(Nobody), &Registry::new()).map(drop).unwrap_err().to_string();
    assert!(error.contains(&folder.path().join("echo").display().to_string()), "{error}");
}

#[test]
fn limits_that_nothing_could_work_with_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (option, config) in [
        ("max_message", Config { max_message: bytesize::ByteSize::b(1), ..config(folder.path()) }),
        ("keep_alive", Config { keep_alive: std::time::Duration::ZERO, ..config(folder.path()) }),
        ("connections", Config { connections: 0, ..config(folder.path()) }),
        (
            "space_rate",
            Config { space_rate: Rate { messages: 0, ..config(folder.path()).space_rate }, ..config(folder.path()) },
        ),
    ] {
        let error = Echo::bind(&config, Arc::new(Nobody), &Registry::new()).map(drop).unwrap_err().to_string();
        assert!(error.contains(option), "{error}");
    }
}

#[test]
fn a_reload_takes_what_can_change_and_names_what_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let echo = Echo::bind(&config, Arc::new(Nobody), &Registry::new()).unwrap();
    assert!(echo.prepare(&Config { access: Access::Token, ..config.clone() }).is_ok());
    let error = echo.prepare(&Config { cache: bytesize::ByteSize::mib(1), ..config }).map(drop).unwrap_err();
    assert!(error.to_string().contains("cache changes only with a restart"), "{error}");
}
