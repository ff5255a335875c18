//! What is answered.
use super::*;

const EVERY_WAY: [Way; 2] = [Way::One, Way::Two];

#[tokio::test]
async fn an_app_is_served_over_http_1_and_2() {
    let world = World::new(config()).await;
    for way in EVERY_WAY {
        let got = world.get(way, "https://shop.kube.test/app.js").await;
        assert_eq!((got.status.as_u16(), got.text()), (200, "let shop = 1;"), "{way:?}");
        assert_eq!(got.header("content-type"), "text/javascript; charset=utf-8");
        assert_eq!(got.header("content-length"), "13");
        assert_eq!(got.header("cache-control"), "no-cache");
        assert!(got.headers.contains_key("date") && got.header("etag").len() == 66);
        let got = world.get(way, "https://SHOP.kube.test.:8443/some/page?q").await;
        assert_eq!((got.status.as_u16(), got.text()), (200, "<h1>Shop</h1>"));
        assert_eq!(world.get(way, "https://kube.test/").await.text(), "<h1>Welcome</h1>");
        let head = world.ask(way, "HEAD", "https://shop.kube.test/app.js", &[]).await;
        assert_eq!((head.status.as_u16(), head.header("content-length"), head.text()), (200, "13", ""));
    }
    assert!(world.metric("kube_hosting_requests_total", "2") >= 4.0);
    assert_eq!(world.metric("kube_hosting_requests_total", "HEAD"), 2.0);
}

#[tokio::test]
async fn a_request_whose_body_nobody_reads_is_answered() {
    let world = World::new(config()).await;
    for way in EVERY_WAY {
        let mut client = world.client(way).await;
        // More than fits into a window: the answer comes while it is being sent.
        let body = Full::from(vec![0; 4 << 20]);
        let request = Request::post("https://shop.kube.test/app.js").header(header::HOST, "shop.kube.test");
        let answer = match &mut client.sender {
            Sender::One(sender) => within(sender.send_request(request.uri("/app.js").body(body).unwrap())).await,
            Sender::Two(sender) => within(sender.send_request(request.body(body).unwrap())).await,
        };
        let answer = answer.unwrap_or_else(|error| panic!("{way:?}: {error:?}"));
        assert_eq!(answer.status(), 405);
        assert!(within(answer.into_body().collect()).await.is_ok());
    }
}

#[tokio::test]
async fn plain_http_redirects_what_is_served_and_refuses_the_rest() {
    let world = World::new(config()).await;
    let port = world.address(Scheme::Https).port();
    let got = world.get(Way::Plain, "http://Shop.kube.test:80/a%20b/?q=1").await;
    assert_eq!(got.status, 308);
    assert_eq!(got.header("location"), format!("https://shop.kube.test:{port}/a%20b/?q=1"));
    let got = world.ask(Way::Plain, "POST", "http://kube.test/", &[]).await;
    assert_eq!((got.status.as_u16(), got.header("location")), (308, &*format!("https://kube.test:{port}/")));
    assert_eq!(world.get(Way::Plain, "http://nobody.kube.test/").await.status, 404);
    assert_eq!(world.get(Way::Plain, "http://evil.example/").await.status, 421);
}

#[tokio::test]
async fn on_localhost_or_without_https_plain_http_serves() {
    let local = World::new(Config { domain: "localhost".into(), ..config() }).await;
    let plain = World::new(Config { https: Vec::new(), ..config() }).await;
    for (world, url) in [(local, "http://shop.localhost/"), (plain, "http://shop.kube.test/")] {
        let got = world.get(Way::Plain, url).await;
        assert_eq!((got.status.as_u16(), got.text()), (200, "<h1>Shop</h1>"));
    }
}

#[tokio::test]
async fn no_host_gets_an_app_that_is_not_its_own() {
    let world = World::new(config()).await;
    for way in EVERY_WAY {
        for (host, status) in [
            ("nobody.kube.test", 404),
            ("a.shop.kube.test", 404),
            ("evil.example", 421),
            ("kube.test.evil.example", 421),
            ("localhost", 421),
            ("127.0.0.1", 421),
            ("[::1]", 421),
        ] {
            let got = world.get(way, &format!("https://{host}/")).await;
            assert_eq!(got.status, status, "{way:?} {host}");
            assert_eq!(got.header("content-type"), "text/plain; charset=utf-8");
            assert!(!got.text().contains("<h1>"));
        }
    }
}

