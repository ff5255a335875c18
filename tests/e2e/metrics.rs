//! The metrics page, as Prometheus reads it.
use std::{
    io::Write,
    process::{Command, Stdio},
};

use crate::kube::Home;

#[test]
fn promtool_finds_nothing_to_say() {
    let home = Home::new();
    let kube = home.start();
    // Some of everything, so that every family has samples.
    kube.get("localhost", "/");
    kube.get("localhost", "/no/such/page");
    let page = kube.metrics("/metrics");
    assert_eq!(page.status, 200);
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(&page.body).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
    let text = page.text();
    for name in
        ["kube_build_info", "process_resident_memory_bytes", "kube_hosting_", "kube_echo_", "kube_apps_", "kube_tls_"]
    {
        assert!(text.contains(name), "no {name}");
    }
    kube.stop();
}

#[test]
fn names_that_strangers_choose_make_no_series() {
    let home = Home::new();
    let kube = home.start();
    let series = || kube.metrics("/metrics").text().lines().filter(|line| !line.starts_with('#')).count();
    kube.get("localhost", "/");
    kube.curl(&["-H", "Host: first.example"], "localhost", "/first");
    kube.curl(&["-X", "FIRST"], "localhost", "/");
    let before = series();
    for stranger in 0..20 {
        kube.curl(&["-H", &format!("Host: stranger{stranger}.example")], "localhost", &format!("/{stranger}"));
        kube.curl(&["-X", &format!("METHOD{stranger}")], "localhost", "/");
    }
    assert_eq!(series(), before);
    kube.stop();
}

#[test]
fn unknown_pages_and_methods_are_refused() {
    let home = Home::new();
    let kube = home.start();
    assert_eq!(kube.metrics("/healthz").status, 200);
    assert_eq!(kube.metrics("/nothing").status, 404);
    let url = format!("http://{}/metrics", kube.address("metrics", "http"));
    assert_eq!(kube.fetch(&["--data", "x"], &url).unwrap().status, 405);
    kube.stop();
}
