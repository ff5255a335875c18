//! A module that falls.
use crate::{
    journal::{From, eventually},
    kube::{Home, Kube},
};

/// Makes a module panic, and waits until the supervisor has noticed.
fn drill(kube: &Kube<'_>, module: &str) {
    let start = kube.journal.len();
    kube.home.run(&["drill", module]).ok();
    kube.journal.wait_from(start, From::Systemd, &format!("STATUS={module} failed"));
}

fn recovers(kube: &Kube<'_>, module: &str) {
    eventually(&format!("{module} is back\n{}", kube.journal), || {
        // The admin module itself may be the one that is down.
        let ran = kube.home.run(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&ran.stdout).ok()?;
        let modules = status["modules"].as_array()?.iter();
        let row = modules.filter(|row| row["name"] == module).find(|row| row["restarts"].as_u64() > Some(0))?;
        (row["health"] == "ready").then_some(())
    });
}

#[test]
fn a_module_that_panics_leaves_the_others_serving_and_comes_back() {
    let home = Home::new();
    let kube = home.start();
    let (https, metrics) = (kube.https(), kube.address("metrics", "http"));
    let welcome = || kube.fetch(&[], &format!("https://localhost:{https}/")).map(|answer| answer.status);
    let healthz = || kube.fetch(&[], &format!("http://{metrics}/healthz")).map(|answer| answer.status);
    for module in ["echo", "apps", "tls"] {
        drill(&kube, module);
        assert_eq!(welcome(), Ok(200), "while {module} is down");
        assert_eq!(healthz(), Ok(200), "while {module} is down");
        recovers(&kube, module);
    }
    for module in ["hosting", "metrics", "admin"] {
        drill(&kube, module);
        if module != "hosting" {
            assert_eq!(welcome(), Ok(200), "while {module} is down");
        }
        recovers(&kube, module);
    }
    // The same sockets serve again.
    assert_eq!((kube.https(), kube.address("metrics", "http")), (https, metrics));
    assert_eq!((welcome(), healthz()), (Ok(200), Ok(200)));
    kube.stop();
}

#[test]
fn readiness_follows_the_board_and_health_does_not() {
    let home = Home::new();
    let kube = home.start();
    assert_eq!(kube.metrics("/readyz").status, 200);
    drill(&kube, "echo");
    // Down until its next attempt; readiness says which module, and comes back.
    recovers(&kube, "echo");
    eventually("ready again", || (kube.metrics("/readyz").status == 200).then_some(()));
    kube.journal.wait(From::Systemd, "STATUS=echo failed: panicked: fire drill");
    assert_eq!(kube.metrics("/healthz").status, 200);
    assert_eq!(kube.module("echo")["restarts"], 1);
    kube.stop();
}

#[test]
fn a_drill_of_a_module_that_does_not_exist_says_so() {
    let home = Home::new();
    let kube = home.start();
    home.run(&["drill", "nothing"]).complains(1, &["nothing"]);
    kube.is_unharmed();
    kube.stop();
}
