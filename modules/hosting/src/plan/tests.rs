use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use http::{HeaderName, HeaderValue};
use kube_manifest::{Hash, Manifest};
use proptest::prelude::*;

use super::*;

const APP: &[&str] = &["index.html", "app.js", "docs/index.html", "docs/a b.txt", "images/x.png", ".well-known/k/v"];

/// An app whose every file has 100 bytes, and its place in the list as its hash.
fn site(paths: &[&str], missing: Missing) -> Site {
    let file = |hash| File {
        hash: Hash([hash; 32]),
        size: 100,
        modified: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
    };
    let manifest: Manifest = paths.iter().zip(0..).map(|(path, hash)| (path.to_string(), file(hash))).collect();
    Site { name: "shop".into(), domains: Vec::new(), manifest, missing, blobs: Path::new("/blobs").into() }
}

fn answer(site: &Site, method: Method, uri: &str, pairs: &[(&'static str, &'static str)]) -> String {
    let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    let headers: HeaderMap =
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
    match plan(site, &Ask { method: &method, path, query, headers: &headers }) {
        Plan::File(found, Part::Whole) => format!("200 {}", name(&found)),
        Plan::File(found, part) => format!("206 {} {part:?}", name(&found)),
        Plan::OwnMissing(found) => format!("404 {}", name(&found)),
        Plan::NotModified(found) => format!("304 {}", name(&found)),
        Plan::Failed => "412".into(),
        Plan::Unsatisfiable(found) => format!("416 {}", name(&found)),
        Plan::Moved(location) => format!("308 {location}"),
        Plan::Malformed => "400".into(),
        Plan::Missing => "404".into(),
        Plan::Options => "204".into(),
        Plan::NotAllowed => "405".into(),
    }
}

fn name(found: &Found<'_>) -> String {
    let coding = found.coding.map(|coding| format!(" {coding:?}")).unwrap_or_default();
    format!("{}{coding}", found.path)
}

fn get(site: &Site, uri: &str) -> String {
    answer(site, Method::GET, uri, &[])
}

#[test]
fn paths_find_files_folders_and_pages() {
    let site = site(APP, Missing::Auto);
    for (uri, want) in [
        ("/", "200 index.html"),
        ("/?x", "200 index.html"),
        ("/app.js", "200 app.js"),
        ("/docs/", "200 docs/index.html"),
        ("/docs/a%20b.txt?q=1", "200 docs/a b.txt"),
        ("/.well-known/k/v", "200 .well-known/k/v"),
        ("/docs", "308 /docs/"),
        ("/docs?a=b&c", "308 /docs/?a=b&c"),
        ("/images", "200 index.html"),
        ("/images/", "200 index.html"),
        ("/some/page", "200 index.html"),
        ("/some/page.html", "200 index.html"),
        ("/missing.js", "404"),
        ("/app.js/", "200 index.html"),
        ("/.git/config", "404"),
        ("/docs%2findex.html", "200 docs/index.html"),
        ("/../secret", "400"),
        ("/%2e%2e/secret", "400"),
        ("*", "400"),
    ] {
        assert_eq!(get(&site, uri), want, "{uri}");
    }
}

#[test]
fn what_is_missing_is_answered_as_the_app_wants() {
    let own = [APP, &["404.html"]].concat();
    for (paths, missing, page, script, hidden) in [
        (APP, Missing::Auto, "200 index.html", "404", "404"),
        (&own, Missing::Auto, "404 404.html", "404 404.html", "404 404.html"),
        (APP, Missing::Index, "200 index.html", "200 index.html", "404"),
        (&own, Missing::Index, "200 index.html", "200 index.html", "404 404.html"),
        (APP, Missing::NotFound, "404", "404", "404"),
        (&own, Missing::NotFound, "404 404.html", "404 404.html", "404 404.html"),
        (&["a.js"], Missing::Auto, "404", "404", "404"),
        (&["a.js"], Missing::Index, "404", "404", "404"),
    ] {
        let site = site(paths, missing);
        for (uri, want) in [("/page", page), ("/x/y.js", script), ("/.env", hidden)] {
            assert_eq!(get(&site, uri), want, "{uri} with {missing:?} of {paths:?}");
        }
    }
}

#[test]
fn a_folder_never_redirects_to_another_host() {
    let site = site(&["evil.example/index.html", "\\evil/index.html", "a?b/index.html", "ü/index.html"], Missing::Auto);
    for (uri, want) in [
        ("/evil.example", "308 /evil.example/"),
        ("//evil.example", "404"),
        ("/%2fevil.example", "404"),
        ("/%5cevil", "308 /%5Cevil/"),
        ("/a%3Fb", "308 /a%3Fb/"),
        ("/%C3%BC", "308 /%C3%BC/"),
    ] {
        assert_eq!(get(&site, uri), want, "{uri}");
    }
}

