//! Hosting and TLS, as browsers and scripts see them.
use std::process::{Command, Stdio};

use crate::kube::{Home, LISTEN};

#[test]
fn the_welcome_app_is_served_over_both_versions_of_http() {
    let home = Home::new();
    let kube = home.start();
    let one = kube.curl(&["--http1.1"], "localhost", "/");
    let two = kube.curl(&["--http2"], "localhost", "/");
    assert_eq!((one.status, one.version.as_str()), (200, "HTTP/1.1"));
    assert_eq!((two.status, two.version.as_str()), (200, "HTTP/2"));
    assert_eq!(one.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(one.text().contains("KUBE"));
    assert_eq!(one.body, two.body);
    let old = kube.curl(&["--tls-max", "1.2"], "localhost", "/");
    assert_eq!(old.body, one.body);
    kube.stop();
}

#[test]
fn the_home_app_is_at_the_domain_itself() {
    let home = Home::of(&format!("domain = \"localhost\"\ndata = \"data\"\nhome = \"shop\"\n{LISTEN}"));
    home.app("shop", &[("index.html", "the shop")]);
    let kube = home.start();
    kube.is_served("shop", "/");
    assert_eq!(kube.get("localhost", "/").text(), "the shop");
    kube.stop();
}

#[test]
fn http_redirects_to_https_and_localhost_serves_both() {
    let home = Home::new();
    let kube = home.start();
    assert_eq!(kube.curl_http(&[], "localhost", "/").body, kube.get("localhost", "/").body);
    kube.stop();

    let home = Home::of(&format!("domain = \"kube.test\"\ndata = \"data\"\n{LISTEN}"));
    let kube = home.start();
    let answer = kube.curl_http(&[], "welcome.kube.test", "/a/b?c=%20d");
    assert!([301, 308].contains(&answer.status), "{answer:#?}");
    let there = format!("https://welcome.kube.test:{}/a/b?c=%20d", kube.https());
    assert_eq!(answer.header("location"), Some(there.as_str()));
    assert_eq!(kube.get("kube.test", "/").status, 200);
    kube.stop();
}

#[test]
fn an_unknown_host_never_gets_an_app() {
    let home = Home::new();
    let kube = home.start();
    let welcome = kube.get("localhost", "/").body;
    // No certificate is made for a name that is not served.
    let error = kube.fetch(&[], &format!("https://nobody.localhost:{}/", kube.https())).unwrap_err();
    assert!(error.contains("SSL") || error.contains("TLS") || error.contains("certificate"), "{error}");
    // With the certificate of another name.
    for host in ["nobody.localhost", "localhost.evil.example", "127.0.0.1", "[::1]", "welcome"] {
        let header = format!("Host: {host}");
        for answer in [
            kube.curl(&["-H", &header], "localhost", "/"),
            kube.curl(&["-H", &header, "--http1.1"], "localhost", "/"),
            kube.curl_http(&["-H", &header], "localhost", "/"),
        ] {
            assert!([400, 404, 421].contains(&answer.status), "{host}: {answer:#?}");
            assert_ne!(answer.body, welcome);
        }
    }
    kube.stop();
}

#[test]
fn ranges_and_conditions_are_answered_as_http_says() {
    let home = Home::new();
    home.app("files", &[("data.txt", "0123456789")]);
    let kube = home.start();
    kube.is_served("files", "/data.txt");
    let host = "files.localhost";
    let whole = kube.get(host, "/data.txt");
    let etag = format!("If-None-Match: {}", whole.header("etag").unwrap());
    let since = format!("If-Modified-Since: {}", whole.header("last-modified").unwrap());
    for condition in [etag, since] {
        let answer = kube.curl(&["-H", &condition], host, "/data.txt");
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{condition}");
    }
    for (range, status, body) in [
        ("bytes=2-4", 206, "234"),
        ("bytes=-3", 206, "789"),
        ("bytes=7-", 206, "789"),
        ("bytes=10-", 416, ""),
        ("bytes=4-2", 200, "0123456789"),
    ] {
        let answer = kube.curl(&["-H", &format!("Range: {range}")], host, "/data.txt");
        assert_eq!(answer.status, status, "{range}");
        assert!(status == 416 || answer.text() == body, "{range}: {answer:#?}");
    }
    let head = kube.curl(&["--head"], host, "/data.txt");
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    let post = kube.curl(&["--data", "x"], host, "/data.txt");
    assert_eq!(post.status, 405);
    assert!(post.header("allow").unwrap().contains("GET"));
    kube.stop();
}

#[test]
fn what_is_compressed_already_is_sent_to_whoever_reads_it() {
    const COMPRESS: &str = "const fs = require('fs'), zlib = require('zlib')
        for (const file of process.argv.slice(1)) {
          fs.writeFileSync(file + '.br', zlib.brotliCompressSync(fs.readFileSync(file)))
          fs.writeFileSync(file + '.gz', zlib.gzipSync(fs.readFileSync(file)))
        }";
    let home = Home::new();
    let text = "to be, or not to be; ".repeat(1000);
    home.app("play", &[("index.html", &text), ("act.js", &text)]);
    let folder = home.path("data/apps/play");
    let mut node = Command::new("node");
    let made = node.args(["-e", COMPRESS, "index.html", "act.js"]).current_dir(&folder).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let size = |name: &str| std::fs::metadata(folder.join(name)).unwrap().len().to_string();
    let kube = home.start();
    kube.is_served("play", "/act.js.gz");
    let host = "play.localhost";

    // curl offers what it can decode, and decodes it; `/page` is a page of a single-page app.
    for (path, name) in [("/act.js", "act.js"), ("/page", "index.html")] {
        let whole = kube.get(host, path);
        assert_eq!((whole.header("content-encoding"), whole.text()), (None, text.clone()));
        let got = kube.curl(&["--compressed"], host, path);
        let coding = got.header("content-encoding").unwrap();
        let form = format!("{name}.{}", if coding == "gzip" { "gz" } else { coding });
        assert_eq!((got.text(), got.header("content-length")), (text.clone(), Some(&*size(&form))));
        assert_eq!(got.header("content-type"), whole.header("content-type"));
        assert_ne!(got.header("etag"), whole.header("etag"));
        let tag = format!("If-None-Match: {}", got.header("etag").unwrap());
        let same = kube.curl(&["--compressed", "-H", &tag], host, path);
        assert_eq!((same.status, same.body.len()), (304, 0));
        assert_eq!(kube.curl(&["-H", &tag], host, path).status, 200, "the tag of another form");
        for answer in [whole, got, same] {
            assert_eq!(answer.header("vary"), Some("Accept-Encoding"), "{answer:#?}");
        }
    }

    for (accepts, coding, form) in [
        ("gzip", Some("gzip"), "act.js.gz"),
        ("gzip;q=0.5, br;q=0.1", Some("gzip"), "act.js.gz"),
        ("gzip, br", Some("br"), "act.js.br"),
        ("identity;q=0, *", Some("br"), "act.js.br"),
        ("gzip;q=0", None, "act.js"),
        ("*;q=0", None, "act.js"),
    ] {
        for version in ["--http1.1", "--http2"] {
            let header = format!("Accept-Encoding: {accepts}");
            let answer = kube.curl(&[version, "-H", &header], host, "/act.js");
            assert_eq!(answer.header("content-encoding"), coding, "{accepts}");
            assert_eq!(answer.body, std::fs::read(folder.join(form)).unwrap(), "{accepts}");
            let head = kube.curl(&[version, "--head", "-H", &header], host, "/act.js");
            assert_eq!((head.header("content-encoding"), head.header("content-length")), (coding, Some(&*size(form))));
        }
    }
    let part = kube.curl(&["-H", "Accept-Encoding: gzip", "-H", "Range: bytes=2-4"], host, "/act.js");
    let gzip = std::fs::read(folder.join("act.js.gz")).unwrap();
    assert_eq!((part.status, &*part.body, part.header("content-encoding")), (206, &gzip[2..5], Some("gzip")));
    let own = kube.curl(&["-H", "Accept-Encoding: gzip"], host, "/act.js.gz");
    assert_eq!((own.header("content-encoding"), &own.body), (None, &gzip));
    kube.stop();
}

#[test]
fn nothing_outside_an_app_is_served_by_any_spelling() {
    let home = Home::new();
    home.app("files", &[("index.html", "index"), ("a/b.txt", "b"), (".env", "SECRET"), (".git/config", "SECRET")]);
    std::os::unix::fs::symlink("/etc/passwd", home.path("data/apps/files/passwd")).unwrap();
    std::os::unix::fs::symlink("../../..", home.path("data/apps/files/up")).unwrap();
    let kube = home.start();
    kube.is_served("files", "/a/b.txt");
    for path in [
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%5c..%5cetc/passwd",
        "/a/../../kube.toml",
        "/%252e%252e/kube.toml",
        "/..%c0%af..%c0%afetc/passwd",
        "/passwd",
        "/up/kube.toml",
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/a/b.txt%00.html",
        "//etc/passwd",
    ] {
        let answer = kube.curl(&["--path-as-is"], "files.localhost", path);
        let text = answer.text();
        assert!(!text.contains("SECRET") && !text.contains("root:") && !text.contains("domain ="), "{path}: {text}");
        // A page that does not exist is the app's own to show.
        assert!([400, 404].contains(&answer.status) || text == "index", "{path}: {answer:#?}");
    }
    kube.stop();
}

#[test]
fn openssl_trusts_the_chain_and_negotiates() {
    let home = Home::new();
    let kube = home.start();
    for (protocol, agreed) in [("h2,http/1.1", "h2"), ("http/1.1", "http/1.1")] {
        let output = Command::new("openssl")
            .args(["s_client", "-brief", "-verify_return_error", "-verify_hostname", "welcome.localhost"])
            .args(["-servername", "welcome.localhost", "-alpn", protocol])
            .args(["-connect", &format!("127.0.0.1:{}", kube.https())])
            .arg("-CAfile")
            .arg(home.ca())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{agreed}: {said}");
        assert!(said.contains("Verification: OK"), "{agreed}: {said}");
    }
    // The authority vouches for this domain alone.
    let text = Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(home.ca()).output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("Name Constraints: critical") && text.contains("DNS:localhost"), "{text}");
    kube.stop();
}

