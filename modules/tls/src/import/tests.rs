use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{Issuer, tests::write_pair};

const DOMAIN: &str = "kube.test";

/// A folder of another program, and the folder of a KUBE.
struct Move {
    from: TempDir,
    to: TempDir,
}

impl Move {
    fn new() -> Self {
        Self { from: tempfile::tempdir().unwrap(), to: tempfile::tempdir().unwrap() }
    }

    fn config(&self) -> Config {
        let (domain, data) = (DOMAIN.to_owned(), self.to.path().join("tls"));
        Config { issuer: Issuer::Acme, domain, data, ..Config::default() }
    }

    /// A certificate for `days`, where this program would have it.
    fn put(&self, place: &str, [chain, key]: [&str; 2], names: &[&str], days: i64) {
        let (made, place) = (tempfile::tempdir().unwrap(), self.from.path().join(place));
        let config = write_pair(made.path(), names, days);
        fs::create_dir_all(&place).unwrap();
        fs::copy(config.certificate.unwrap(), place.join(chain)).unwrap();
        fs::copy(config.key.unwrap(), place.join(key)).unwrap();
    }

    /// As certbot has it: links to an archive.
    fn certbot(&self, name: &str, names: &[&str], days: i64) {
        self.put(&format!("archive/{name}"), ["fullchain1.pem", "privkey1.pem"], names, days);
        let live = self.from.path().join("live").join(name);
        fs::create_dir_all(&live).unwrap();
        fs::write(self.from.path().join("live/README"), "This directory contains your keys and certificates.").unwrap();
        for file in ["fullchain", "privkey"] {
            symlink(format!("../../archive/{name}/{file}1.pem"), live.join(format!("{file}.pem"))).unwrap();
        }
    }

    fn caddy(&self, authority: &str, name: &str, names: &[&str], days: i64) {
        let files = [format!("{name}.crt"), format!("{name}.key")];
        self.put(&format!("certificates/{authority}/{name}"), [&files[0], &files[1]], names, days);
    }

    /// What becomes of each, by the name of its folder.
    async fn import(&self) -> Vec<(String, Outcome)> {
        let wanted = |name: &str| name == "shop.example" || name.ends_with(DOMAIN);
        let imports = import(&self.config(), self.from.path(), wanted).await.unwrap();
        let name = |place: PathBuf| place.file_name().unwrap().to_str().unwrap().to_owned();
        imports.into_iter().map(|import| (name(import.place), import.outcome)).collect()
    }

    /// The certificates here, by their files.
    fn kept(&self) -> Vec<String> {
        let entries = fs::read_dir(self.to.path().join("tls/certificates")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.ends_with(".pem")).collect();
        names.sort();
        names
    }
}

fn skipped(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Skipped(why) => why,
        Outcome::Taken | Outcome::There => panic!("{outcome:?}"),
    }
}

#[tokio::test]
async fn what_certbot_has_is_kept_in_place_of_each_certificate_that_would_be_ordered() {
    let moved = Move::new();
    moved.certbot("kube.test", &["kube.test", "*.kube.test", "shop.example", "mail.example.org"], 60);
    moved.certbot("old", &["old.kube.test"], -2);
    moved.certbot("other", &["example.org"], 60);
    fs::create_dir_all(moved.from.path().join("live/empty")).unwrap();
    let outcomes = moved.import().await;
    let why: Vec<_> = [0, 2, 3].iter().map(|index| skipped(&outcomes[*index].1)).collect();
    assert_eq!(outcomes[1], ("kube.test".to_owned(), Outcome::Taken));
    assert!(
        why[0].contains("fullchain.pem") && why[1].contains("expired on") && why[2].contains("is served here"),
        "{why:?}"
    );
    assert_eq!(moved.kept(), ["_.kube.test.pem", "shop.example.pem"]);
    let file = moved.to.path().join("tls/certificates/_.kube.test.pem");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // It is held as what was ordered here, and the same again changes nothing.
    let all = everything_below(DOMAIN);
    let look = Shelf::new(&moved.config().data).look(vec!["https://acme.example/".to_owned()]).await.unwrap();
    assert!(look.held(&all, OffsetDateTime::now_utc()).is_some());
    let before = fs::read(&file).unwrap();
    assert_eq!(moved.import().await[1].1, Outcome::There);
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[tokio::test]
async fn of_caddy_every_authority_is_looked_at_but_its_own() {
    let moved = Move::new();
    moved.caddy("acme-v02.api.letsencrypt.org-directory", "wildcard_.kube.test", &["*.kube.test"], 60);
    moved.caddy("acme-v02.api.letsencrypt.org-directory", "kube.test", &["kube.test"], 60);
    moved.caddy("acme.zerossl.com-v2-dv90", "kube.test", &["kube.test"], 70);
    moved.caddy("local", "shop.kube.test", &["shop.kube.test"], 1);
    let outcomes = moved.import().await;
    assert_eq!(outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Taken).count(), 3, "{outcomes:?}");
    assert!(skipped(&outcomes[3].1).contains("Caddy's own"));
    assert_eq!(moved.kept(), ["_.kube.test.pem", "kube.test.pem"]);
    // The one that lasts longer stays, whatever the order.
    let again = moved.import().await;
    assert!(skipped(&again[0].1).contains("lasts until"), "{again:?}");
    assert_eq!((&again[1].1, &again[2].1), (&Outcome::There, &Outcome::There));
}

