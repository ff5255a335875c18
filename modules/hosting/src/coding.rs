//! Pure: which form of a file a client gets, [RFC 9110 section 12.5.3](https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3).
use http::{HeaderMap, header};
use kube_manifest::{Coding, Entry, File};

/// What an `Accept-Encoding` gives each coding: thousandths, nothing for what it does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weights {
    brotli: Option<u16>,
    zstd: Option<u16>,
    gzip: Option<u16>,
    identity: Option<u16>,
    /// `*`: what is not named.
    rest: Option<u16>,
}

/// The file of `entry` that a client with these headers likes best, the smallest among equals; and its coding.
///
/// A client that says nothing gets the file itself: it may be a program that decodes nothing. So does one that forbids even
/// that and accepts no other form, as [section 12.4.1](https://www.rfc-editor.org/rfc/rfc9110#section-12.4.1) allows: it can
/// still be of use, a 406 cannot.
pub(crate) fn choose<'a>(entry: &'a Entry, headers: &HeaderMap) -> (&'a File, Option<Coding>) {
    let itself = (&entry.file, None);
    if entry.encoded.is_empty() {
        return itself;
    }
    let weights = Weights::of(headers);
    // The file itself is the largest, and counts least unless it is named.
    let (mut best, mut most) = (itself, weights.identity.or(weights.rest).unwrap_or(0));
    for (coding, file) in entry.encoded.iter().rev() {
        let weight = weights.named(*coding).or(weights.rest).unwrap_or(0);
        if weight > 0 && weight >= most {
            (best, most) = ((file, Some(*coding)), weight);
        }
    }
    best
}

impl Weights {
    fn of(headers: &HeaderMap) -> Self {
        let mut weights = Self::default();
        let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
        for item in lines.flat_map(|line| line.split(',')) {
            let (coding, parameter) = item.split_once(';').map_or((item, None), |(coding, rest)| (coding, Some(rest)));
            let Some(weight) = parameter.map_or(Some(1000), weight) else {
                continue;
            };
            let coding = coding.trim_matches(SPACE);
            let is = |name: &str| coding.eq_ignore_ascii_case(name);
            let place = match () {
                () if is("br") => &mut weights.brotli,
                () if is("zstd") => &mut weights.zstd,
                () if is("gzip") || is("x-gzip") => &mut weights.gzip,
                () if is("identity") => &mut weights.identity,
                () if is("*") => &mut weights.rest,
                () => continue,
            };
            *place = Some(weight);
        }
        weights
    }

    fn named(&self, coding: Coding) -> Option<u16> {
        match coding {
            Coding::Brotli => self.brotli,
            Coding::Zstd => self.zstd,
            Coding::Gzip => self.gzip,
        }
    }
}

const SPACE: [char; 2] = [' ', '\t'];

