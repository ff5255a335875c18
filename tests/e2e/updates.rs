//! Programs that update names with a key, as people run them elsewhere: nsupdate and knsupdate, ddclient, and certbot and lego
//! with Pebble as the authority.
use std::{fs, process::Command};

use serde_json::Value;

use crate::{
    authority::{Authority, Rules},
    journal::From,
    kube::{Home, Kube, LISTEN, Ran},
};

/// What both sides have.
const SECRET: &str = "cGFzc3dvcmQgb2YgdGhvc2Ugd2hvIHVwZGF0ZSBuYW1lcw==";

/// One key for a name and what is below it, one for what proves names to authorities.
const OPTIONS: &str = r#"
[dns]
listen = ["127.0.0.1:0"]
rate_limit = 0
dnssec = true
records = [{ name = "office", type = "A", value = "192.0.2.50" }]

[dns.keys.laptop]
secret_file = "secret"

[dns.keys.certificates]
algorithm = "hmac-sha512"
secret_file = "secret"

[[dns.updates]]
key = "laptop"
names = ["home", "*.home", "office"]

[[dns.updates]]
key = "certificates"
names = ["_acme-challenge", "_acme-challenge.*"]
types = ["TXT"]
"#;

fn home() -> Home {
    let home =
        Home::of(&format!("domain = \"kube.test\"\naddresses = [\"127.0.0.1\"]\ndata = \"data\"\n{LISTEN}\n{OPTIONS}"));
    fs::write(home.path("secret"), SECRET).unwrap();
    home
}

/// What the name server says of a name and type, a line a record.
fn records(kube: &Kube<'_>, name: &str, rtype: &str) -> Vec<String> {
    let port = kube.address("dns", "dns").port().to_string();
    let mut command = Command::new("dig");
    // Nothing of this machine's own settings.
    command.env("HOME", "/nonexistent").args([
        "@127.0.0.1",
        "-p",
        &port,
        "+norecurse",
        "+short",
        "+time=20",
        name,
        rtype,
    ]);
    Ran::from(&mut command).ok().lines().map(ToOwned::to_owned).collect()
}

/// Runs what sends updates, with a key and the lines that it takes.
fn send(kube: &Kube<'_>, program: &[&str], key: &str, lines: &str) -> Ran {
    let (script, port) = (kube.home.path("script"), kube.address("dns", "dns").port());
    fs::write(&script, format!("server 127.0.0.1 {port}\nzone kube.test.\n{lines}\nsend\n")).unwrap();
    let mut command = Command::new(program[0]);
    command.env("HOME", "/nonexistent").args(&program[1..]).args(["-y", key]).arg(script);
    Ran::from(&mut command)
}

fn laptop() -> String {
    format!("hmac-sha256:laptop:{SECRET}")
}