#[tokio::test]
async fn what_is_here_stays_if_it_lasts_longer_or_is_for_more() {
    let moved = Move::new();
    moved.certbot("a", &["kube.test", "*.kube.test"], 50);
    moved.import().await;
    moved.certbot("b", &["*.kube.test"], 80);
    moved.certbot("c", &["kube.test", "*.kube.test"], 40);
    let outcomes = moved.import().await;
    assert_eq!(outcomes[0].1, Outcome::There);
    assert!(skipped(&outcomes[1].1).contains("more names") && skipped(&outcomes[2].1).contains("lasts until"));
    assert_eq!(moved.kept(), ["_.kube.test.pem"]);
}

#[tokio::test]
async fn a_key_that_is_another_certificate_s_and_files_that_are_none_are_passed_over() {
    let moved = Move::new();
    moved.certbot("mixed", &["kube.test"], 50);
    moved.certbot("good", &["shop.kube.test"], 50);
    let archive = |name: &str, file: &str| moved.from.path().join("archive").join(name).join(file);
    fs::copy(archive("good", "privkey1.pem"), archive("mixed", "privkey1.pem")).unwrap();
    moved.certbot("junk", &["kube.test"], 50);
    fs::write(archive("junk", "fullchain1.pem"), [0xff; 100]).unwrap();
    moved.certbot("large", &["kube.test"], 50);
    fs::write(archive("large", "privkey1.pem"), vec![b' '; 2 << 20]).unwrap();
    let outcomes = moved.import().await;
    let why: Vec<_> = outcomes[1..].iter().map(|(name, outcome)| (&**name, skipped(outcome))).collect();
    assert_eq!(outcomes[0], ("good".to_owned(), Outcome::Taken));
    for ((name, why), (wanted, says)) in
        why.iter().zip([("junk", "no certificate"), ("large", "larger than"), ("mixed", "is not the key")])
    {
        assert!(*name == wanted && why.contains(says), "{name}: {why}");
    }
    assert_eq!(moved.kept(), ["shop.kube.test.pem"]);
}

#[tokio::test]
async fn a_folder_of_something_else_is_refused_and_nothing_is_made() {
    let moved = Move::new();
    fs::write(moved.from.path().join("x.pem"), "").unwrap();
    let refused = import(&moved.config(), moved.from.path(), |_| true).await.unwrap_err().to_string();
    assert!(refused.contains("certbot") && refused.contains("Caddy"), "{refused}");
    assert!(!moved.config().data.exists());
}

#[test]
fn names_become_what_would_be_ordered() {
    let targets = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        targets(&names, |name| name.ends_with(DOMAIN))
    };
    assert_eq!(targets(&["*.kube.test", "kube.test"]), [everything_below(DOMAIN)]);
    assert_eq!(targets(&["*.kube.test"]), [["*.kube.test"]]);
    assert_eq!(targets(&["a.kube.test", "b.kube.test", "c.example"]), [["a.kube.test"], ["b.kube.test"]]);
    assert!(targets(&["example.org"]).is_empty());
}

proptest! {
    /// Whatever another program left there is foreign.
    #[test]
    fn junk_in_files_does_no_harm(chain in prop::collection::vec(any::<u8>(), 0..200), key in prop::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let live = folder.path().join("live/x");
        fs::create_dir_all(&live).unwrap();
        fs::write(live.join("fullchain.pem"), chain).unwrap();
        fs::write(live.join("privkey.pem"), key).unwrap();
        prop_assert!(sources(folder.path()).unwrap()[0].read.is_err());
    }
}
