use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::{Command, Stdio},
};

use kube_contract::{Appliance, Limits, Running, testing};

use super::*;

const BUILD: BuildInfo = BuildInfo { version: "1.2.3", revision: None };

fn any() -> Config {
    Config { listen: vec![(Ipv4Addr::LOCALHOST, 0).into()] }
}

async fn bind(config: &Config, registry: &Registry) -> Result<Metrics, Error> {
    Metrics::bind(config, registry.clone(), Board::default(), BUILD)
}

async fn serve(registry: Registry) -> (Running<Config>, SocketAddr, Arc<Metrics>) {
    let mut appliance = Appliance::new(any(), Limits::default());
    let metrics = Arc::new(Metrics::bind(&any(), registry, appliance.board(), BUILD).unwrap());
    appliance.add(Arc::clone(&metrics), |config| config);
    let running = appliance.start();
    running.serving().await.unwrap();
    (running, metrics.addresses()[0], metrics)
}

/// Sends raw bytes and reads the whole answer.
async fn ask(address: SocketAddr, request: Vec<u8>) -> String {
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        // It may hang up before all of it is written.
        stream.write_all(&request).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::task::spawn_blocking(exchange).await.unwrap()
}

async fn get(address: SocketAddr, path: &str) -> String {
    ask(address, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").into_bytes()).await
}

#[tokio::test]
async fn passes_the_battery() {
    testing::battery(any(), bind).await;
    testing::refuses_a_taken_port(|address| Config { listen: vec![address] }, bind).await;
}

#[tokio::test]
async fn the_page_has_build_modules_and_process() {
    let (running, address, _) = serve(Registry::new()).await;
    let page = get(address, "/metrics").await;
    for line in [
        "content-type: text/plain; version=0.0.4",
        "kube_build_info{revision=\"unknown\",version=\"1.2.3\"} 1",
        "kube_module_health{module=\"metrics\",state=\"ready\"} 1",
        "kube_module_health{module=\"metrics\",state=\"failed\"} 0",
        "kube_module_restarts_total{module=\"metrics\"} 0",
        "kube_metrics_scrapes_total 1",
        "process_resident_memory_bytes ",
        "kube_start_time_seconds ",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    assert!(running.stop().await);
}

#[tokio::test]
async fn promtool_has_nothing_to_say() {
    let (running, address, _) = serve(Registry::new()).await;
    let answer = get(address, "/metrics").await;
    let (_, page) = answer.split_once("\r\n\r\n").unwrap();
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    match promtool {
        Ok(mut promtool) => {
            promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
            let output = promtool.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{said}");
        }
        // Not every machine has it; the tests of the whole binary install it and ask again.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
    }
    assert!(running.stop().await);
}

#[tokio::test]
async fn readiness_follows_the_board_and_liveness_does_not() {
    struct Sick;
    impl Module for Sick {
        type Config = Config;
        type Error = Error;
        const NAME: &'static str = "sick";
        async fn run(&self, _: Context) -> Result<(), Error> {
            Err(Error::Socket(std::io::Error::other("broken")))
        }
        fn prepare(&self, _: &Config) -> Result<Commit<'_>, Error> {
            Ok(Commit::new(|| {}))
        }
    }
    let mut appliance = Appliance::new(any(), Limits::default());
    let metrics = Arc::new(Metrics::bind(&any(), Registry::new(), appliance.board(), BUILD).unwrap());
    let address = metrics.addresses()[0];
    appliance.add(metrics, |config| config);
    appliance.add(Arc::new(Sick), |config| config);
    let board = appliance.board();
    let running = appliance.start();
    board.until(|board| board[1].health.word() == "failed").await;
    let ready = get(address, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("sick failed: metrics listener: broken"), "{ready}");
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(running.stop().await);
}

#[tokio::test]
async fn junk_harms_nobody_and_is_counted() {
    let (running, address, metrics) = serve(Registry::new()).await;
    for junk in [b"\x16\x03\x01\x02\x00\x01".repeat(9_999), b"GET / HTTP/1.1\r\nx: ".repeat(9_999), vec![0; 99_999]] {
        let answer = ask(address, junk).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert!(get(address, "/healthz").await.ends_with("ok\n"));
    assert!(running.stop().await);
    assert_eq!((metrics.counted.broken.get(), metrics.counted.connections.get()), (3, 0));
}

#[tokio::test]
async fn more_connections_than_fit_are_turned_away_and_counted() {
    let (running, address, metrics) = serve(Registry::new()).await;
    let held = Arc::clone(&metrics.places).acquire_many_owned(CONNECTIONS.try_into().unwrap()).await.unwrap();
    assert_eq!(get(address, "/healthz").await, "");
    assert_eq!(metrics.counted.refused.get(), 1);
    drop(held);
    assert!(get(address, "/healthz").await.ends_with("ok\n"));
    assert!(running.stop().await);
}

#[tokio::test]
async fn both_families_have_a_port_of_their_own() {
    let four = bind(&Config { listen: vec!["0.0.0.0:0".parse().unwrap()] }, &Registry::new()).await.unwrap();
    let six = format!("[::]:{}", four.addresses()[0].port()).parse().unwrap();
    match bind(&Config { listen: vec![six] }, &Registry::new()).await {
        Ok(metrics) => assert_eq!(metrics.addresses(), [six]),
        // Not every machine speaks IPv6.
        Err(error) => assert!(error.to_string().contains("Address family not supported"), "{error}"),
    }
}

#[tokio::test]
async fn a_reload_moves_the_listener() {
    let (mut running, old, metrics) = serve(Registry::new()).await;
    let new = Config { listen: vec![old, (Ipv4Addr::LOCALHOST, 0).into()] };
    assert_eq!(running.reload(new).unwrap(), ["metrics"]);
    let addresses = metrics.addresses();
    assert_eq!((addresses.len(), addresses[0]), (2, old));
    for address in addresses {
        assert!(get(address, "/healthz").await.ends_with("ok\n"));
    }
    let none = running.reload(Config { listen: vec!["203.0.113.1:1".parse().unwrap()] }).unwrap_err().to_string();
    assert!(none.contains("cannot listen on 203.0.113.1:1"), "{none}");
    assert!(get(old, "/healthz").await.ends_with("ok\n"));
    assert!(running.stop().await);
}
