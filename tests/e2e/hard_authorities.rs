//! Authorities that are hard to deal with: something goes wrong at every step of an order, they answer junk, or nothing; and
//! KUBE is killed, or its disk is full, in the middle.
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use kube_peer::free_port;
use serde_json::{Value, json};

use crate::{
    authority::{Authority, Rules},
    between::{Between, Harm},
    certificates::{Site, until_ready},
    journal::{From, eventually},
    kube::{BINARY, Kube, Ran},
};

/// The steps of a first order, by what their paths begin with at Pebble.
const STEPS: [&str; 9] =
    ["/dir", "/nonce-plz", "/sign-me-up", "/order-plz", "/authZ", "/chalZ", "/my-order", "/finalize-order", "/certZ"];

/// A KUBE that finds its authority at the other end of something.
struct Far {
    site: Site,
    authority: Authority,
    between: Between,
}

impl Far {
    fn new() -> Self {
        let site = Site::new("dns-01");
        let [pebble, management] = [(); 2].map(|()| free_port().unwrap());
        let rules = Rules { dns: &site.dns, ..Rules::default() };
        let authority = Authority::start_at(&site.home, &rules, [pebble, management]);
        let between = Between::start(&site.home, site.authority[0], pebble);
        Self { site, authority, between }
    }

    fn visit(&self) -> Ran {
        self.site.visit(&self.authority, "kube.test")
    }

    fn renew(&self) -> Ran {
        self.site.home.run(&["certs", "renew", "kube.test"])
    }

    fn certificate(&self) -> Vec<u8> {
        fs::read(self.site.certificate("_.kube.test")).unwrap()
    }

    fn start_anew(&self) -> Kube<'_> {
        let data = self.site.home.path("data/tls");
        if data.exists() {
            fs::remove_dir_all(data).unwrap();
        }
        self.between.forget();
        self.site.home.start()
    }
}

/// Does the same with all of these at once: most of the time is spent on waiting.
fn with_each<T: Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        let test = &test;
        let running: Vec<_> = cases.into_iter().map(|case| scope.spawn(move || test(case))).collect();
        running.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

fn html(status: &'static str) -> Harm {
    Harm::Say(status, "<h1>Something between you and us</h1>".to_owned())
}

#[test]
fn what_goes_wrong_once_at_every_step_of_an_order_fails_none() {
    let busy = Harm::Say("HTTP/1.1 503 Busy\r\nRetry-After: 1", String::new());
    let error = html("HTTP/1.1 500 Oops\r\nContent-Type: text/html");
    let junk = html("HTTP/1.1 200 OK\r\nContent-Type: text/html");
    with_each([Harm::Refuse, Harm::Lose, Harm::Cut, busy, error, junk], |harm| {
        let far = Far::new();
        let mut harmed = BTreeSet::new();
        far.between.harm(move |path, _| {
            let step = STEPS.into_iter().find(|step| path.starts_with(step));
            if step.is_some_and(|step| harmed.insert(step)) { harm.clone() } else { Harm::None }
        });
        let kube = far.site.home.start();
        until_ready(&kube);
        assert_eq!(far.visit().code, Some(0));
        let said = kube.journal.to_string();
        assert!(!said.contains("no certificate: "), "{said}");
        assert_eq!(far.site.proof(), "");
        kube.is_unharmed();
        kube.stop();
    });
}

#[test]
fn while_an_authority_keeps_silent_what_there_is_serves() {
    let far = Far::new();
    far.between.harm(|path, _| if path.starts_with("/order-plz") { Harm::Silence } else { Harm::None });
    let kube = far.site.home.start();
    eventually("silence", || far.between.is_waiting().then_some(()));
    let module = kube.module("tls");
    assert_eq!(module["health"], "degraded");
    assert!(module["reason"].as_str().unwrap().contains("the local CA serves"), "{module}");
    assert!(kube.get("shop.kube.test", "/").text().contains("the shop"));
    far.between.heal();
    until_ready(&kube);
    assert_eq!(far.visit().code, Some(0));

    let before = far.certificate();
    far.between.harm(|path, _| if path.starts_with("/finalize-order") { Harm::Silence } else { Harm::None });
    thread::scope(|scope| {
        let renewal = scope.spawn(|| far.renew());
        eventually("silence", || far.between.is_waiting().then_some(()));
        assert_eq!((far.visit().code, far.certificate() == before), (Some(0), true));
        far.between.heal();
        renewal.join().unwrap().ok();
    });
    assert_ne!(far.certificate(), before);
    kube.is_unharmed();
    kube.stop();
}

