//! Pure: from a request and an app to what is answered.
use std::{borrow::Cow, fmt::Write, ops::Range};

use http::{HeaderMap, Method, header};
use kube_manifest::{Coding, Entry, File, Missing, Site};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::{
    coding,
    condition::{Validators, Verdict},
    path::{self, Refused},
    range::{self, Asked},
};

/// What a request says, as far as files are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub method: &'a Method,
    /// As it came, with its escapes.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Plan<'a> {
    /// A file, or part of it.
    File(Found<'a>, Part),
    /// 404 with the app's own page.
    OwnMissing(Found<'a>),
    /// 304.
    NotModified(Found<'a>),
    /// 412.
    Failed,
    /// 416.
    Unsatisfiable(Found<'a>),
    /// 308 to this path and query.
    Moved(String),
    /// 400.
    Malformed,
    /// 404.
    Missing,
    /// 204, with the methods that there are.
    Options,
    /// 405.
    NotAllowed,
}

/// A file of the manifest, in the form that the client gets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found<'a> {
    /// Its path, which gives its media type.
    pub path: Cow<'a, str>,
    /// What is sent.
    pub file: &'a File,
    /// How that is encoded.
    pub coding: Option<Coding>,
    /// Whether another client may get another form.
    pub varies: bool,
    pub etag: Etag,
}

impl<'a> Found<'a> {
    fn new(path: Cow<'a, str>, entry: &'a Entry, headers: &HeaderMap) -> Self {
        let (file, coding) = coding::choose(entry, headers);
        Self { path, file, coding, varies: !entry.encoded.is_empty(), etag: Etag::of(file) }
    }
}

/// How much of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    Whole,
    Single(Range<u64>),
    Many(Vec<Range<u64>>),
}

/// A strong entity tag: the content's hash in quotes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Etag(pub String);

impl Etag {
    fn of(file: &File) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut tag = String::with_capacity(66);
        tag.push('"');
        for byte in file.hash.0 {
            tag.push(char::from(DIGITS[usize::from(byte >> 4)]));
            tag.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        tag.push('"');
        Self(tag)
    }
}

/// Escaped in a `Location`: everything that could end a path, or make it another host's.
const UNSAFE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Decides what `site` answers to `ask`.
pub(crate) fn plan<'a>(site: &'a Site, ask: &Ask<'a>) -> Plan<'a> {
    if *ask.method == Method::OPTIONS {
        return Plan::Options;
    }
    if *ask.method != Method::GET && *ask.method != Method::HEAD {
        return Plan::NotAllowed;
    }
    let path = match path::decode(ask.path) {
        Ok(path) => path,
        Err(Refused::Malformed) => return Plan::Malformed,
        Err(Refused::Hidden) => return missing(site, ask),
    };
    if path.is_empty() || path.ends_with('/') {
        let index: Cow<'_, str> =
            if path.is_empty() { "index.html".into() } else { format!("{path}index.html").into() };
        return match site.manifest.entry(&index) {
            Some(entry) => found(index, entry, ask),
            None => fallback(site, &path, ask),
        };
    }
    if let Some(entry) = site.manifest.entry(&path) {
        return found(path, entry, ask);
    }
    if site.manifest.file(&format!("{path}/index.html")).is_some() {
        return Plan::Moved(with_slash(&path, ask.query));
    }
    fallback(site, &path, ask)
}

fn found<'a>(path: Cow<'a, str>, entry: &'a Entry, ask: &Ask<'_>) -> Plan<'a> {
    let found = Found::new(path, entry, ask.headers);
    let validators = Validators { etag: &found.etag.0, modified: found.file.modified, varies: found.varies };
    match validators.judge(ask.headers) {
        Verdict::Failed => return Plan::Failed,
        Verdict::NotModified => return Plan::NotModified(found),
        Verdict::Proceed => {}
    }
    // Ranges are of GET alone: RFC 9110 section 14.2.
    let header = ask.headers.get(header::RANGE).filter(|_| *ask.method == Method::GET);
    let asked = match header.map(|header| header.to_str()) {
        Some(Ok(header)) if validators.range_counts(ask.headers) => range::asked(header, found.file.size),
        Some(_) | None => Asked::Whole,
    };
    match asked {
        Asked::Whole => Plan::File(found, Part::Whole),
        Asked::Unsatisfiable => Plan::Unsatisfiable(found),
        Asked::Ranges(mut ranges) if ranges.len() == 1 => Plan::File(found, Part::Single(ranges.remove(0))),
        // A `Content-Encoding` would be of the whole body, and the lines between the parts are not encoded.
        Asked::Ranges(_) if found.coding.is_some() => Plan::File(found, Part::Whole),
        Asked::Ranges(ranges) => Plan::File(found, Part::Many(ranges)),
    }
}

/// What a path that names no file gets.
fn fallback<'a>(site: &'a Site, path: &str, ask: &Ask<'_>) -> Plan<'a> {
    let index = match site.missing {
        Missing::Index => true,
        Missing::Auto => looks_like_a_page(path) && site.manifest.file("404.html").is_none(),
        Missing::NotFound => false,
    };
    match site.manifest.entry("index.html").filter(|_| index) {
        Some(entry) => found("index.html".into(), entry, ask),
        None => missing(site, ask),
    }
}

fn missing<'a>(site: &'a Site, ask: &Ask<'_>) -> Plan<'a> {
    match site.manifest.entry("404.html") {
        Some(entry) => Plan::OwnMissing(Found::new("404.html".into(), entry, ask.headers)),
        None => Plan::Missing,
    }
}

/// A page's path has no extension, or a page's; a missing script must not be answered with a page.
fn looks_like_a_page(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').is_none_or(|(_, extension)| extension == "html" || extension == "htm")
}

/// The path of a folder, which begins with exactly one slash, and the query.
fn with_slash(path: &str, query: Option<&str>) -> String {
    let mut location = format!("/{}/", utf8_percent_encode(path, UNSAFE));
    if let Some(query) = query {
        write!(location, "?{query}").expect("a string takes all");
    }
    location
}

#[cfg(test)]
mod tests;
