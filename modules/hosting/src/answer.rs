//! Pure: from a plan to the head of a response, and where its body comes from.
use std::{borrow::Cow, collections::VecDeque, ops::Range, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use kube_manifest::{Coding, File};

use crate::{
    mime::content_type,
    plan::{Found, Part, Plan},
};

const ACCEPT_ENCODING: HeaderValue = HeaderValue::from_static("Accept-Encoding");
const ALLOW: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");
/// A client may keep everything, and asks each time whether it is still so: an app changes under the same names.
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A response, but for the bytes of files.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub content: Content<'a>,
}

/// Where the body comes from.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    Empty,
    Text(Cow<'static, str>),
    /// All of a file.
    Whole(&'a File),
    /// Parts of a file with text between them.
    Pieces(&'a File, VecDeque<Piece>),
}

/// What a body is made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    Text(Bytes),
    /// Bytes of the file.
    Slice(Range<u64>),
}

impl Piece {
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Slice(range) => range.end - range.start,
        }
    }
}

impl<'a> Answer<'a> {
    /// What `plan` comes to. `now` is the time of the response.
    pub(crate) fn to(plan: Plan<'a>, now: SystemTime) -> Self {
        match plan {
            Plan::File(found, Part::Whole) => Self::file(StatusCode::OK, found, now),
            Plan::File(found, Part::Single(range)) => Self::single(found, range, now),
            Plan::File(found, Part::Many(ranges)) => Self::many(found, &ranges, now),
            Plan::OwnMissing(found) => {
                let mut answer = Self::file(StatusCode::NOT_FOUND, found, now);
                // They are of the page, not of what was asked for.
                for name in [header::ETAG, header::LAST_MODIFIED, header::ACCEPT_RANGES] {
                    answer.headers.remove(name);
                }
                answer
            }
            Plan::NotModified(found) => {
                let mut headers = HeaderMap::with_capacity(4);
                vary(&mut headers, &found);
                headers.insert(header::ETAG, value(found.etag.0));
                headers.insert(header::CACHE_CONTROL, NO_CACHE);
                Self { status: StatusCode::NOT_MODIFIED, headers, content: Content::Empty }
            }
            Plan::Failed => Self::text(StatusCode::PRECONDITION_FAILED, "The file is not the one that you have.\n"),
            Plan::Unsatisfiable(found) => {
                let text = "The file has no such bytes.\n";
                Self::text(StatusCode::RANGE_NOT_SATISFIABLE, text)
                    .with(header::CONTENT_RANGE, value(format!("bytes */{}", found.file.size)))
            }
            Plan::Moved(location) => Self::moved(&location),
            Plan::Malformed => Self::text(StatusCode::BAD_REQUEST, "This address is not written as it should be.\n"),
            Plan::Missing => Self::text(StatusCode::NOT_FOUND, "There is nothing at this address.\n"),
            Plan::Options => {
                let headers = HeaderMap::from_iter([(header::ALLOW, ALLOW)]);
                Self { status: StatusCode::NO_CONTENT, headers, content: Content::Empty }
            }
            Plan::NotAllowed => Self::not_allowed(),
        }
    }

    /// Nothing here is changed by a request.
    pub(crate) fn not_allowed() -> Self {
        let text = "Files are read here: GET and HEAD.\n";
        Self::text(StatusCode::METHOD_NOT_ALLOWED, text).with(header::ALLOW, ALLOW)
    }