/// What a counter of updates says.
fn counted(kube: &Kube<'_>, result: &str) -> u32 {
    let page = kube.metrics("/metrics").text();
    let name = format!("kube_dns_updates_total{{result=\"{result}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
}

#[test]
fn nsupdate_and_knsupdate_change_the_names_of_their_key_only() {
    let home = home();
    let kube = home.start();
    let none: Vec<String> = Vec::new();
    for program in [&["nsupdate"][..], &["nsupdate", "-v"], &["knsupdate"], &["knsupdate", "-v"]] {
        let done = |lines: &str| drop(send(&kube, program, &laptop(), lines).ok());
        let fails = |key: &str, lines: &str, reason: &str| {
            let ran = send(&kube, program, key, lines);
            let said = format!("{}{}", ran.stdout, ran.stderr);
            assert!(ran.code != Some(0) && said.contains(reason), "{program:?} {lines}: {reason}: {ran:#?}");
        };
        done("update add home.kube.test. 60 A 192.0.2.7\nupdate add home.kube.test. 60 AAAA 2001:db8::7");
        assert_eq!(records(&kube, "home.kube.test", "A"), ["192.0.2.7"], "{program:?}");
        assert_eq!(records(&kube, "home.kube.test", "AAAA"), ["2001:db8::7"], "{program:?}");
        assert_eq!(records(&kube, "home.kube.test", "RRSIG").len(), 2, "{program:?}");

        // Only if things are as they are said to be.
        let add = "update add new.home.kube.test. 60 TXT \"some words\"";
        for (wanted, reason) in [
            ("prereq nxdomain home.kube.test.", "YXDOMAIN"),
            ("prereq yxdomain none.home.kube.test.", "NXDOMAIN"),
            ("prereq nxrrset home.kube.test. A", "YXRRSET"),
            ("prereq yxrrset home.kube.test. TXT", "NXRRSET"),
            ("prereq yxrrset home.kube.test. IN A 192.0.2.8", "NXRRSET"),
        ] {
            fails(&laptop(), &format!("{wanted}\n{add}"), reason);
        }
        assert_eq!(records(&kube, "new.home.kube.test", "TXT"), none);
        done(&format!("prereq yxrrset home.kube.test. IN A 192.0.2.7\nprereq nxdomain new.home.kube.test.\n{add}"));
        assert_eq!(records(&kube, "new.home.kube.test", "TXT"), ["\"some words\""], "{program:?}");

        for (key, line, reason) in [
            (laptop(), "update add sync.kube.test. 60 A 192.0.2.66", "REFUSED"),
            (laptop(), "update delete sync.kube.test.", "REFUSED"),
            (laptop(), "update add home.kube.test. 60 MX 10 home.kube.test.", "REFUSED"),
            (laptop(), "update add kube.test. 60 NS home.kube.test.", "REFUSED"),
            (format!("hmac-sha512:certificates:{SECRET}"), "update add home.kube.test. 60 TXT x", "REFUSED"),
            ("hmac-sha256:laptop:d3Jvbmc=".to_owned(), "update delete home.kube.test.", "BADSIG"),
            (format!("hmac-sha256:stranger:{SECRET}"), "update delete home.kube.test.", "BADKEY"),
        ] {
            // Knot has other words for it.
            let reason = if program[0] == "nsupdate" || reason == "REFUSED" { reason } else { "" };
            fails(&key, line, reason);
        }

        done("update add home.kube.test. 60 A 192.0.2.8\nupdate delete home.kube.test. A 192.0.2.7");
        assert_eq!(records(&kube, "home.kube.test", "A"), ["192.0.2.8"], "{program:?}");
        done("update delete new.home.kube.test. TXT\nupdate delete home.kube.test.");
        // The domain's wildcard has it again.
        assert_eq!(records(&kube, "home.kube.test", "A"), ["127.0.0.1"], "{program:?}");
        assert_eq!(records(&kube, "home.kube.test", "AAAA"), none, "{program:?}");
    }
    kube.journal.wait(From::Stderr, "home.kube.test. A, home.kube.test. AAAA");
    kube.journal.wait(From::Stderr, "this key may not change A records of sync.kube.test.");
    assert_eq!(["changed", "prerequisite", "refused"].map(|result| counted(&kube, result)), [16, 20, 20]);
    let mut unsigned = Command::new("nsupdate");
    let ran = Ran::from(unsigned.env("HOME", "/nonexistent").arg(home.path("script")));
    assert!(ran.stderr.contains("REFUSED"), "{ran:#?}");
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn what_an_update_left_outlives_a_crash_is_shown_and_can_be_taken_back() {
    let home = home();
    let kube = home.start();
    let lines = "update add home.kube.test. 60 A 192.0.2.7\nupdate delete office.kube.test. A";
    send(&kube, &["nsupdate"], &laptop(), lines).ok();
    kube.kill();
    let kube = home.start();
    assert_eq!(records(&kube, "home.kube.test", "A"), ["192.0.2.7"]);
    // As if the name were not there: the domain's wildcard has it.
    assert_eq!(records(&kube, "office.kube.test", "A"), ["127.0.0.1"]);

    let shown = |args: &[&str]| home.run(&[&["dns"], args].concat()).ok();
    let json: Value = serde_json::from_str(&shown(&["updates", "--json"])).unwrap();
    let left: Vec<_> =
        json.as_array().unwrap().iter().map(|left| (&left["name"], &left["records"], &left["key"])).collect();
    assert_eq!(
        format!("{left:?}"),
        r#"[(String("home.kube.test."), Number(1), String("laptop")), (String("office.kube.test."), Number(0), String("laptop"))]"#
    );
    let table = shown(&["updates"]);
    assert!(table.contains("office.kube.test.  A     none     laptop"), "{table}");
    let lines = shown(&["records"]);
    assert!(lines.lines().any(|line| line.contains("192.0.2.7 ; updated by laptop, ")), "{lines}");

    // The whole name, or what is below the domain.
    assert!(shown(&["forget", "office"]).contains("office.kube.test.: what updates left is forgotten (A)"));
    assert_eq!(records(&kube, "office.kube.test", "A"), ["192.0.2.50"]);
    shown(&["forget", "home.kube.test", "A"]);
    assert_eq!(records(&kube, "home.kube.test", "A"), ["127.0.0.1"]);
    home.run(&["dns", "forget", "home"]).complains(1, &["no update left anything of \"home.kube.test.\""]);
    home.run(&["dns", "forget", "home", "NONE"]).complains(1, &["is not a type of records"]);
    assert!(shown(&["updates"]).contains("updates left nothing"));
    kube.kill();
    let kube = home.start();
    assert_eq!(records(&kube, "home.kube.test", "A"), ["127.0.0.1"]);
    kube.stop();
}

#[test]
fn ddclient_keeps_the_address_of_a_name() {
    let home = home();
    let kube = home.start();
    let port = kube.address("dns", "dns").port();
    let key = home.path("laptop.conf");
    fs::write(&key, format!("key \"laptop\" {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n")).unwrap();
    let (config, cache) = (home.path("ddclient.conf"), home.path("ddclient.cache"));
    for address in ["192.0.2.7", "192.0.2.8"] {
        let wanted = format!(
            "use=cmd, cmd='echo {address}'\nprotocol=nsupdate, server=127.0.0.1:{port}, login=/usr/bin/nsupdate, password={}\n\
             zone=kube.test, ttl=60\nhome.kube.test\n",
            key.display()
        );
        fs::write(&config, wanted).unwrap();
        let mut command = Command::new("ddclient");
        command.env("HOME", home.path("")).args(["-daemon=0", "-noquiet", "-force", "-file"]).arg(&config);
        let said = Ran::from(command.arg("-cache").arg(&cache));
        assert_eq!(records(&kube, "home.kube.test", "A"), [address], "{said:#?}");
    }
    kube.stop();
}

/// Looks whether a certificate is one for these names.
fn is_for(certificate: &std::path::Path, names: &[&str]) {
    let mut command = Command::new("openssl");
    let said = Ran::from(command.args(["x509", "-noout", "-ext", "subjectAltName", "-in"]).arg(certificate)).ok();
    assert!(names.iter().all(|name| said.contains(&format!("DNS:{name}"))), "{said}");
}

#[test]
fn lego_gets_a_certificate() {
    let home = home();
    let kube = home.start();
    let dns = kube.address("dns", "dns").to_string();
    let authority = Authority::start(&home, &Rules { dns: &dns, ..Rules::default() });
    let mut command = Command::new("lego");
    command.env("HOME", home.path("")).env("LEGO_CA_CERTIFICATES", home.path("pebble.pem"));
    command.env("RFC2136_NAMESERVER", &dns).env("RFC2136_TSIG_ALGORITHM", "hmac-sha512.");
    command.env("RFC2136_TSIG_KEY", "certificates").env("RFC2136_TSIG_SECRET", SECRET);
    command.env("RFC2136_POLLING_INTERVAL", "1").env("RFC2136_SEQUENCE_INTERVAL", "1");
    command
        .args(["--server", &authority.url(), "--accept-tos", "--email", "ops@kube.test", "--path"])
        .arg(home.path("lego"));
    command.args(["--dns", "rfc2136", "--dns.resolvers", &dns, "--dns.disable-cp"]);
    command.args(["--domains", "kube.test", "--domains", "*.kube.test", "--domains", "shop.home.kube.test", "run"]);
    Ran::from(&mut command).ok();
    is_for(&home.path("lego/certificates/kube.test.crt"), &["kube.test", "*.kube.test", "shop.home.kube.test"]);
    // It has cleaned up.
    assert!(home.run(&["dns", "updates"]).ok().contains("updates left nothing"));
    assert!(counted(&kube, "changed") >= 6);
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn certbot_gets_a_certificate() {
    let home = home();
    let kube = home.start();
    let dns = kube.address("dns", "dns");
    let authority = Authority::start(&home, &Rules { dns: &dns.to_string(), ..Rules::default() });
    let credentials = home.path("certbot.ini");
    let options = format!(
        "dns_rfc2136_server = {}\ndns_rfc2136_port = {}\ndns_rfc2136_name = certificates\ndns_rfc2136_secret = {SECRET}\n\
         dns_rfc2136_algorithm = HMAC-SHA512\n",
        dns.ip(),
        dns.port()
    );
    fs::write(&credentials, options).unwrap();
    Ran::from(Command::new("chmod").arg("600").arg(&credentials)).ok();
    let mut command = Command::new("certbot");
    command.env("HOME", home.path("")).env("REQUESTS_CA_BUNDLE", home.path("pebble.pem"));
    command.args(["certonly", "--non-interactive", "--agree-tos", "--email", "ops@kube.test", "--no-eff-email"]);
    command.args(["--server", &authority.url(), "--dns-rfc2136", "--dns-rfc2136-propagation-seconds", "0"]);
    command.arg("--dns-rfc2136-credentials").arg(&credentials);
    for (option, folder) in
        [("--config-dir", "certbot"), ("--work-dir", "certbot-work"), ("--logs-dir", "certbot-logs")]
    {
        command.arg(option).arg(home.path(folder));
    }
    command.args(["-d", "kube.test", "-d", "*.kube.test"]);
    Ran::from(&mut command).ok();
    is_for(&home.path("certbot/live/kube.test/cert.pem"), &["kube.test", "*.kube.test"]);
    assert!(home.run(&["dns", "updates"]).ok().contains("updates left nothing"));
    kube.is_unharmed();
    kube.stop();
}
