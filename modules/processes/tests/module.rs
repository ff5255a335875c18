//! The module as a whole. Alone in its program, because it waits for every child of that.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::{net::SocketAddr, path::Path, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use kube_contract::testing;
use kube_processes::{Config, Error, Front, Lead, Logs, Name, Processes, Protocol, Route};
use prometheus::Registry;

/// Leads nowhere.
#[derive(Debug)]
struct Nowhere;

impl Front for Nowhere {
    fn set(&self, _: Vec<(Name, Route, Protocol)>) {}

    fn lead(&self, _: &Name, _: Lead) {}

    fn drained(&self, _: &Name, _: SocketAddr) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }
}

fn config(folder: &Path, tables: &str) -> Config {
    let tables: Config = toml::from_str(tables).unwrap();
    Config { folders: folder.join("processes"), logs: folder.join("logs"), ..tables }
}

async fn bind(config: &Config, registry: &Registry) -> Result<Processes, Error> {
    let logs = Logs::open(&config.logs).unwrap();
    Processes::bind(config, logs, Arc::new(Nowhere), registry)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    // One that does not run by itself: its figures are there all the same.
    let config = config(folder.path(), "[idle]\ncommand = [\"/bin/true\"]\ncron = \"0 0 29 2 *\"\n");
    testing::battery(config, bind).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_cannot_be_had_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        |address| config(folder.path(), &format!("[server]\ncommand = [\"/bin/true\"]\nlisten = [\"{address}\"]\n"));
    testing::refuses_a_taken_port(config, bind).await;
}
