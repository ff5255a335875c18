//! The battery every module passes.
use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use prometheus::Registry;
use tokio::time::timeout;

use crate::{Appliance, Health, Limits, Module};

const PATIENCE: Duration = Duration::from_secs(10);

/// Binds the module and holds it to the contract.
///
/// It becomes ready in time, an equal reload changes nothing, it stops in time, it serves a second `run` on the same
/// sockets, and its metrics carry its name. Ports for what the module needs from others are captured by `bind`.
///
/// # Panics
/// When the module breaks the contract; the message names the rule.
pub async fn battery<M: Module>(config: M::Config, bind: impl AsyncFn(&M::Config, &Registry) -> Result<M, M::Error>)
where
    M::Config: Clone,
{
    let registry = Registry::new();
    let module = match bind(&config, &registry).await {
        Ok(module) => Arc::new(module),
        Err(error) => panic!("{}: does not bind: {error}", M::NAME),
    };
    for run in ["first", "second"] {
        let mut appliance = Appliance::new(config.clone(), Limits { drain: PATIENCE, ..Limits::default() });
        appliance.add(Arc::clone(&module), |config| config);
        let mut running = appliance.start();
        match timeout(PATIENCE, running.serving()).await {
            Err(_) => panic!("{}: {run} run: not ready in {PATIENCE:?}: {:?}", M::NAME, running.board().now()),
            Ok(Err(fell)) => panic!("{run} run: {fell}"),
            Ok(Ok(())) => {}
        }
        let changed = running.reload(config.clone()).map_err(|refused| refused.to_string());
        assert_eq!(changed, Ok(vec![]), "{}: an equal config must change nothing", M::NAME);
        assert!(running.board().now()[0].health.is_serving(), "{}: fell after it was ready", M::NAME);
        let board = running.board().clone();
        assert!(running.stop().await, "{}: {run} run: did not stop in {PATIENCE:?}", M::NAME);
        assert_eq!(board.now()[0].health, Health::Stopped);
    }
    let prefix = format!("kube_{}_", M::NAME);
    for family in registry.gather() {
        assert!(family.name().starts_with(&prefix), "{} is not named {prefix}*", family.name());
        assert!(!family.help().is_empty(), "{} has no help", family.name());
    }
}

/// Checks that a taken port is an error of `bind` whose message names the address.
///
/// # Panics
/// When `bind` succeeds, or its message does not name the address.
pub async fn refuses_a_taken_port<M: Module>(
    config: impl FnOnce(SocketAddr) -> M::Config,
    bind: impl AsyncFnOnce(&M::Config, &Registry) -> Result<M, M::Error>,
) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let addr = taken.local_addr().expect("a bound socket has an address");
    match bind(&config(addr), &Registry::new()).await {
        Ok(_) => panic!("{}: bound {addr}, which is taken", M::NAME),
        Err(error) => {
            assert!(error.to_string().contains(&addr.to_string()), "{}: {error:?} does not name {addr}", M::NAME);
        }
    }
}