#[test]
fn methods_conditions_and_ranges_are_answered() {
    const TAG: &str = "\"0101010101010101010101010101010101010101010101010101010101010101\"";
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    let site = site(APP, Missing::Auto);
    for (method, headers, want) in [
        (Method::HEAD, &[][..], "200 app.js"),
        (Method::OPTIONS, &[], "204"),
        (Method::POST, &[], "405"),
        (Method::DELETE, &[], "405"),
        (Method::CONNECT, &[], "405"),
        (Method::GET, &[("if-none-match", TAG)], "304 app.js"),
        (Method::HEAD, &[("if-none-match", TAG)], "304 app.js"),
        (Method::GET, &[("if-modified-since", DATE)], "304 app.js"),
        (Method::GET, &[("if-match", "\"x\"")], "412"),
        (Method::GET, &[("range", "bytes=0-9")], "206 app.js Single(0..10)"),
        (Method::GET, &[("range", "bytes=-1")], "206 app.js Single(99..100)"),
        (Method::GET, &[("range", "bytes=0-0,5-6")], "206 app.js Many([0..1, 5..7])"),
        (Method::GET, &[("range", "bytes=100-")], "416 app.js"),
        (Method::HEAD, &[("range", "bytes=0-9")], "200 app.js"),
        (Method::GET, &[("range", "bytes=0-9"), ("if-range", TAG)], "206 app.js Single(0..10)"),
        (Method::GET, &[("range", "bytes=0-9"), ("if-range", "\"x\"")], "200 app.js"),
        (Method::GET, &[("range", "bytes=500-"), ("if-range", "\"x\"")], "200 app.js"),
        (Method::GET, &[("range", "bytes=0-9"), ("if-none-match", TAG)], "304 app.js"),
    ] {
        assert_eq!(answer(&site, method.clone(), "/app.js", headers), want, "{method} {headers:?}");
    }
}

#[test]
fn encoded_forms_have_conditions_and_ranges_of_their_own() {
    let file = |hash, size| File {
        hash: Hash([hash; 32]),
        size,
        modified: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
    };
    let files = [
        ("404.html", file(4, 100)),
        ("404.html.gz", file(5, 50)),
        ("app.js", file(1, 100)),
        ("app.js.br", file(2, 30)),
        ("app.js.gz", file(3, 40)),
        ("docs/index.html", file(6, 100)),
        ("docs/index.html.br", file(7, 50)),
    ];
    let manifest = files.into_iter().map(|(path, file)| (path.to_owned(), file)).collect();
    let blobs = Path::new("/blobs").into();
    let site = Site { name: "shop".into(), domains: Vec::new(), manifest, missing: Missing::Auto, blobs };
    const ITSELF: &str = "\"0101010101010101010101010101010101010101010101010101010101010101\"";
    const BROTLI: &str = "\"0202020202020202020202020202020202020202020202020202020202020202\"";
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    let any = ("accept-encoding", "gzip, br");
    for (uri, headers, want) in [
        ("/app.js", &[][..], "200 app.js"),
        ("/app.js", &[any], "200 app.js Brotli"),
        ("/app.js", &[("accept-encoding", "gzip")], "200 app.js Gzip"),
        ("/app.js.br", &[any], "200 app.js.br"),
        ("/docs/", &[any], "200 docs/index.html Brotli"),
        ("/docs", &[any], "308 /docs/"),
        ("/nothing", &[any], "404 404.html Gzip"),
        ("/.env", &[any], "404 404.html Gzip"),
        ("/nothing", &[], "404 404.html"),
        ("/app.js", &[any, ("if-none-match", BROTLI)], "304 app.js Brotli"),
        ("/app.js", &[any, ("if-none-match", ITSELF)], "200 app.js Brotli"),
        ("/app.js", &[("if-none-match", ITSELF)], "304 app.js"),
        ("/app.js", &[("if-none-match", BROTLI)], "200 app.js"),
        ("/app.js", &[any, ("if-match", ITSELF)], "412"),
        ("/app.js", &[any, ("range", "bytes=-1")], "206 app.js Brotli Single(29..30)"),
        ("/app.js", &[("range", "bytes=-1")], "206 app.js Single(99..100)"),
        ("/app.js", &[any, ("range", "bytes=30-")], "416 app.js Brotli"),
        ("/app.js", &[any, ("range", "bytes=0-0,5-6")], "200 app.js Brotli"),
        ("/app.js", &[("range", "bytes=0-0,5-6")], "206 app.js Many([0..1, 5..7])"),
        ("/app.js", &[any, ("range", "bytes=0-9"), ("if-range", BROTLI)], "206 app.js Brotli Single(0..10)"),
        ("/app.js", &[any, ("range", "bytes=0-9"), ("if-range", ITSELF)], "200 app.js Brotli"),
        ("/app.js", &[any, ("range", "bytes=0-9"), ("if-range", DATE)], "200 app.js Brotli"),
        ("/app.js.br", &[any, ("range", "bytes=0-9"), ("if-range", DATE)], "206 app.js.br Single(0..10)"),
    ] {
        assert_eq!(answer(&site, Method::GET, uri, headers), want, "{uri} {headers:?}");
        let head = answer(&site, Method::HEAD, uri, headers);
        let whole = want.replace("206", "200").replace("416", "200");
        assert!(whole.starts_with(&head), "HEAD {uri} {headers:?}: {head}");
    }
}

proptest! {
    #[test]
    fn only_files_of_the_manifest_are_served(raw in "/([a-z./\\\\]|%2e|%2f|%5c|%25|index\\.html|docs|\\.\\.|\\.well-known){0,12}") {
        let site = site(APP, Missing::Auto);
        let ask = Ask { method: &Method::GET, path: &raw, query: None, headers: &HeaderMap::new() };
        match plan(&site, &ask) {
            Plan::File(found, _) => prop_assert_eq!(site.manifest.file(&found.path), Some(found.file)),
            Plan::Moved(location) => prop_assert!(!location.starts_with("//") && !location.contains('\\')),
            Plan::Malformed | Plan::Missing => {}
            other @ (Plan::OwnMissing(_)
            | Plan::NotModified(_)
            | Plan::Failed
            | Plan::Unsatisfiable(_)
            | Plan::Options
            | Plan::NotAllowed) => prop_assert!(false, "{:?}", other),
        }
    }
}
