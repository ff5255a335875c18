use std::path::Path;

use kube_manifest::{Manifest, Missing};
use proptest::prelude::*;

use super::*;

fn sites(names: &[&str]) -> Sites {
    let site = |name: &str| Site {
        name: name.to_owned(),
        domains: vec![format!("{name}.example"), format!("www.{name}.example"), format!("{name}kube.test")],
        manifest: Manifest::default(),
        missing: Missing::Auto,
        blobs: Path::new("/blobs").into(),
    };
    names.iter().map(|name| (name.to_string(), Arc::new(site(name)))).collect()
}

fn routed(labels: &[&str]) -> BTreeSet<String> {
    labels.iter().map(ToString::to_string).collect()
}

#[test]
fn every_host_name_has_one_place() {
    let sites = sites(&["shop", "sync"]);
    let routed = routed(&["api", "shop", "sync"]);
    let hosts = Hosts { domain: "kube.test", labels: &["sync"], routed: &routed };
    for (name, place) in [
        ("kube.test", Place::Apex),
        ("KUBE.test.", Place::Apex),
        ("shop.kube.test", Place::Site(&sites["shop"])),
        ("Shop.Kube.Test.", Place::Site(&sites["shop"])),
        ("sync.kube.test", Place::Mount(0)),
        ("shop.example", Place::Site(&sites["shop"])),
        ("WWW.Shop.Example.", Place::Site(&sites["shop"])),
        ("shopkube.test", Place::Site(&sites["shop"])),
        ("Api.kube.test.", Place::Routed("api")),
        ("x.api.kube.test", Place::Nobody),
        ("api", Place::Elsewhere),
        ("x.shop.example", Place::Elsewhere),
        ("shop.example..", Place::Elsewhere),
        ("example", Place::Elsewhere),
        ("x.shop.kube.test", Place::Nobody),
        ("other.kube.test", Place::Nobody),
        ("shop.kube.test..", Place::Elsewhere),
        (".kube.test", Place::Elsewhere),
        ("notkube.test", Place::Elsewhere),
        ("kube.test.evil", Place::Elsewhere),
        ("test", Place::Elsewhere),
        ("", Place::Elsewhere),
        (".", Place::Elsewhere),
        ("127.0.0.1", Place::Elsewhere),
        ("[::1]", Place::Elsewhere),
    ] {
        assert_eq!(hosts.place(&sites, name), place, "{name:?}");
    }
}

#[test]
fn a_certificate_is_due_for_what_is_served_only() {
    let sites = sites(&["shop"]);
    for (name, served) in [
        ("localhost", true),
        ("shop.localhost", true),
        ("sync.localhost", true),
        ("api.localhost", true),
        ("nobody.localhost", false),
        ("a.shop.localhost", false),
        ("shop.example", true),
        ("nobody.example", false),
        ("example.org", false),
    ] {
        assert_eq!(serves("localhost", &["sync"], &routed(&["api"]), &sites, name), served, "{name:?}");
    }
}

proptest! {
    #[test]
    fn a_name_finds_an_app_only_as_its_label_under_the_domain_or_as_its_own(
        name in "[a-zA-Z.]{0,12}(\\.kube\\.test|\\.example)?\\.?",
    ) {
        let sites = sites(&["a", "b", "shop"]);
        let routed = routed(&["a", "api"]);
        let hosts = Hosts { domain: "kube.test", labels: &["sync"], routed: &routed };
        if let Place::Site(site) = hosts.place(&sites, &name) {
            let plain = name.to_lowercase();
            let plain = plain.strip_suffix('.').unwrap_or(&plain).to_owned();
            prop_assert!(plain == format!("{}.kube.test", site.name) || site.domains.contains(&plain), "{}", plain);
        }
    }
}
