//! `kube trust install`: programs and browsers of a machine trust a KUBE, and no longer do.
use std::{fs, path::Path, process::Command};

use crate::kube::{BINARY, Home, LISTEN, Ran};

/// What follows is done where the stores of this machine are empty ones, which nobody else sees.
const EMPTY: &str = "mount -t tmpfs tmpfs /usr/local/share/ca-certificates && mount -t tmpfs tmpfs /etc/ssl/certs";

fn alone(home: &Home, script: &str) -> Ran {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "sh", "-euc", &format!("{EMPTY}\n{script}")]).env("HOME", home.path(""));
    Ran::from(&mut command)
}

fn certutil(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("certutil");
    command.arg("-d").arg(format!("sql:{}", folder.display()));
    Ran::from(command.args(arguments)).ok()
}

fn home() -> Home {
    Home::of(&format!("domain = \"kube.test\"\ndata = \"data\"\n[dns]\nlisten = []\n{LISTEN}"))
}

#[test]
fn programs_and_browsers_trust_the_local_authority_until_it_is_taken_away() {
    let home = home();
    home.app("shop", &[("index.html", "the shop")]);
    let kube = home.start();
    // As Firefox makes it.
    let profile = home.path(".mozilla/firefox/abc.default");
    fs::create_dir_all(&profile).unwrap();
    certutil(&profile, &["-N", "--empty-password"]);
    let shared = home.path(".pki/nssdb");

    // An older authority of the same domain, whose name is the same, is no longer trusted afterwards.
    let older = home.path("older.pem");
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=KUBE local CA (kube.test)/O=KUBE", "-keyout", "/dev/null", "-out"]);
    Ran::from(openssl.arg(&older)).ok();
    certutil(&profile, &["-A", "-t", "C,,", "-n", "kube-kube.test", "-i", &older.display().to_string()]);

    let trust = format!("{BINARY} --config {} trust", home.config().display());
    let url = format!("https://shop.kube.test:{}/", kube.https());
    let curl = format!("curl --silent --show-error --noproxy '*' --connect-to ::127.0.0.1: {url}");
    let done = alone(
        &home,
        &format!(
            "{trust} install; {curl}; {trust} install >/dev/null; {curl}
             openssl x509 -noout -subject -in /etc/ssl/certs/kube-kube.test.pem
             {trust} uninstall; {trust} uninstall; ls /etc/ssl/certs /usr/local/share/ca-certificates
             {curl} || echo \"curl ended with $?\""
        ),
    );
    let text = done.ok();
    assert_eq!(text.matches("the shop").count(), 2, "{text}");
    assert!(text.contains("KUBE local CA (kube.test)"), "{text}");
    assert_eq!(text.matches("it is not there any more").count(), 3, "{text}");
    assert_eq!(text.matches("it is not there\n").count(), 3, "{text}");
    let after = text.rsplit("it is not there\n").next().unwrap();
    // 60: the peer's certificate is not known.
    assert!(after.contains("curl ended with 60") && !after.contains("kube-kube.test"), "{after}");
    for folder in [&shared, &profile] {
        assert!(!certutil(folder, &["-L"]).contains("kube"), "{}", folder.display());
    }

    // Installed alone, to be looked at: one certificate, trusted for servers, and it is the one of today.
    alone(&home, &format!("{trust} install")).ok();
    let today = fs::read_to_string(home.ca()).unwrap();
    for folder in [&shared, &profile] {
        let listed = certutil(folder, &["-L"]);
        let lines: Vec<_> = listed.lines().filter(|line| line.contains("kube")).collect();
        assert!(lines.len() == 1 && lines[0].trim_end().ends_with("C,,"), "{listed}");
        let kept = certutil(folder, &["-L", "-a", "-n", "kube-kube.test"]);
        assert_eq!(kept.split_whitespace().collect::<String>(), today.split_whitespace().collect::<String>());
    }
    kube.stop();
}

#[test]
fn what_stands_in_the_way_of_trust_is_told() {
    let home = home();
    home.run(&["trust", "install"]).complains(1, &["no local certificate authority", "when KUBE first runs"]);
    home.run(&["trust"]).complains(1, &["no local certificate authority"]);
    home.start().stop();
    assert!(home.run(&["trust"]).ok().contains("kube trust install"));
    // A database that is none: what certutil says of it is told, the other stores are changed, and the exit code says that not all is well.
    let profile = home.path(".mozilla/firefox/abc.default");
    fs::create_dir_all(&profile).unwrap();
    fs::write(profile.join("cert9.db"), "no database").unwrap();
    let trust = format!("{BINARY} --config {} trust", home.config().display());
    let said = alone(&home, &format!("{trust} install"));
    assert!(said.stdout.contains("curl, git and most programs trust it") && said.stdout.contains("certutil failed"));
    said.complains(1, &["not every store"]);
    // Without certutil the package is named.
    fs::remove_dir_all(home.path(".pki")).unwrap();
    let said = alone(&home, &format!("PATH=/nonexistent {trust} install"));
    assert!(said.stdout.contains("sudo apt install libnss3-tools"), "{said:#?}");
}