#[test]
fn both_families_are_served() {
    let config = LISTEN.replace("https = [\"127.0.0.1:0\"]", "https = [\"127.0.0.1:0\", \"[::1]:0\"]");
    let home = Home::of(&format!("domain = \"localhost\"\ndata = \"data\"\n{config}"));
    let kube = home.start();
    let addresses = kube.addresses("hosting", "https");
    assert!(addresses.iter().any(|address| address.is_ipv6()), "{addresses:?}");
    for address in addresses {
        let to = format!("::{}:", if address.is_ipv6() { "[::1]" } else { "127.0.0.1" });
        let url = format!("https://localhost:{}/", address.port());
        let answer = kube.fetch_at(&to, &[], &url).unwrap_or_else(|error| panic!("{address}: {error}"));
        assert_eq!(answer.status, 200, "{address}");
    }
    kube.stop();
}

#[test]
fn certificate_files_are_served_and_replaced_by_a_reload() {
    let home = Home::of(&format!(
        "domain = \"kube.test\"\ndata = \"data\"\n{LISTEN}\n\
         [tls]\nissuer = \"files\"\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n"
    ));
    let serial = |number: &str| {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=kube.test", "-addext", "subjectAltName=DNS:kube.test,DNS:*.kube.test"])
            .args(["-set_serial", number, "-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(home.path(""))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    };
    serial("0x1111");
    let kube = home.start();
    let served = || {
        let output = Command::new("sh")
            .args(["-c", "openssl s_client -connect \"$0\" -servername kube.test </dev/null 2>/dev/null | openssl x509 -noout -serial"])
            .arg(format!("127.0.0.1:{}", kube.https()))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(served(), "serial=1111");
    serial("0x2222");
    home.run(&["reload"]).ok();
    crate::journal::eventually("the new certificate", || (served() == "serial=2222").then_some(()));
    kube.stop();
}

#[test]
fn load_generators_run_clean() {
    let home = Home::new();
    let kube = home.start();
    let url = format!("https://localhost:{}/", kube.https());
    let said = |program: &str, args: &[&str]| {
        let output =
            Command::new(program).args(args).arg(&url).output().unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let wrk = said("wrk", &["-t", "1", "-c", "32", "-d", "1"]);
    assert!(wrk.contains("requests in") && !wrk.contains("Non-2xx") && !wrk.contains("Socket errors"), "{wrk}");
    let h2load = said("h2load", &["-n", "2000", "-c", "8", "-m", "16"]);
    assert!(h2load.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{h2load}");
    kube.is_unharmed();
    kube.stop();
}