    /// A few words for a person.
    pub(crate) fn text(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::CONTENT_TYPE, PLAIN);
        headers.insert(header::CONTENT_LENGTH, text.len().into());
        headers.insert(header::CACHE_CONTROL, NO_CACHE);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        Self { status, headers, content: Content::Text(text) }
    }

    /// 308, which keeps the method.
    pub(crate) fn moved(location: &str) -> Self {
        match HeaderValue::from_str(location) {
            Ok(location) => {
                Self::text(StatusCode::PERMANENT_REDIRECT, "It is elsewhere.\n").with(header::LOCATION, location)
            }
            Err(_) => Self::to(Plan::Malformed, SystemTime::UNIX_EPOCH),
        }
    }

    fn with(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    fn file(status: StatusCode, found: Found<'a>, now: SystemTime) -> Self {
        let mut headers = HeaderMap::with_capacity(10);
        headers.insert(header::CONTENT_TYPE, content_type(&found.path));
        if let Some(coding) = found.coding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name(coding)));
        }
        vary(&mut headers, &found);
        headers.insert(header::CONTENT_LENGTH, found.file.size.into());
        headers.insert(header::ETAG, value(found.etag.0));
        // Not later than the response itself: RFC 9110 section 8.8.2.1.
        let modified = found.file.modified.clamp(SystemTime::UNIX_EPOCH, now.max(SystemTime::UNIX_EPOCH));
        headers.insert(header::LAST_MODIFIED, value(httpdate::fmt_http_date(modified)));
        headers.insert(header::ACCEPT_RANGES, BYTES);
        headers.insert(header::CACHE_CONTROL, NO_CACHE);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        Self { status, headers, content: Content::Whole(found.file) }
    }

    fn single(found: Found<'a>, range: Range<u64>, now: SystemTime) -> Self {
        let file = found.file;
        let mut answer = Self::file(StatusCode::PARTIAL_CONTENT, found, now);
        answer.headers.insert(header::CONTENT_RANGE, value(content_range(&range, file)));
        answer.headers.insert(header::CONTENT_LENGTH, (range.end - range.start).into());
        answer.content = Content::Pieces(file, [Piece::Slice(range)].into());
        answer
    }

    fn many(found: Found<'a>, ranges: &[Range<u64>], now: SystemTime) -> Self {
        let file = found.file;
        // A file cannot be made to contain part of its own hash, so this never occurs in a part.
        let boundary = format!("kube-{}", &found.etag.0[1..41]);
        let mut answer = Self::file(StatusCode::PARTIAL_CONTENT, found, now);
        let multipart = value(format!("multipart/byteranges; boundary={boundary}"));
        let media = answer.headers.insert(header::CONTENT_TYPE, multipart);
        let media = media.as_ref().and_then(|media| media.to_str().ok()).unwrap_or_default();
        let mut pieces = VecDeque::with_capacity(2 * ranges.len() + 1);
        for range in ranges {
            let of = content_range(range, file);
            let head = format!("\r\n--{boundary}\r\nContent-Type: {media}\r\nContent-Range: {of}\r\n\r\n");
            pieces.push_back(Piece::Text(head.into()));
            pieces.push_back(Piece::Slice(range.clone()));
        }
        pieces.push_back(Piece::Text(format!("\r\n--{boundary}--\r\n").into()));
        let size: u64 = pieces.iter().map(Piece::size).sum();
        answer.headers.insert(header::CONTENT_LENGTH, size.into());
        answer.content = Content::Pieces(file, pieces);
        answer
    }
}

/// Tells caches what the form of a file depends on, whichever they got.
fn vary(headers: &mut HeaderMap, found: &Found<'_>) {
    if found.varies {
        headers.insert(header::VARY, ACCEPT_ENCODING);
    }
}

/// As the registry of content codings has it.
fn name(coding: Coding) -> &'static str {
    match coding {
        Coding::Brotli => "br",
        Coding::Zstd => "zstd",
        Coding::Gzip => "gzip",
    }
}

fn content_range(range: &Range<u64>, file: &File) -> String {
    format!("bytes {}-{}/{}", range.start, range.end - 1, file.size)
}

