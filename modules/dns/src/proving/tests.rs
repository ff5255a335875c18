use std::{fs, net::Ipv4Addr, path::Path};

use kube_contract::{Appliance, Limits, Running};
use prometheus::Registry;

use super::*;
use crate::{Dns, Handle, Own, address::Address, config, tests::ports};

const SECRET: &str = "c2VjcmV0IG9mIHRoZSB0d28=";
const TTL: Duration = Duration::from_secs(60);
/// What a zone here is at: the machine's own address, so nobody is waited for.
const ZONE: &str = "@ 60 SOA ns ops 1 1 1 1 1\n@ 60 NS ns\nns 60 A 127.0.0.1\n";

fn key(folder: &Path, secret: &str) -> config::Key {
    let secret_file = folder.join(format!("{secret}key").replace('=', ""));
    fs::write(&secret_file, secret).unwrap();
    config::Key { algorithm: crate::Algorithm::HmacSha384, secret_file }
}

/// One who has these zones, and lets the key change the challenges of all names of `other.test`.
fn config(folder: &Path, zones: &[(&str, &str)]) -> Config {
    let write = |(name, records): &(&str, &str)| {
        let path = folder.join(format!("{name}.zone"));
        fs::write(&path, format!("{ZONE}{records}\n")).unwrap();
        path
    };
    let update = serde_json::json!({ "key": "acme", "names": ["_acme-challenge.other.test."] });
    Config {
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        zones: zones.iter().map(write).collect(),
        keys: [("acme".parse().unwrap(), key(folder, SECRET))].into(),
        updates: vec![serde_json::from_value(update).unwrap()],
        data: folder.join("dns"),
        rate_limit: 0,
        ..Config::default()
    }
}

/// A KUBE with a zone of its own, which writes to `other`, asks it as a resolver, or does neither.
fn kube(folder: &Path, resolver: Option<SocketAddr>, remote: Vec<config::Remote>, secret: &str) -> Config {
    Config {
        own: Some(Own {
            domain: "kube.test".to_owned(),
            addresses: Some(vec![[192, 0, 2, 1].into()]),
            ..Own::default()
        }),
        keys: [("acme".parse().unwrap(), key(folder, secret))].into(),
        resolvers: resolver.into_iter().map(Address).collect(),
        remote,
        updates: Vec::new(),
        ..config(folder, &[])
    }
}

fn remote(server: SocketAddr, zone: Option<&str>) -> config::Remote {
    config::Remote {
        server: Address(server),
        key: "acme".parse().unwrap(),
        zone: zone.map(|zone| zone.parse().unwrap()),
    }
}

async fn serve(config: &Config) -> (Running<Config>, SocketAddr, Handle) {
    let dns = Arc::new(Dns::bind(config, ports(), &Registry::new()).unwrap());
    let mut appliance = Appliance::new(config.clone(), Limits::default());
    appliance.add(Arc::clone(&dns), |config| config);
    let running = appliance.start();
    running.serving().await.unwrap();
    (running, dns.addresses()[0].1, dns.handle())
}

/// The TXT records of a zone, as its file would have them.
fn texts(handle: &Handle, zone: &str) -> Vec<String> {
    let text = handle.text(&zone.parse().unwrap(), false).unwrap();
    text.lines().filter(|line| line.contains(" TXT ")).map(ToOwned::to_owned).collect()
}

async fn can(handle: &Handle, name: &str) -> bool {
    handle.can_say(&name.parse().unwrap()).await
}