/// What an authority does from now on to requests whose paths begin so, and what is said of it.
type Junk = (&'static str, fn() -> Harm, &'static str);

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json";

#[test]
fn an_authority_that_answers_junk_leaves_the_old_certificate_serving_and_the_reason_told() {
    let cases: [Junk; 11] = [
        ("", || html("HTTP/1.1 200 OK\r\nContent-Type: text/html"), "not what RFC 8555 wants there"),
        ("", || html("HTTP/1.1 500 Oops"), "the CA answered 500 Internal Server Error"),
        ("", || Harm::Say("HTTP/1.1 302 Found\r\nLocation: /dir", String::new()), "the CA answered 302 Found"),
        ("", || Harm::Flood, "length limit"),
        ("", || Harm::Cut, "connection"),
        ("/dir", || Harm::Alter("https://", "http://"), "is not an https address"),
        ("/dir", || Harm::Alter("/nonce-plz", "/no nce"), "the CA's newNonce is no address"),
        ("/order-plz", || Harm::Say(OK, json!({"status": "odd", "authorizations": 7}).to_string()), "RFC 8555"),
        ("/order-plz", || html("HTTP/1.1 503 Busy\r\nRetry-After: 7200"), "the CA answered 503 Service Unavailable"),
        ("/certZ", || Harm::Say("HTTP/1.1 200 OK", "no chain".to_owned()), "a certificate in what the CA sent"),
        ("/certZ", || Harm::Say("HTTP/1.1 200 OK", foreign()), "the key in it is not the key of"),
    ];
    with_each(cases, |(step, harm, reason)| {
        let far = Far::new();
        let kube = far.site.home.start();
        until_ready(&kube);
        kube.stop();

        let before = far.certificate();
        far.between.harm(move |path, _| if path.starts_with(step) { harm() } else { Harm::None });
        let kube = far.site.home.start();
        let memory = kube.memory("VmHWM");
        far.renew().complains(1, &[reason]);
        let grown = kube.memory("VmHWM") - memory;
        assert!(grown < 16 << 10, "{reason}: {grown} KiB more");
        assert_eq!((far.visit().code, far.certificate() == before), (Some(0), true), "{reason}");
        eventually(&format!("{reason}\n{}", kube.journal), || {
            let module = kube.module("tls");
            let told = module["reason"].as_str().unwrap_or_default();
            (module["health"] == "degraded" && told.contains(reason) && told.contains("is not renewed")).then_some(())
        });
        if reason.contains("503") {
            let note = far.site.certificate("_.kube.test").with_extension("json");
            let note: Value = serde_json::from_slice(&fs::read(note).unwrap()).unwrap();
            let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
            let mut rests = note["rests"].as_object().unwrap().values();
            assert!(rests.next().and_then(Value::as_i64).unwrap() > now + 7000, "{note:#}");
        }

        far.between.heal();
        far.renew().ok();
        assert_eq!((far.visit().code, far.certificate() == before), (Some(0), false), "{reason}");
        until_ready(&kube);
        kube.is_unharmed();
        kube.stop();
    });
}

/// A certificate of someone else.
fn foreign() -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"]);
    command.args(["-addext", "subjectAltName=DNS:kube.test,DNS:*.kube.test", "-keyout", "key.pem", "-out", "-"]);
    Ran::from(command.current_dir(folder.path())).ok()
}

