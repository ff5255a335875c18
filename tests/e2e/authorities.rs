//! What authorities ask for, and several of them: all of them are Pebble.
use std::{fs, path::Path, process::Command};

use kube_peer::free_port;

use crate::{
    authority::{NAME, newer},
    certificates::{Site, USUAL, until_ready},
    journal::{From, eventually},
    kube::Ran,
};

/// A customer of an authority, and the key, as RFC 4648 has it for URLs.
const CUSTOMER: (&str, &str) = ("team-7", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");

#[test]
fn an_authority_that_has_customers_issues_to_those_it_knows() {
    let customer = r#"external_account = { key_id = "team-7", secret_file = "customer.key" }"#;
    let site = Site::with("auto", customer);
    fs::write(site.home.path("customer.key"), format!("{}\n", CUSTOMER.1)).unwrap();
    let authority = site.authority_for(CUSTOMER, USUAL);
    let kube = site.home.start();
    until_ready(&kube);
    site.visit(&authority, "kube.test").ok();
    kube.stop();

    // Whoever does not say who it is is told what to set.
    let stranger = Site::new("auto");
    let _authority = stranger.authority_for(CUSTOMER, USUAL);
    let kube = stranger.home.start();
    kube.journal.wait(From::Stderr, "set `external_account`");
    kube.stop();
}

#[test]
fn another_authority_issues_soon_when_the_first_does_not() {
    let dead = free_port().unwrap();
    let site = Site::with("auto", "");
    let config = fs::read_to_string(site.home.path("kube.toml")).unwrap();
    let live = config.lines().find(|line| line.starts_with("directory = ")).unwrap();
    let first = format!("directory = \"https://localhost:{dead}/dir\"");
    let config = config.replace(live, &first) + &format!("[[tls.fallback]]\n{live}\ndirectory_ca = \"pebble.pem\"\n");
    fs::write(site.home.path("kube.toml"), config).unwrap();
    let authority = site.authority(USUAL);
    let kube = site.home.start();
    kube.journal.wait(From::Stderr, "no certificate");
    until_ready(&kube);
    site.visit(&authority, "kube.test").ok();
    let listed: serde_json::Value = serde_json::from_str(&site.home.run(&["certs", "--json"]).ok()).unwrap();
    assert!(authority.url().contains(listed[0]["issuer"].as_str().unwrap()), "{listed:#}");
    kube.stop();
}

#[test]
fn the_chain_that_is_preferred_is_taken_where_the_authority_offers_it() {
    let site = Site::new("dns-01");
    let authority = site.authority(USUAL);
    let mut name = Command::new("openssl");
    name.args(["x509", "-noout", "-subject", "-nameopt", "multiline", "-in"]);
    let said = Ran::from(name.arg(authority.root_of(&site.home, 1))).ok();
    let name = said.lines().find_map(|line| line.trim().strip_prefix("commonName")).unwrap();
    let root = name.trim().trim_start_matches('=').trim();
    let path = site.home.path("kube.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{config}preferred_chain = \"{root}\"\n")).unwrap();
    let kube = site.home.start();
    until_ready(&kube);
    let trusts = |chain: usize| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--connect-to", "::127.0.0.1:", "--cacert"]);
        command.arg(authority.root_of(&site.home, chain)).arg(format!("https://kube.test:{}/", site.https));
        Ran::from(&mut command).code == Some(0)
    };
    assert_eq!((trusts(0), trusts(1)), (false, true));
    kube.stop();
}

#[test]
fn an_address_has_a_certificate_and_leads_to_the_domain() {
    // A newer authority makes certificates for addresses by a profile of their own.
    let newer = newer();
    for (challenge, pebble) in [("tls-alpn-01", newer.as_deref()), ("http-01", None)] {
        let site = Site::with(challenge, "address_certificate = true");
        let authority = site.authority_by(pebble.unwrap_or(Path::new("pebble")), USUAL);
        let kube = site.home.start();
        let ask = || {
            let mut command = Command::new("curl");
            command.args(["--silent", "--show-error", "--head", "--cacert"]).arg(authority.root(&site.home));
            Ran::from(command.arg(format!("https://127.0.0.1:{}/x?y", site.https)))
        };
        let said = eventually(&format!("a certificate by {challenge}\n{}", kube.journal), || {
            Some(ask()).filter(|said| said.code == Some(0))
        });
        let location = format!("location: https://kube.test:{}/x?y", site.https);
        assert!(said.stdout.to_ascii_lowercase().contains(&location), "{said:#?}");
        until_ready(&kube);
        let listed: serde_json::Value = serde_json::from_str(&site.home.run(&["certs", "--json"]).ok()).unwrap();
        let listed = listed.as_array().unwrap().iter().find(|one| one["names"][0] == "127.0.0.1").unwrap();
        let days = (listed["until"].as_i64().unwrap() - listed["from"].as_i64().unwrap()) / (24 * 60 * 60);
        assert_eq!(days < 7, pebble.is_some(), "{listed:#}");
        kube.is_unharmed();
        kube.stop();
    }
}