async fn say(handle: &Handle, name: &str, texts: &[&str]) -> Result<bool, String> {
    let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
    handle.say_txt(&name.parse().unwrap(), &texts, TTL).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_zone_of_another_server_is_updated_there() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (other_running, server, other) =
        serve(&config(there.path(), &[("other.test", "_acme-challenge 60 TXT left"), ("more.test", "")])).await;
    for zone in [Some("other.test"), None] {
        let (running, _, handle) = serve(&kube(here.path(), None, vec![remote(server, zone)], SECRET)).await;
        let name = "_acme-challenge.other.test";
        assert!(can(&handle, name).await && can(&handle, "_acme-challenge.kube.test").await);
        assert_eq!(say(&handle, name, &["one", "two"]).await, Ok(true));
        assert_eq!(
            texts(&other, "other.test"),
            [r#"_acme-challenge.other.test. 60 IN TXT "one""#, r#"_acme-challenge.other.test. 60 IN TXT "two""#]
        );
        assert_eq!(say(&handle, name, &[]).await, Ok(true));
        assert!(texts(&other, "other.test").is_empty());
        // One that it may not change, and one that nobody has.
        let refused = say(&handle, "_acme-challenge.www.other.test", &["one"]).await.unwrap_err();
        assert!(refused.contains("change TXT records of _acme-challenge.www.other.test. (REFUSED)"), "{refused}");
        assert_eq!(can(&handle, "_acme-challenge.more.test").await, zone.is_none());
        assert_eq!(say(&handle, "_acme-challenge.nowhere.test", &["one"]).await, Ok(false));
        running.stop().await;
    }
    let wrong = "d3Jvbmc=";
    let (running, _, handle) = serve(&kube(here.path(), None, vec![remote(server, Some("other.test"))], wrong)).await;
    let error = say(&handle, "_acme-challenge.other.test", &["one"]).await.unwrap_err();
    assert!(error.contains(&server.to_string()) && error.contains("another secret by the name of the key"), "{error}");
    running.stop().await;
    other_running.stop().await;
}

#[tokio::test]
async fn aliases_lead_to_a_zone_here() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // From `a1`, there are eight with that of the challenge itself.
    let long = (1..7).map(|number| format!("a{number} 60 CNAME a{}\n", number + 1)).collect::<String>();
    let aliases = "_acme-challenge 60 CNAME shop.acme.kube.test.\n_acme-challenge.www 60 CNAME _acme-challenge\n\
                   _acme-challenge.far 60 CNAME x.elsewhere.test.\n_acme-challenge.round 60 CNAME _acme-challenge.round\n";
    let long = format!("{aliases}{long}a7 60 CNAME _acme-challenge\na0 60 CNAME a1\n");
    let (other_running, resolver, _) = serve(&config(there.path(), &[("shop.test", &long)])).await;
    let (running, _, handle) = serve(&kube(here.path(), Some(resolver), Vec::new(), SECRET)).await;
    assert!(can(&handle, "_acme-challenge.shop.test").await && can(&handle, "_acme-challenge.www.shop.test").await);
    assert!(can(&handle, "a1.shop.test").await, "eight aliases lead there");
    for no in ["_acme-challenge.round.shop.test", "none.shop.test", "a0.shop.test", "_acme-challenge.far.shop.test"] {
        assert!(!can(&handle, no).await, "{no}");
    }
    // Two names may lead to one: each has its texts there as long as it wants them.
    assert_eq!(say(&handle, "_acme-challenge.shop.test", &["one"]).await, Ok(true));
    assert_eq!(say(&handle, "_acme-challenge.www.shop.test", &["two"]).await, Ok(true));
    let record = |text: &str| format!(r#"shop.acme.kube.test. 60 IN TXT "{text}""#);
    assert_eq!(texts(&handle, "kube.test"), [record("one"), record("two")]);
    // Where they are they are taken away, whoever answers by then.
    other_running.stop().await;
    assert_eq!(say(&handle, "_acme-challenge.shop.test", &[]).await, Ok(true));
    assert_eq!(texts(&handle, "kube.test"), [record("two")]);
    assert_eq!(say(&handle, "_acme-challenge.www.shop.test", &[]).await, Ok(true));
    assert!(texts(&handle, "kube.test").is_empty());
    // What was known stays known, and of what was not there is nothing new.
    assert_eq!(say(&handle, "_acme-challenge.www.shop.test", &["two"]).await, Ok(true));
    let unknown = say(&handle, "_acme-challenge.new.shop.test", &["one"]).await.unwrap_err();
    assert!(unknown.contains("cannot be found who has the zone of _acme-challenge.new.shop.test."), "{unknown}");
    assert!(!can(&handle, "_acme-challenge.new.shop.test").await && can(&handle, "_acme-challenge.kube.test").await);
    running.stop().await;
}

#[tokio::test]
async fn a_zone_here_that_others_have_in_truth_is_not_one_to_say_anything_in() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (other_running, resolver, _) = serve(&config(there.path(), &[("kube.test", "")])).await;
    let config = kube(here.path(), Some(resolver), Vec::new(), SECRET);
    let (mut running, _, handle) = serve(&config).await;
    assert!(!can(&handle, "_acme-challenge.kube.test").await);
    assert_eq!(say(&handle, "_acme-challenge.kube.test", &["one"]).await, Ok(false));
    // Nor is one that nobody can ask for.
    assert!(running.reload(Config { resolvers: Vec::new(), ..config.clone() }).is_ok());
    assert!(can(&handle, "_acme-challenge.kube.test").await);
    assert!(running.reload(Config { resolvers: Vec::new(), listen: Vec::new(), ..config }).is_ok());
    assert!(!can(&handle, "_acme-challenge.kube.test").await);
    running.stop().await;
    other_running.stop().await;
}

#[tokio::test]
async fn a_server_is_waited_for_until_it_says_all() {
    let folder = tempfile::tempdir().unwrap();
    let (running, address, handle) = serve(&kube(folder.path(), None, Vec::new(), SECRET)).await;
    let owner: Name = "_acme-challenge.kube.test".parse().unwrap();
    let listed = |addresses| Listed { name: "ns2.kube.test".parse().unwrap(), addresses };
    let data = |texts: &[&str]| {
        texts.iter().map(|text| [&[text.len() as u8], text.as_bytes()].concat().into()).collect::<Vec<_>>()
    };
    let (both, soon) = (data(&["one", "two"]), Duration::from_millis(300));
    let outcome = listed(vec![address]).until(&owner, &both, soon).await;
    assert_eq!(outcome, Outcome::Behind(format!("{address}: it has no such TXT record")));
    handle.publish_txt(&owner, &["one".to_owned()], TTL).unwrap();
    let outcome = listed(vec![address]).until(&owner, &both, soon).await;
    assert_eq!(outcome, Outcome::Behind(format!("{address}: it has other TXT records")));
    let server = listed(vec![address]);
    let waits = server.until(&owner, &both, Duration::from_secs(60));
    let publishes = async {
        sleep(soon).await;
        handle.publish_txt(&owner, &["one".to_owned(), "two".to_owned()], TTL).unwrap();
    };
    assert_eq!(join(waits, publishes).await.0, Outcome::Says);
    // Texts that are too long for a datagram come over TCP.
    let long = vec!["x".repeat(250); 8].iter().enumerate().map(|(n, text)| format!("{n}{text}")).collect::<Vec<_>>();
    handle.publish_txt(&owner, &long, TTL).unwrap();
    let long: Vec<_> = long.iter().map(String::as_str).collect();
    assert_eq!(listed(vec![address]).until(&owner, &data(&long), soon).await, Outcome::Says);
    running.stop().await;
    let outcome = listed(vec![address]).until(&owner, &both, soon).await;
    assert!(matches!(outcome, Outcome::Silent(_)), "{outcome:?}");
}
