//! Signed zones, and the zones above them.
use super::*;

/// A zone file with a zone, and one with the zone above it, which has these records besides.
fn two_zones(folder: &Path, records: &str) -> Config {
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, format!("@ 60 SOA ns ops 1 1 1 1 1\n@ 60 NS ns\nns 60 A 192.0.2.1\n{text}")).unwrap();
        path
    };
    let zones = vec![write("above.test.zone", records.to_owned()), write("sub.above.test.zone", String::new())];
    Config { zones, own: None, dnssec: true, ..config(folder) }
}

/// Raises the clock of the keys of a zone: what had to wait until then need not wait.
fn has_waited(folder: &Path, zone: &str) {
    let file = folder.join("dns/keys").join(format!("{zone}.json"));
    let mut keys: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for key in keys["keys"].as_array_mut().unwrap() {
        if let Some(published) = key["stage"].get_mut("published") {
            published["until"] = 1.into();
        }
    }
    fs::write(file, keys.to_string()).unwrap();
}

fn delegation(dns: &Dns, zone: &str) -> Delegation {
    let zone: Name = zone.parse().unwrap();
    dns.handle().delegations().into_iter().find(|delegation| delegation.zone == zone).unwrap()
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_zone_above_is_asked_where_it_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let config = two_zones(folder.path(), "sub 60 NS ns.sub\nns.sub 60 A 192.0.2.1\n");
    drop(Dns::bind(&config, ports(), &Registry::new()).unwrap());
    has_waited(folder.path(), "sub.above.test");
    let (running, _, dns) = serve(&config).await;
    let asked = || delegation(&dns, "sub.above.test").asked.map(|(_, said)| said);
    until(|| asked().is_some()).await;
    assert_eq!(asked().unwrap(), "it has no DS record");
    let Next::Ds(ds) = delegation(&dns, "sub.above.test").next else { panic!("{:?}", dns.handle().delegations()) };
    let refused = dns.handle().roll(&"sub.above.test".parse().unwrap()).unwrap_err().to_string();
    assert!(refused.contains("on its way already"), "{refused}");

    // The DS record of another key is what nobody can validate.
    let above = fs::read_to_string(&config.zones[0]).unwrap();
    let other = format!("{} 13 2 {}", ds.key_tag ^ 1, ds.digest);
    fs::write(&config.zones[0], format!("{above}sub 60 DS {other}\n")).unwrap();
    let board = running.board().clone();
    board.until_all(|health| matches!(health, kube_contract::Health::Degraded(_))).await;
    let health = board.now()[0].health.to_string();
    assert!(health.contains(&format!("(tag {}); replace it by {ds}", ds.key_tag ^ 1)), "{health}");

    fs::write(&config.zones[0], format!("{above}sub 60 DS {} 13 2 {}\n", ds.key_tag, ds.digest)).unwrap();
    board.until_all(|health| *health == kube_contract::Health::Ready).await;
    until(|| delegation(&dns, "sub.above.test").next == Next::Nothing).await;
    assert_eq!(asked().unwrap(), format!("its DS record names the key with the tag {}", ds.key_tag));
    assert_eq!(dns.shared.metrics.parents.with_label_values(&["private"]).get(), 1, "that of the zone above");

    dns.handle().roll(&"sub.above.test".parse().unwrap()).unwrap();
    let keys = |dns: &Dns| {
        let zones = dns.handle().zones();
        zones[1].set(zones[1].apex(), Rtype::DNSKEY).unwrap().data.len()
    };
    assert_eq!(keys(&dns), 2);
    assert!(matches!(delegation(&dns, "sub.above.test").next, Next::Time(_)));
    for (zone, reason) in
        [("sub.above.test", "on its way"), ("above.test", "on its way"), ("other.test", "there is no zone")]
    {
        let refused = dns.handle().roll(&zone.parse().unwrap()).unwrap_err().to_string();
        assert!(refused.contains(reason), "{zone}: {refused}");
    }
    running.stop().await;
    let again = Dns::bind(&config, ports(), &Registry::new()).unwrap();
    assert_eq!(keys(&again), 2, "they are on disk");
}

#[tokio::test]
async fn signing_ends_when_the_zone_above_has_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let config = two_zones(folder.path(), "sub 60 NS ns.sub\nns.sub 60 A 192.0.2.1\n");
    let (mut running, address, dns) = serve(&config).await;
    assert!(running.reload(Config { dnssec: false, ..config.clone() }).is_ok());
    let is_over_at = || match delegation(&dns, "sub.above.test").next {
        Next::Time(until) => Some(until),
        Next::Nothing | Next::Ds(_) | Next::NoDs => None,
    };
    until(|| is_over_at().is_some()).await;
    assert_eq!(answers(address, "sub.above.test", Rtype::DNSKEY).await, 1);
    running.stop().await;
    let file = folder.path().join("dns/keys/sub.above.test.json");
    let text = fs::read_to_string(&file).unwrap();
    let over = serde_json::from_str::<serde_json::Value>(&text).unwrap()["withdrawal"]["until"].to_string();
    fs::write(&file, text.replace(&over, "1")).unwrap();
    let (running, address, dns) = serve(&Config { dnssec: false, ..config }).await;
    let is_signed = || dns.handle().delegations().iter().any(|of| of.zone == "sub.above.test".parse().unwrap());
    until(|| !is_signed()).await;
    assert_eq!(answers(address, "sub.above.test", Rtype::DNSKEY).await, 0);
    assert!(answers(address, "ns.sub.above.test", Rtype::A).await == 1);
    let refused = dns.handle().roll(&"sub.above.test".parse().unwrap()).unwrap_err().to_string();
    assert!(refused.contains("set `dnssec = true`"), "{refused}");
    running.stop().await;
}