/// `q=0.25` in thousandths; `None` for what is no weight.
fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.trim_matches(SPACE).split_once('=')?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if !name.eq_ignore_ascii_case("q") || fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain([b'0'; 3]).take(3);
    match (whole, digits.fold(0, |number, digit| 10 * number + u16::from(digit - b'0'))) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::HeaderValue;
    use kube_manifest::{Hash, Manifest};
    use proptest::prelude::*;

    use super::*;

    /// A file of 100 bytes with these forms beside it.
    fn entry(forms: &[(&str, u64)]) -> Entry {
        let file = |size| File { hash: Hash([0; 32]), size, modified: SystemTime::UNIX_EPOCH };
        let files = [("x".to_owned(), file(100))];
        let forms = forms.iter().map(|(end, size)| (format!("x.{end}"), file(*size)));
        files.into_iter().chain(forms).collect::<Manifest>().entry("x").unwrap().clone()
    }

    fn chosen(entry: &Entry, lines: &[&str]) -> &'static str {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::ACCEPT_ENCODING, HeaderValue::from_str(line).unwrap());
        }
        match choose(entry, &headers).1 {
            None => "identity",
            Some(Coding::Brotli) => "br",
            Some(Coding::Zstd) => "zstd",
            Some(Coding::Gzip) => "gzip",
        }
    }

    #[test]
    fn a_client_gets_what_it_likes_best_and_of_equals_the_smallest() {
        let all = entry(&[("br", 20), ("zst", 30), ("gz", 40)]);
        for (line, want) in [
            ("gzip, deflate, br, zstd", "br"),
            ("gzip, deflate, zstd", "zstd"),
            ("gzip, deflate", "gzip"),
            ("GZip", "gzip"),
            ("x-gzip", "gzip"),
            ("deflate", "identity"),
            ("", "identity"),
            (" , ,", "identity"),
            ("br;q=0.5, gzip;q=0.8", "gzip"),
            ("br;q=0.8, gzip;q=0.80", "br"),
            ("br ; Q=0.001\t, compress", "br"),
            ("br;q=0, gzip;q=0.000", "identity"),
            ("br;q=0,*", "zstd"),
            ("*", "br"),
            ("*;q=0", "identity"),
            ("*;q=0, gzip;q=0.1", "gzip"),
            ("gzip;q=0.5", "gzip"),
            ("identity, gzip;q=0.5", "identity"),
            ("identity;q=0.5, gzip;q=0.5", "gzip"),
            ("identity;q=0.4, gzip;q=0.5", "gzip"),
            ("identity;q=1, *;q=0", "identity"),
            ("identity;q=0, gzip", "gzip"),
            ("identity;q=0", "identity"),
            ("br;q=1.000", "br"),
            // What is no weight makes no offer.
            ("br;q=1.001, gzip", "gzip"),
            ("br;q=0.1234, gzip;q=0.1", "gzip"),
            ("br;q=2, gzip", "gzip"),
            ("br;q=, gzip", "gzip"),
            ("br;q=-1, gzip", "gzip"),
            ("br;q=.5, gzip", "gzip"),
            ("br;level=5, gzip", "gzip"),
            ("br;, gzip", "gzip"),
            ("b r, gzip", "gzip"),
        ] {
            assert_eq!(chosen(&all, &[line]), want, "{line:?}");
        }
        assert_eq!(chosen(&all, &[]), "identity", "nothing said");
        assert_eq!(chosen(&all, &["gzip", "br;q=0.5"]), "gzip", "several lines are one list");
    }

    #[test]
    fn a_form_that_is_not_there_is_not_offered() {
        let gzip = entry(&[("gz", 40)]);
        for (line, want) in [("gzip, br, zstd", "gzip"), ("br", "identity"), ("br, identity;q=0", "identity")] {
            assert_eq!(chosen(&gzip, &[line]), want, "{line:?}");
        }
        assert_eq!(chosen(&entry(&[]), &["gzip, br"]), "identity");
        assert_eq!(chosen(&entry(&[("gz", 20), ("br", 30)]), &["br, gzip"]), "gzip", "the smallest");
    }

    proptest! {
        #[test]
        fn any_header_is_read(lines in prop::collection::vec("[ -~\t\u{80}-\u{ff}]{0,60}", 0..4)) {
            let mut headers = HeaderMap::new();
            for line in &lines {
                headers.append(header::ACCEPT_ENCODING, HeaderValue::from_str(line).unwrap());
            }
            choose(&entry(&[("br", 20), ("gz", 40)]), &headers);
        }

        #[test]
        fn nothing_is_sent_that_a_client_forbids(
            items in prop::collection::vec(("(br|gzip|zstd|identity|\\*)", 0u16..1002), 0..6),
        ) {
            let item = |(coding, weight): &(String, u16)| match weight {
                1001 => coding.clone(),
                1000 => format!("{coding};q=1"),
                weight => format!("{coding};q=0.{weight:03}"),
            };
            let line = items.iter().map(item).collect::<Vec<_>>().join(", ");
            let got = chosen(&entry(&[("br", 20), ("zst", 30), ("gz", 40)]), &[&line]);
            let last = |name: &str| items.iter().rev().find(|(coding, _)| coding == name).map(|(_, weight)| *weight);
            let weight = |name: &str| last(name).or(last("*"));
            if got == "identity" {
                let own = weight("identity").unwrap_or(0).min(1000);
                prop_assert!(["br", "zstd", "gzip"].iter().all(|name| weight(name).unwrap_or(0).min(1000) <= own));
            } else {
                prop_assert!(weight(got).is_some_and(|weight| weight > 0));
            }
        }
    }
}
