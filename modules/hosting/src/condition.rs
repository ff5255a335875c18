//! Pure: conditional requests, [RFC 9110 section 13](https://www.rfc-editor.org/rfc/rfc9110#section-13).
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validators<'a> {
    /// The strong entity tag, in its quotes.
    pub etag: &'a str,
    /// When the file was last changed.
    pub modified: SystemTime,
    /// Whether there are several forms of the file, which may well have been changed at the same time.
    pub varies: bool,
}

/// What the conditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Do what is asked.
    Proceed,
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client believes.
    Failed,
}

impl Validators<'_> {
    /// Judges the conditions of a GET or HEAD in the order of
    /// [section 13.2.2](https://www.rfc-editor.org/rfc/rfc9110#section-13.2.2).
    pub(crate) fn judge(&self, headers: &HeaderMap) -> Verdict {
        if headers.contains_key(header::IF_MATCH) {
            if !self.listed(headers, header::IF_MATCH, false) {
                return Verdict::Failed;
            }
        } else if date(headers, header::IF_UNMODIFIED_SINCE).is_some_and(|date| self.seconds() > date) {
            return Verdict::Failed;
        }
        if headers.contains_key(header::IF_NONE_MATCH) {
            if self.listed(headers, header::IF_NONE_MATCH, true) {
                return Verdict::NotModified;
            }
        } else if date(headers, header::IF_MODIFIED_SINCE).is_some_and(|date| self.seconds() <= date) {
            return Verdict::NotModified;
        }
        Verdict::Proceed
    }

    /// Whether a `Range` counts: there is no `If-Range`, or it names exactly this state.
    pub(crate) fn range_counts(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(header::IF_RANGE) else {
            return true;
        };
        match value.to_str() {
            // Strong comparison: a weak tag never matches.
            Ok(tag) if tag.contains('"') => tag == self.etag,
            Ok(_) => !self.varies && date(headers, header::IF_RANGE) == Some(self.seconds()),
            Err(_) => false,
        }
    }

    /// Whether the header is `*` or lists the tag; a weak tag counts only where `weak` comparison is asked for.
    fn listed(&self, headers: &HeaderMap, name: HeaderName, weak: bool) -> bool {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|mut list| {
            loop {
                list = list.trim_start_matches([' ', '\t', ',']);
                if list == "*" {
                    return true;
                }
                let (is_weak, rest) = list.strip_prefix("W/").map_or((false, list), |rest| (true, rest));
                let Some(end) = rest.strip_prefix('"').and_then(|tag| tag.find('"')) else {
                    return false;
                };
                let (tag, after) = rest.split_at(end + 2);
                if tag == self.etag && (weak || !is_weak) {
                    return true;
                }
                list = after;
            }
        })
    }

    /// HTTP dates have whole seconds.
    fn seconds(&self) -> Duration {
        Duration::from_secs(self.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
    }
}

/// The date of a header, since the epoch; `None` when it is missing or no date, which is to be ignored.
fn date(headers: &HeaderMap, name: HeaderName) -> Option<Duration> {
    let value = headers.get(name)?.to_str().ok()?;
    httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn validators() -> Validators<'static> {
        // Half a second past `AT`, as file times are.
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_500);
        Validators { etag: "\"a\"", modified, varies: false }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn conditions_have_their_precedence() {
        use Verdict::{Failed, NotModified, Proceed};
        for (pairs, want) in [
            (&[][..], Proceed),
            (&[("if-none-match", "\"a\"")], NotModified),
            (&[("if-none-match", "W/\"a\"")], NotModified),
            (&[("if-none-match", "\"b\", W/\"c,\" ,\"a\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"b\"")], Proceed),
            (&[("if-none-match", "a")], Proceed),
            (&[("if-none-match", "\"a")], Proceed),
            (&[("if-none-match", "\"b\""), ("if-modified-since", AFTER)], Proceed),
            (&[("if-none-match", "\"a\""), ("if-modified-since", BEFORE)], NotModified),
            (&[("if-modified-since", AT)], NotModified),
            (&[("if-modified-since", AFTER)], NotModified),
            (&[("if-modified-since", BEFORE)], Proceed),
            (&[("if-modified-since", "yesterday")], Proceed),
            (&[("if-match", "\"a\"")], Proceed),
            (&[("if-match", "*")], Proceed),
            (&[("if-match", "\"b\",\"a\"")], Proceed),
            (&[("if-match", "W/\"a\"")], Failed),
            (&[("if-match", "\"b\"")], Failed),
            (&[("if-match", "\"b\""), ("if-none-match", "\"a\"")], Failed),
            (&[("if-match", "\"a\""), ("if-none-match", "\"a\"")], NotModified),
            (&[("if-match", "\"a\""), ("if-unmodified-since", BEFORE)], Proceed),
            (&[("if-unmodified-since", BEFORE)], Failed),
            (&[("if-unmodified-since", AT)], Proceed),
            (&[("if-unmodified-since", AFTER), ("if-modified-since", AFTER)], NotModified),
            (&[("if-unmodified-since", "soon")], Proceed),
        ] {
            assert_eq!(validators().judge(&headers(pairs)), want, "{pairs:?}");
        }
    }

    #[test]
    fn a_tag_counts_on_any_of_several_lines() {
        let lines = headers(&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")]);
        assert_eq!(validators().judge(&lines), Verdict::NotModified);
    }

    #[test]
    fn if_range_wants_exactly_this_state() {
        for (value, counts) in [
            ("\"a\"", true),
            ("W/\"a\"", false),
            ("\"b\"", false),
            (AT, true),
            (BEFORE, false),
            (AFTER, false),
            ("junk", false),
        ] {
            assert_eq!(validators().range_counts(&headers(&[("if-range", value)])), counts, "{value}");
        }
        assert!(validators().range_counts(&HeaderMap::new()));
    }

    #[test]
    fn a_date_does_not_tell_one_form_of_a_file_from_another() {
        let validators = Validators { varies: true, ..validators() };
        for (value, counts) in [("\"a\"", true), (AT, false)] {
            assert_eq!(validators.range_counts(&headers(&[("if-range", value)])), counts, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_judged(value in "[ -~]{0,40}", list in "((W/)?\"[a-c,]*\"|[*, \"]){0,8}") {
            let mut headers = HeaderMap::new();
            for name in [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_RANGE] {
                headers.append(&name, HeaderValue::from_str(&value).unwrap());
                headers.append(&name, HeaderValue::from_str(&list).unwrap());
            }
            let _verdict = validators().judge(&headers);
            let _counts = validators().range_counts(&headers);
        }
    }
}