#[test]
fn the_account_has_a_new_key_when_someone_wants_that_and_orders_go_on() {
    let site = Site::new("dns-01");
    let authority = site.authority(USUAL);
    let kube = site.home.start();
    until_ready(&kube);
    let account = || {
        let folder = fs::read_dir(site.home.path("data/tls/accounts")).unwrap();
        let paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
        let [path] = &paths[..] else { panic!("{paths:?}") };
        let kept: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        (kept["credentials"]["id"].clone(), kept["credentials"]["key_pkcs8"].clone())
    };
    let (id, key) = account();
    let host = authority.url().replace("https://", "").replace("/dir", "");
    assert!(site.home.run(&["certs", "change-key"]).ok().contains(&format!("the account at {host} has a new key")));
    assert_eq!(account().0, id);
    assert_ne!(account().1, key);
    site.home.run(&["certs", "renew", "kube.test"]).ok();
    kube.stop();

    // After a power cut in the middle the old one is tried; as the authority takes it, it counts on.
    let kept = fs::read_dir(site.home.path("data/tls/accounts")).unwrap().next().unwrap().unwrap().path();
    fs::write(kept.with_extension("changing"), "").unwrap();
    let kube = site.home.start();
    site.home.run(&["certs", "renew", "kube.test"]).ok();
    assert_eq!(account().0, id);
    kube.stop();
}

/// What a name server says of a name, a line a record.
fn dig(site: &Site, name: &str, rtype: &str) -> String {
    let (at, port) = site.dns.split_once(':').unwrap();
    let mut command = Command::new("dig");
    Ran::from(command.args([&format!("@{at}"), "-p", port, "+short", name, rtype])).ok()
}

/// The account of a KUBE at its one authority.
fn account(site: &Site) -> String {
    let path = fs::read_dir(site.home.path("data/tls/accounts")).unwrap().next().unwrap().unwrap().path();
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    kept["credentials"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn nothing_is_ordered_while_another_program_has_the_folder() {
    let site = Site::new("dns-01");
    let _authority = site.authority(USUAL);
    let kube = site.home.start();
    until_ready(&kube);
    let before = fs::read(site.certificate("_.kube.test")).unwrap();
    let lock = fs::File::options().write(true).open(site.home.path("data/tls/certificates/lock")).unwrap();
    lock.lock().unwrap();
    let renew = || site.home.run(&["certs", "renew", "kube.test"]);
    renew().complains(1, &["another KUBE with this folder orders now"]);
    assert_eq!(fs::read(site.certificate("_.kube.test")).unwrap(), before);
    drop(lock);
    renew().ok();
    kube.stop();
}

#[test]
fn the_own_zone_lets_the_own_account_alone_have_certificates_made() {
    let Some(pebble) = newer() else { return };
    let site = Site::new("dns-01");
    let _authority = site.authority_by(&pebble, USUAL);
    let kube = site.home.start();
    until_ready(&kube);
    let caa = format!("0 issue \"{NAME}; accounturi={}\"\n", account(&site));
    assert_eq!(dig(&site, "kube.test", "CAA"), caa);
    kube.stop();
    // It is known after a restart, before anything is ordered.
    let kube = site.home.start();
    eventually("the CAA record", || (dig(&site, "kube.test", "CAA") == caa).then_some(()));
    kube.stop();
}

#[test]
fn a_record_that_stays_proves_everything_below_the_domain() {
    let Some(pebble) = newer() else { return };
    let site = Site::new("dns-persist-01");
    let authority = site.authority_by(&pebble, USUAL);
    let kube = site.home.start();
    until_ready(&kube);
    site.visit(&authority, "shop.kube.test").ok();
    let record = format!("\"{NAME}; accounturi={}; policy=wildcard\"\n", account(&site));
    assert_eq!(dig(&site, "_validation-persist.kube.test", "TXT"), record);
    assert!(site.home.run(&["certs", "renew", "kube.test"]).ok().contains("a new certificate"));
    kube.stop();
}
