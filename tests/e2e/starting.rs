//! Starting: what is said, and what stops a start.
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use crate::{
    journal::From,
    kube::{BINARY, Home, LISTEN, Ran},
};

#[test]
fn everything_serves_when_systemd_is_told_ready() {
    let home = Home::new();
    let kube = home.start();
    assert_eq!(kube.get("localhost", "/").status, 200);
    assert_eq!(kube.metrics("/readyz").status, 200);
    kube.is_unharmed();
    kube.journal.wait(From::Systemd, "STATUS=");
    kube.journal.wait(From::Stdout, &format!("https://localhost:{}/", kube.https()));
    kube.stop();
}

#[test]
fn the_watchdog_hears_from_us_in_time() {
    let home = Home::new();
    let kube = home.start();
    let beats = kube.journal.wait_many(From::Systemd, "WATCHDOG=1", 3);
    for pair in beats.windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!(gap < crate::kube::WATCHDOG, "{gap:?} between two beats");
    }
    kube.stop();
}

#[test]
fn a_broken_config_is_refused_with_every_problem_and_its_line() {
    let home = Home::of(
        "domain = \"not a domain\"\n\
         colour = \"red\"\n\
         [hosting]\n\
         http = [\"nowhere\"]\n\
         [echo]\n\
         access = \"perhaps\"\n\
         keep_alive = \"soon\"\n",
    );
    let file = home.config().display().to_string();
    for command in [&["run"][..], &["check"]] {
        let ran = home.run(command);
        ran.complains(78, &[1, 2, 4, 6, 7].map(|line| format!("{file}:{line}:")).each_ref().map(String::as_str));
        ran.complains(78, &["colour", "hosting.http", "echo.access", "echo.keep_alive"]);
        assert!(!home.path("data/tls").exists(), "nothing is made by a start that is refused");
    }
}

#[test]
fn a_config_that_is_not_toml_is_refused_with_its_line() {
    let home = Home::of("domain = \"localhost\"\n[hosting\n");
    home.run(&["run"]).complains(78, &["kube.toml:2:"]);
}

#[test]
fn a_config_that_is_not_there_is_named() {
    let home = Home::new();
    fs::remove_file(home.config()).unwrap();
    home.run(&["run"]).complains(78, &[&home.config().display().to_string()]);
}

#[test]
fn a_command_that_makes_no_sense_is_a_usage_error() {
    let home = Home::new();
    home.run(&["fly"]).complains(64, &["fly"]);
    home.run(&[]).complains(64, &[]);
}

#[test]
fn check_prints_a_config_that_means_the_same() {
    let home = Home::with("[echo]\nkeep_alive = \"7s\"\n");
    let printed = home.run(&["check", "--print"]).ok();
    assert!(printed.contains("keep_alive = \"7s\""), "{printed}");
    home.configure(&printed);
    assert_eq!(home.run(&["check", "--print"]).ok(), printed);
    assert!(home.run(&["check"]).ok().contains("is fine"));
}

#[test]
fn processes_that_wait_for_each_other_are_told() {
    let home = Home::with("[processes.worker]\ncommand = [\"/bin/true\"]\nafter = { worker = \"healthy\" }\n");
    home.run(&["check"]).complains(78, &["processes.worker.after", "worker -> worker"]);
    home.configure("[processes.worker]\ncommand = [\"/bin/true\"]\n");
    home.run(&["check"]).ok();
}

#[test]
fn the_version_is_that_of_the_package() {
    let home = Home::new();
    assert_eq!(home.run(&["version"]).ok().trim(), concat!("kube ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_taken_port_stops_the_start_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for option in ["http", "https", "listen"] {
        let config = LISTEN.replace(&format!("{option} = [\"127.0.0.1:0\"]"), &format!("{option} = [\"{address}\"]"));
        assert_ne!(config, LISTEN);
        let home = Home::of(&format!("domain = \"localhost\"\ndata = \"data\"\n{config}"));
        home.run(&["run"]).complains(1, &[&address, "in use"]);
    }
}

#[test]
fn a_certificate_that_cannot_be_read_stops_the_start_and_is_named() {
    let files = |certificate: &str, key: &str| {
        Home::with(&format!("[tls]\nissuer = \"files\"\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n"))
    };
    // Missing.
    let home = files("cert.pem", "key.pem");
    home.run(&["run"]).complains(78, &["cert.pem", "key.pem", "kube.toml:"]);
    // There, but not what it should be.
    fs::write(home.path("cert.pem"), "hello").unwrap();
    fs::write(home.path("key.pem"), "hello").unwrap();
    home.run(&["run"]).complains(1, &["cert.pem"]);
}

#[test]
fn a_key_that_may_not_be_read_stops_the_start_and_is_named() {
    let home = Home::with("[tls]\nissuer = \"files\"\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n");
    for file in ["cert.pem", "key.pem"] {
        fs::write(home.path(file), "").unwrap();
    }
    fs::set_permissions(home.path("key.pem"), fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything.
    let ran = if fs::metadata("/proc/self").unwrap().uid() == 0 { as_nobody(&home, "run") } else { home.run(&["run"]) };
    ran.complains(78, &["key.pem", "ermission denied"]);
}

/// Runs a command as a user without rights, who can reach the files but for the key.
fn as_nobody(home: &Home, command: &str) -> Ran {
    // Where the binary was built may be closed to others.
    let binary = home.path("kube");
    fs::copy(BINARY, &binary).unwrap();
    for name in ["", "kube", "cert.pem"] {
        fs::set_permissions(home.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let binary = binary.display().to_string();
    let words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", &binary];
    Ran::from(home.command(&words).arg(command))
}

#[test]
fn a_data_folder_that_cannot_be_made_stops_the_start_and_is_named() {
    let home = Home::of(&format!("domain = \"localhost\"\ndata = \"/proc/kube-e2e\"\n{LISTEN}"));
    home.run(&["run"]).complains(1, &["/proc/kube-e2e"]);
}

#[test]
fn an_apps_folder_that_cannot_be_made_stops_the_start_and_is_named() {
    let home = Home::with("[apps]\nfolder = \"/proc/kube-e2e-apps\"\n");
    home.run(&["run"]).complains(1, &["/proc/kube-e2e-apps"]);
}

#[test]
fn a_second_kube_on_the_same_data_is_refused_and_the_first_serves_on() {
    let home = Home::new();
    let kube = home.start();
    let second = home.run(&["run"]);
    second.complains(1, &["data"]);
    kube.is_unharmed();
    assert_eq!(kube.get("localhost", "/").status, 200);
    kube.stop();
}

#[test]
fn a_socket_left_by_a_killed_kube_is_replaced() {
    let home = Home::new();
    home.start().kill();
    let ran = home.run(&["status"]);
    ran.complains(1, &["admin.sock"]);
    let kube = home.start();
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn the_admin_socket_and_the_keys_are_for_its_user_alone() {
    let home = Home::new();
    let kube = home.start();
    let mut seen = 0;
    for file in fs::read_dir(home.path("data/tls/ca")).unwrap().map(Result::unwrap) {
        if fs::read(file.path()).unwrap().windows(11).any(|bytes| bytes == b"PRIVATE KEY") {
            seen += 1;
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        }
    }
    assert!(seen > 0, "there is a private key");
    let socket = home.path("run/admin.sock");
    assert_eq!(fs::metadata(socket).unwrap().permissions().mode() & 0o007, 0);
    kube.stop();
}
