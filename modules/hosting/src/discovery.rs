//! Pure: what a page can ask the KUBE that serves it, on every app's host, without knowing where it is.
//!
//! So one build of an app runs on any KUBE: it asks its own host where to sync.
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use kube_manifest::Sites;
use serde_json::json;

use crate::{Scheme, answer::Answer, host};

/// Where a page syncs: `{ "version": 1, "sync": "wss://..." }`, and if this KUBE is not the only one that holds its documents,
/// `"others": ["wss://..."]`, in the order to try them.
const CONFIG: &str = "/.well-known/kube/config";
/// What is served here: `{ "version": 1, "apps": [{ "name": "...", "url": "https://..." }] }`, the app at the apex first.
const APPS: &str = "/.well-known/kube/apps";

/// What this KUBE says of itself.
pub(crate) struct Discovery<'a> {
    pub scheme: Scheme,
    pub domain: &'a str,
    /// The app at the apex.
    pub home: &'a str,
    /// The path at which pages sync on their own host.
    pub sync: &'a str,
    /// Where pages may sync too, when this KUBE is away.
    pub others: &'a [String],
    /// The apps to list; none when nobody is to be told.
    pub sites: Option<&'a Sites>,
}

impl Discovery<'_> {
    /// The answer, if this is asked.
    pub(crate) fn answer(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Answer<'static>> {
        if ![CONFIG, APPS].contains(&uri.path()) {
            return None;
        }
        let authority = host::authority(uri, headers)?;
        let value = match (uri.path(), self.sites) {
            (CONFIG, _) => {
                let scheme = match self.scheme {
                    Scheme::Http => "ws",
                    Scheme::Https => "wss",
                };
                let mut value = json!({ "version": 1, "sync": format!("{scheme}://{authority}{}", self.sync) });
                if !self.others.is_empty() {
                    value["others"] = self.others.into();
                }
                value
            }
            (APPS, Some(sites)) => {
                let port = authority.rfind(':').map_or("", |colon| &authority[colon..]);
                let (scheme, domain) = (self.scheme, self.domain);
                let home = sites.contains_key(self.home).then(|| (self.home, format!("{scheme}://{domain}{port}/")));
                let others = sites.keys().filter(|name| *name != self.home);
                let others = others.map(|name| (name.as_str(), format!("{scheme}://{name}.{domain}{port}/")));
                let apps: Vec<_> =
                    home.into_iter().chain(others).map(|(name, url)| json!({ "name": name, "url": url })).collect();
                json!({ "version": 1, "apps": apps })
            }
            _ => return None,
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Some(Answer::not_allowed());
        }
        let mut answer = Answer::text(StatusCode::OK, value.to_string());
        answer.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use kube_manifest::{Manifest, Missing, Site};

    use super::*;
    use crate::answer::Content;

    fn ask(discovery: &Discovery<'_>, method: Method, path: &str, host: &str) -> Option<(u16, String)> {
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(host).unwrap())]);
        let answer = discovery.answer(&method, &path.parse().unwrap(), &headers)?;
        let Content::Text(text) = answer.content else { panic!("no text") };
        Some((answer.status.as_u16(), text.into_owned()))
    }

    fn sites(names: &[&str]) -> Sites {
        let site = |name: &&str| {
            let (domains, manifest, blobs) = (Vec::new(), Manifest::default(), Path::new("/").into());
            let site = Site { name: name.to_string(), domains, manifest, missing: Missing::Auto, blobs };
            (name.to_string(), Arc::new(site))
        };
        names.iter().map(site).collect()
    }

    #[test]
    fn a_page_learns_where_it_syncs() {
        let (scheme, domain, home, sync) = (Scheme::Https, "kube.test", "welcome", "/sync");
        let https = Discovery { scheme, domain, home, sync, others: &[], sites: None };
        let http = Discovery { scheme: Scheme::Http, ..https };
        for (discovery, host, sync) in [
            (&https, "shop.kube.test", "wss://shop.kube.test/sync"),
            (&https, "shop.kube.test:8443", "wss://shop.kube.test:8443/sync"),
            (&http, "localhost:8080", "ws://localhost:8080/sync"),
        ] {
            let text = format!("{{\"sync\":\"{sync}\",\"version\":1}}");
            assert_eq!(ask(discovery, Method::GET, CONFIG, host), Some((200, text)));
        }
        let others = ["wss://sync.other.test/".to_owned()];
        let text = r#"{"others":["wss://sync.other.test/"],"sync":"wss://kube.test/sync","version":1}"#.to_owned();
        let with_others = Discovery { others: &others, ..https };
        assert_eq!(ask(&with_others, Method::GET, CONFIG, "kube.test"), Some((200, text)));
        assert_eq!(ask(&https, Method::POST, CONFIG, "kube.test").map(|(status, _)| status), Some(405));
        assert_eq!(ask(&https, Method::GET, "/.well-known/kube/other", "kube.test"), None);
    }

    #[test]
    fn the_apps_are_listed_home_first_or_not_at_all() {
        let sites = sites(&["atlas", "shop", "welcome"]);
        let (scheme, domain, home, sync) = (Scheme::Https, "kube.test", "shop", "/");
        let mut discovery = Discovery { scheme, domain, home, sync, others: &[], sites: Some(&sites) };
        let (_, text) = ask(&discovery, Method::GET, APPS, "kube.test:8443").unwrap();
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        let urls: Vec<_> = list["apps"].as_array().unwrap().iter().map(|app| app["url"].as_str().unwrap()).collect();
        assert_eq!(
            urls,
            ["https://kube.test:8443/", "https://atlas.kube.test:8443/", "https://welcome.kube.test:8443/"]
        );
        discovery.sites = None;
        assert_eq!(ask(&discovery, Method::GET, APPS, "kube.test"), None);
    }
}