#[tokio::test]
async fn a_request_names_exactly_one_host() {
    let world = World::new(config()).await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.0\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: shop.kube.test\r\nHost: kube.test\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: shop.kube.test/x\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: shop.kube.test\r\n\r\n", "200"),
        ("GET https://shop.kube.test/app.js HTTP/1.1\r\nHost: x.example\r\n\r\n", "200"),
        ("GET https://x.example/ HTTP/1.1\r\nHost: shop.kube.test\r\n\r\n", "421"),
        ("OPTIONS * HTTP/1.1\r\nHost: shop.kube.test\r\n\r\n", "204"),
        ("CONNECT shop.kube.test:443 HTTP/1.1\r\nHost: shop.kube.test\r\n\r\n", "405"),
    ] {
        let closing = request.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
        let got = raw(world.tls(&["http/1.1"]).await, closing.as_bytes()).await;
        assert_eq!(got.split(' ').nth(1), Some(status), "{request:?}: {got}");
    }
    let mut two = world.client(Way::Two).await;
    let got = two.ask("GET", "https://shop.kube.test/", &[("host", "kube.test")]).await;
    assert_eq!(got.status, 400, "a host beside another authority");
    assert_eq!(two.ask("GET", "https://shop.kube.test/", &[("host", "Shop.kube.test")]).await.status, 200);
}

#[tokio::test]
async fn nothing_but_the_app_is_served_however_the_path_is_written() {
    let world = World::new(config()).await;
    fs::write(world.blobs.path().join("secret"), "secret").unwrap();
    for path in [
        "/../secret",
        "/..%2fsecret",
        "/%2e%2e/secret",
        "/%252e%252e/secret",
        "/..\\secret",
        "/%c0%ae%c0%ae/secret",
        "/.git/config",
        "/%00",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: shop.kube.test\r\nConnection: close\r\n\r\n");
        let got = raw(world.tls(&[]).await, request.as_bytes()).await;
        assert!(got.starts_with("HTTP/1.1 40") && !got.contains("secret"), "{path}: {got}");
    }
}

#[tokio::test]
async fn conditions_save_the_body() {
    let world = World::new(config()).await;
    for way in EVERY_WAY {
        let mut client = world.client(way).await;
        let url = "https://shop.kube.test/app.js";
        let first = client.ask("GET", url, &[]).await;
        let (tag, date) = (first.header("etag"), first.header("last-modified"));
        assert_eq!(date, "Sun, 06 Nov 1994 08:49:37 GMT");
        for (name, value) in [("if-none-match", tag), ("if-modified-since", date)] {
            let got = client.ask("GET", url, &[(name, value)]).await;
            assert_eq!((got.status.as_u16(), got.body.len(), got.header("etag")), (304, 0, tag), "{way:?} {name}");
        }
        assert_eq!(client.ask("GET", url, &[("if-match", "\"x\"")]).await.status, 412);
        let got = client.ask("PUT", url, &[]).await;
        assert_eq!((got.status.as_u16(), got.header("allow")), (405, "GET, HEAD, OPTIONS"));
    }
}

#[tokio::test]
async fn whole_files_and_ranges_are_exact_from_memory_and_from_disk() {
    let content: Vec<u8> = (0..1_000_000u32).map(|n| (n * 7 + n / 251) as u8).collect();
    for cached_file in [bytesize::ByteSize::kib(4), bytesize::ByteSize::mib(4)] {
        let world = World::new(Config { cached_file, ..config() }).await;
        world.publish(&[("film.mp4", &content)]);
        for way in EVERY_WAY {
            let mut client = world.client(way).await;
            let url = "https://shop.kube.test/film.mp4";
            assert!(client.ask("GET", url, &[]).await.body == content, "{way:?} {cached_file}");
            for (range, from, to) in [
                ("bytes=0-0", 0, 1),
                ("bytes=-5", 999_995, 1_000_000),
                ("bytes=70000-300000", 70_000, 300_001),
                ("bytes=999999-", 999_999, 1_000_000),
            ] {
                let got = client.ask("GET", url, &[("range", range)]).await;
                assert_eq!(got.status, 206);
                assert_eq!(got.header("content-range"), format!("bytes {from}-{}/1000000", to - 1));
                assert!(got.body == content[from..to], "{way:?} {cached_file} {range}");
            }
            let got = client.ask("GET", url, &[("range", "bytes=1-2,500000-699999")]).await;
            let boundary = got.header("content-type").strip_prefix("multipart/byteranges; boundary=").unwrap();
            let part = |from: usize, to: usize| {
                let head = format!(
                    "\r\n--{boundary}\r\nContent-Type: video/mp4\r\nContent-Range: bytes {from}-{}/1000000\r\n\r\n",
                    to - 1
                );
                [head.as_bytes(), &content[from..to]].concat()
            };
            let end = format!("\r\n--{boundary}--\r\n");
            assert!(got.body == [part(1, 3), part(500_000, 700_000), end.into_bytes()].concat());
            assert_eq!(got.header("content-length"), got.body.len().to_string());
            let got = client.ask("GET", url, &[("range", "bytes=1000000-")]).await;
            assert_eq!((got.status.as_u16(), got.header("content-range")), (416, "bytes */1000000"));
        }
    }
}