fn value(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("numbers, dates, hashes and our own words are ASCII")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube_manifest::Hash;

    use super::*;
    use crate::plan::Etag;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn file(size: u64) -> File {
        File { hash: Hash([0; 32]), size, modified: SystemTime::UNIX_EPOCH + Duration::from_secs(1000) }
    }

    fn found(file: &File) -> Found<'_> {
        let etag = Etag(format!("\"{}\"", file.hash));
        Found { path: "a.css".into(), file, coding: None, varies: false, etag }
    }

    #[test]
    fn a_file_carries_what_a_client_needs_to_keep_it() {
        let file = file(7);
        let later = NOW + Duration::from_secs(5000);
        let answer = Answer::to(Plan::File(found(&file), Part::Whole), later);
        assert_eq!(answer.status, 200);
        for (name, want) in [
            ("content-type", "text/css; charset=utf-8"),
            ("content-length", "7"),
            ("etag", "\"0000000000000000000000000000000000000000000000000000000000000000\""),
            ("last-modified", "Thu, 01 Jan 1970 00:16:40 GMT"),
            ("accept-ranges", "bytes"),
            ("cache-control", "no-cache"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(answer.headers[name], want);
        }
    }

    #[test]
    fn an_encoded_file_says_how_and_every_form_says_that_there_are_others() {
        let file = file(7);
        for (coding, name) in [
            (None, None),
            (Some(Coding::Brotli), Some("br")),
            (Some(Coding::Zstd), Some("zstd")),
            (Some(Coding::Gzip), Some("gzip")),
        ] {
            let found = Found { coding, varies: true, ..found(&file) };
            for plan in [
                Plan::File(found.clone(), Part::Whole),
                Plan::File(found.clone(), Part::Single(0..2)),
                Plan::OwnMissing(found.clone()),
            ] {
                let headers = Answer::to(plan, NOW).headers;
                assert_eq!(headers.get("content-encoding").map(|value| value.to_str().unwrap()), name);
                assert_eq!((&headers["vary"], &headers["content-type"]), (&ACCEPT_ENCODING, &content_type("a.css")));
            }
            assert_eq!(Answer::to(Plan::NotModified(found), NOW).headers["vary"], "Accept-Encoding");
        }
        assert!(!Answer::to(Plan::File(found(&file), Part::Whole), NOW).headers.contains_key("vary"));
    }

    #[test]
    fn a_file_from_the_future_was_changed_now() {
        let file = file(7);
        let answer = Answer::to(Plan::File(found(&file), Part::Whole), NOW + Duration::from_secs(1));
        assert_eq!(answer.headers["last-modified"], "Thu, 01 Jan 1970 00:00:01 GMT");
    }

    #[test]
    fn many_ranges_are_one_multipart_body_of_known_length() {
        let file = file(100);
        let answer = Answer::to(Plan::File(found(&file), Part::Many(vec![0..1, 5..7])), NOW);
        assert_eq!(answer.status, 206);
        let boundary = format!("kube-{}", "0".repeat(40));
        assert_eq!(answer.headers["content-type"], format!("multipart/byteranges; boundary={boundary}"));
        let Content::Pieces(_, pieces) = answer.content else { panic!("no pieces") };
        let size: u64 = pieces.iter().map(Piece::size).sum();
        assert_eq!(answer.headers["content-length"], size.to_string());
        let head = |of: &str| {
            let media = "text/css; charset=utf-8";
            Piece::Text(format!("\r\n--{boundary}\r\nContent-Type: {media}\r\nContent-Range: {of}\r\n\r\n").into())
        };
        let end = Piece::Text(format!("\r\n--{boundary}--\r\n").into());
        let want = [head("bytes 0-0/100"), Piece::Slice(0..1), head("bytes 5-6/100"), Piece::Slice(5..7), end];
        assert_eq!(pieces, want);
    }

    #[test]
    fn refusals_say_what_would_do() {
        let file = file(9);
        let answer = Answer::to(Plan::Unsatisfiable(found(&file)), NOW);
        assert_eq!((answer.status.as_u16(), &answer.headers["content-range"]), (416, &value("bytes */9".into())));
        let answer = Answer::to(Plan::NotAllowed, NOW);
        assert_eq!((answer.status.as_u16(), &answer.headers["allow"]), (405, &ALLOW));
        let answer = Answer::to(Plan::OwnMissing(found(&file)), NOW);
        assert_eq!(answer.status, 404);
        assert!(!answer.headers.contains_key("etag"));
        let answer = Answer::to(Plan::NotModified(found(&file)), NOW);
        assert_eq!(answer.status, 304);
        assert!(!answer.headers.contains_key("content-length"));
    }
}