#[test]
fn wherever_kube_is_killed_in_an_order_its_next_start_gets_the_certificate() {
    with_each([Harm::Silence, Harm::Swallow], |harm| {
        let far = Far::new();
        let certificate = far.site.certificate("_.kube.test");
        for last in 1.. {
            assert!(last < 40, "an order of so many requests");
            let harm = harm.clone();
            far.between.harm(move |_, came| if came == last { harm.clone() } else { Harm::None });
            let kube = far.start_anew();
            let reached = || far.between.is_waiting().then_some(true);
            let is_killed = eventually("the end", || reached().or_else(|| certificate.exists().then_some(false)));
            // If there is one it was stored a moment ago, and nothing else was.
            kube.kill();
            far.between.heal();
            let (orders, signed) = (far.between.done("/order-plz"), far.between.done("/finalize-order"));

            let kube = far.site.home.start();
            until_ready(&kube);
            let said = format!("after request {last}\n{}", kube.journal);
            assert_eq!(far.visit().code, Some(0), "{said}");
            assert_eq!(far.site.proof(), "", "{said}");
            assert!(far.between.done("/sign-me-up") <= 2, "{said}");
            let whole = ["_.kube.test.json", "_.kube.test.pem", "lock"];
            eventually(&format!("the end of the order {said}"), || {
                (names(certificate.parent().unwrap()) == whole).then_some(())
            });
            if signed > 0 {
                assert_eq!((orders, far.between.done("/order-plz")), (1, 1), "{said}");
            }
            kube.stop();
            if !is_killed {
                break;
            }
        }
    });
}

/// What is in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap();
    let names: BTreeSet<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.into_iter().collect()
}

#[expect(clippy::print_stdout, reason = "why nothing was tested")]
fn skip(why: &str) {
    println!("skipped: nothing can be mounted here: {why}");
}

#[test]
fn a_certificate_that_finds_the_disk_full_is_stored_when_there_is_room_and_not_ordered_twice() {
    let may_mount = Ran::from(Command::new("unshare").args(["--mount", "sh", "-c", "mount -t tmpfs none /mnt"]));
    if may_mount.code != Some(0) {
        return skip(&may_mount.stderr);
    }
    let far = Far::new();
    let folder = far.site.home.path("data/tls");
    fs::create_dir_all(&folder).unwrap();
    let folder = folder.canonicalize().unwrap();
    // In a mount namespace of its own: gone with the process.
    let mount = format!("mount -t tmpfs -o size=1m none {} && exec \"$@\"", folder.display());
    let kube = far.site.home.spawn_by(&["unshare", "--mount", "sh", "-c", &mount, "sh", BINARY], &[]);
    kube.journal.wait(From::Systemd, "READY=1");
    until_ready(&kube);
    let inside = PathBuf::from(format!("/proc/{}/root{}", kube.pid(), folder.display()));
    let certificates = inside.join("certificates");
    let certificate = || fs::read(certificates.join("_.kube.test.pem")).unwrap();
    let (before, filler) = (certificate(), inside.join("filler"));

    far.between.forget();
    far.between.harm(|path, _| if path.starts_with("/certZ") { Harm::Hold } else { Harm::None });
    thread::scope(|scope| {
        let renewal = scope.spawn(|| far.renew());
        eventually("a certificate that was issued", || far.between.is_waiting().then_some(()));
        // To the last byte.
        fs::write(&filler, vec![7; 2 << 20]).unwrap_err();
        far.between.heal();
        renewal.join().unwrap().complains(1, &["`kube status` says why"]);
    });
    let reason = || kube.module("tls")["reason"].as_str().unwrap_or_default().to_owned();
    eventually("the reason", || reason().contains("certificates cannot be kept: cannot write").then_some(()));
    assert!(reason().contains("No space left on device"), "{}", reason());
    // Nothing is ordered as long as it could not be kept.
    far.renew().complains(1, &["`kube status` says why"]);
    assert_eq!((far.visit().code, certificate() == before, far.between.done("/order-plz")), (Some(0), true, 1));
    // Whoever tries to write again this very moment is done with it the next.
    let whole = ["_.kube.test.json", "_.kube.test.order", "_.kube.test.pem", "lock"];
    eventually("only what is whole", || (names(&certificates) == whole).then_some(()));

    fs::remove_file(filler).unwrap();
    eventually("the certificate", || (certificate() != before).then_some(()));
    until_ready(&kube);
    assert_eq!((far.visit().code, far.between.done("/order-plz"), far.between.done("/certZ")), (Some(0), 1, 2));
    assert!(!certificates.join("_.kube.test.order").exists());
    kube.is_unharmed();
    kube.stop();
}