#[tokio::test]
async fn an_encoded_form_is_sent_to_whoever_can_read_it() {
    let content: Vec<u8> = (0..300_000u32).map(|n| (n * 7 + n / 251) as u8).collect();
    let form = &content[..100_000];
    for cached_file in [bytesize::ByteSize::kib(4), bytesize::ByteSize::mib(4)] {
        let world = World::new(Config { cached_file, ..config() }).await;
        world.publish(&[("app.wasm", &content), ("app.wasm.br", form)]);
        for way in EVERY_WAY {
            let mut client = world.client(way).await;
            let url = "https://shop.kube.test/app.wasm";
            let brotli = ("accept-encoding", "gzip, br");
            let got = client.ask("GET", url, &[brotli]).await;
            assert_eq!((got.status.as_u16(), got.header("content-encoding")), (200, "br"));
            assert_eq!((got.header("content-type"), got.header("content-length")), ("application/wasm", "100000"));
            assert!(got.body == form, "{way:?} {cached_file}");
            let head = client.ask("HEAD", url, &[brotli]).await;
            assert_eq!(
                (&head.headers["etag"], &head.headers["content-length"]),
                (&got.headers["etag"], &got.headers["content-length"])
            );

            let itself = client.ask("GET", url, &[]).await;
            assert!(itself.body == content && itself.header("content-encoding").is_empty());
            assert_ne!(itself.header("etag"), got.header("etag"));
            let own = client.ask("GET", &format!("{url}.br"), &[brotli]).await;
            assert!(
                own.body == form && !own.headers.contains_key("content-encoding") && !own.headers.contains_key("vary")
            );

            let part = client.ask("GET", url, &[brotli, ("range", "bytes=90000-")]).await;
            assert_eq!((part.status.as_u16(), part.header("content-range")), (206, "bytes 90000-99999/100000"));
            assert!(part.body == form[90_000..] && part.header("content-encoding") == "br");
            let same = client.ask("GET", url, &[brotli, ("if-none-match", got.header("etag"))]).await;
            assert_eq!((same.status.as_u16(), same.header("content-encoding")), (304, ""));
            for got in [got, head, itself, part, same] {
                assert_eq!(got.header("vary"), "Accept-Encoding");
            }
        }
    }
}

#[tokio::test]
async fn a_new_version_is_served_at_once_on_open_connections() {
    let world = World::new(config()).await;
    let mut client = world.client(Way::Two).await;
    let url = "https://shop.kube.test/app.js";
    let old = client.ask("GET", url, &[]).await;
    world.publish(&[("app.js", b"let shop = 2;")]);
    let new = client.ask("GET", url, &[("if-none-match", old.header("etag"))]).await;
    assert_eq!((new.status.as_u16(), new.text()), (200, "let shop = 2;"));
    world.sites.send_replace(sites([]));
    assert_eq!(client.ask("GET", url, &[]).await.status, 404);
    let home = client.ask("GET", "https://kube.test/", &[]).await;
    assert!(home.status == 404 && home.text().contains("welcome"), "{home:?}");
}

#[tokio::test]
async fn a_content_that_is_gone_or_cut_short_is_never_answered_wrongly() {
    let world = World::new(Config { cached_file: bytesize::ByteSize::kib(1), ..config() }).await;
    world.publish(&[("gone.txt", b"small"), ("cut.bin", &vec![7; 50_000_000])]);
    let blob = |path: &str| {
        let sites = Arc::clone(&world.sites.borrow());
        sites["shop"].blob(sites["shop"].manifest.file(path).unwrap())
    };
    fs::remove_file(blob("gone.txt")).unwrap();
    for way in EVERY_WAY {
        assert_eq!(world.get(way, "https://shop.kube.test/gone.txt").await.status, 500);
    }
    let mut client = world.client(Way::One).await;
    let mut got = client.begin("GET", "https://shop.kube.test/cut.bin", &[]).await.unwrap();
    assert_eq!(got.status(), 200);
    fs::File::options().write(true).open(blob("cut.bin")).unwrap().set_len(30_000_000).unwrap();
    let mut size = 0;
    let error = loop {
        match within(got.body_mut().frame()).await {
            Some(Ok(frame)) => size += frame.into_data().unwrap().len(),
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    assert!(error.is_some() && size <= 30_000_000, "{size} {error:?}");
    assert_eq!(world.metric("kube_hosting_errors_total", "blob"), 3.0);
}
