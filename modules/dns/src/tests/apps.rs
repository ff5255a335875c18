//! The zones of apps' own domains.
use super::*;
use crate::dnssec::rollover::Parent;

fn with_domains(folder: &Path, domains: &[&str]) -> Config {
    Config { domains: domains.iter().map(|name| name.parse().unwrap()).collect(), ..config(folder) }
}

fn zones(dns: &Dns) -> Vec<String> {
    dns.handle().zones().iter().map(|zone| zone.apex().to_string()).collect()
}

#[tokio::test]
async fn a_domain_of_an_app_has_a_zone_that_comes_and_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let domains = ["shop.example", "www.shop.example"];
    let (mut running, address, dns) = serve(&with_domains(folder.path(), &domains)).await;
    for name in domains {
        for rtype in [Rtype::A, Rtype::AAAA, Rtype::HTTPS] {
            assert_eq!(answers(address, name, rtype).await, 1, "{name} {rtype}");
        }
    }
    for (name, rtype, count) in [
        ("shop.example", Rtype::SOA, 1),
        ("shop.example", Rtype::NS, 1),
        ("www.shop.example", Rtype::SOA, 0),
        ("other.shop.example", Rtype::A, 0),
        ("wiki.example", Rtype::SOA, 0),
    ] {
        assert_eq!(answers(address, name, rtype).await, count, "{name} {rtype}");
    }
    assert_eq!(zones(&dns), ["kube.test.", "shop.example."]);
    assert_eq!(dns.handle().app_zones(), ["shop.example".parse().unwrap()]);
    // A record can prove a name of it.
    let minute = Duration::from_secs(60);
    let name: Name = "_acme-challenge.shop.example".parse().unwrap();
    assert!(dns.handle().publish_txt(&name, &["proof".to_owned()], minute).unwrap());
    assert_eq!(answers(address, "_acme-challenge.shop.example", Rtype::TXT).await, 1);
    assert_eq!(answers(address, "www.shop.example", Rtype::A).await, 1);

    running.reload(with_domains(folder.path(), &["wiki.example"])).unwrap();
    assert_eq!(zones(&dns), ["kube.test.", "wiki.example."]);
    assert_eq!(answers(address, "wiki.example", Rtype::A).await, 1);
    running.stop().await;
}

#[tokio::test]
async fn a_zone_that_is_written_goes_before_that_of_an_app() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = folder.path().join(format!("{name}.zone"));
        fs::write(&path, "@ 60 SOA ns1.kube.test. ops 1 1 1 1 1\n@ 60 NS ns1.kube.test.\n@ 60 MX 0 .\n").unwrap();
        path
    };
    let domains = ["shop.example", "www.wiki.example", "blog.example", "notes.example"];
    let config = Config {
        zones: ["shop.example", "wiki.example", "dev.blog.example"].map(file).into(),
        secondary: vec![Followed {
            zone: "notes.example".parse().unwrap(),
            primaries: vec!["127.0.0.1:1".parse().unwrap()],
            key: None,
        }],
        ..with_domains(folder.path(), &domains)
    };
    let dns = Dns::bind(&config, ports(), &Registry::new()).unwrap();
    assert_eq!(zones(&dns), ["kube.test.", "shop.example.", "wiki.example.", "dev.blog.example."]);
    assert!(dns.handle().app_zones().is_empty());
    // Without a KUBE's own zone there is no name server to name.
    let alone = Config { own: None, ..with_domains(folder.path(), &domains) };
    assert!(zones(&Dns::bind(&alone, ports(), &Registry::new()).unwrap()).is_empty());
}

#[tokio::test]
async fn keys_of_another_name_server_are_no_trouble_where_an_apps_domain_is() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { dnssec: true, ..with_domains(folder.path(), &["shop.example"]) };
    let dns = Dns::bind(&config, ports(), &Registry::new()).unwrap();
    for (zone, is_told) in [("shop.example", false), ("kube.test", true)] {
        let zone: Name = zone.parse().unwrap();
        assert!(dns.handle().text(&zone, true).unwrap().contains(" DNSKEY "), "{zone} is signed");
        let ds = [&[1, 2, 13, 2][..], &[7; 32]].concat().into_boxed_slice();
        dns.catalog.hear(&zone, Ok(Parent { ds: vec![ds], ttl: 60 })).unwrap();
        assert_eq!(dns.catalog.trouble().is_some_and(|trouble| trouble.contains(&zone.to_string())), is_told, "{zone}");
    }
}

#[tokio::test]
async fn it_is_seen_where_a_name_leads() {
    let folder = tempfile::tempdir().unwrap();
    let (running, resolver, _) = serve(&with_domains(folder.path(), &["shop.example"])).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let of = |address: &str| {
        let own = Own { addresses: Some(vec![address.parse().unwrap()]), ..config(elsewhere.path()).own.unwrap() };
        let resolvers = vec![resolver.to_string().parse().unwrap()];
        let config = Config { own: Some(own), resolvers, listen: vec![], ..config(elsewhere.path()) };
        Dns::bind(&config, ports(), &Registry::new()).unwrap().handle()
    };
    let name: Name = "shop.example".parse().unwrap();
    let addresses = ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap());
    for (address, is_here) in [("192.0.2.1", true), ("2001:db8::1", true), ("192.0.2.9", false)] {
        let found = of(address).find(&name).await.unwrap();
        assert_eq!((&found.addresses[..], found.is_here), (&addresses[..], is_here), "{address}");
        assert_eq!(found.here, [address.parse::<std::net::IpAddr>().unwrap()]);
    }
    let none = of("192.0.2.1").find(&"none.shop.example".parse().unwrap()).await.unwrap();
    assert!(none.addresses.is_empty() && !none.is_here);
    running.stop().await;
    assert!(of("192.0.2.1").find(&name).await.unwrap_err().contains("does not answer"));
}
