//! Pure: entries of a zone file, word by word, and those of types that the parser does not know in the form of
//! [RFC 3597](https://www.rfc-editor.org/rfc/rfc3597#section-5), which it does.
use std::borrow::Cow;

use super::{
    Wrong, generic,
    kinds::{self, Raw},
};
use crate::name::Name;

/// An entry: a line, or several with parentheses around their ends.
struct Entry<'a> {
    words: Vec<Raw<'a>>,
    /// Whether it begins with a blank, so that its owner is the one of the entry before.
    is_indented: bool,
    /// How many lines it has.
    lines: usize,
    /// Its octets, the end of the last line included.
    text: Raw<'a>,
}

/// The text with records as the parser knows them; relative names are below `origin` until the text says another. Lines stay where
/// they are.
///
/// # Errors
/// What is wrong with the data of a record, with its line.
pub(super) fn understood<'a>(text: &'a [u8], origin: Option<&Name>) -> Result<Cow<'a, [u8]>, Wrong> {
    let (mut origin, mut line, mut rest) = (origin.cloned(), 1, text);
    // What is not changed is not copied.
    let mut changed: Option<Vec<u8>> = None;
    while !rest.is_empty() {
        let entry = next(rest);
        if let [directive, word] = *entry.words
            && directive.eq_ignore_ascii_case(b"$ORIGIN")
        {
            // If it is no name, the parser says so.
            let named = str::from_utf8(word).ok().and_then(|word| kinds::name(word, origin.as_ref()).ok());
            origin = named.or(origin);
        }
        let replaced = replaced(&entry, origin.as_ref()).map_err(|wrong| Wrong::Line(format!("{line}: {wrong}")))?;
        if replaced.is_some() && changed.is_none() {
            changed = Some(text[..text.len() - rest.len()].to_vec());
        }
        if let Some(changed) = &mut changed {
            changed.extend(replaced.as_deref().unwrap_or(entry.text));
        }
        line += entry.lines;
        rest = &rest[entry.text.len()..];
    }
    Ok(changed.map_or(Cow::Borrowed(text), Cow::Owned))
}

/// The entry in the form that the parser knows, if that is another.
fn replaced(entry: &Entry<'_>, origin: Option<&Name>) -> Result<Option<Vec<u8>>, String> {
    // Owner, TTL and class in either order, type.
    let first = usize::from(!entry.is_indented);
    let is_head =
        |word: &Raw<'_>| is_ttl(word) || [&b"IN"[..], b"CH", b"HS", b"CS"].iter().any(|c| c.eq_ignore_ascii_case(word));
    let head = entry.words.iter().skip(first).take(2).take_while(|word| is_head(word)).count();
    let (head, data) = entry.words.split_at((first + head).min(entry.words.len()));
    let Some((rtype, data)) = data.split_first().and_then(|(word, data)| Some((kinds::known(word)?, data))) else {
        return Ok(None);
    };
    if data.first().is_some_and(|word| *word == br"\#") {
        return Ok(None);
    }
    let data = kinds::read(rtype, data, origin)?;
    let blank = if entry.is_indented { &b" "[..] } else { b"" };
    let record = format!(" TYPE{} {}", rtype.0, generic(&data));
    let ends = vec![b'\n'; entry.lines];
    Ok(Some([blank, &head.join(&b' '), record.as_bytes(), &ends].concat()))
}

/// Whether a word is a time, like `3600` or `1h30m`.
fn is_ttl(word: Raw<'_>) -> bool {
    word.first().is_some_and(u8::is_ascii_digit)
        && word.iter().all(|octet| octet.is_ascii_digit() || b"smhdwSMHDW".contains(octet))
}

/// The first entry of a text that has one; what is left open goes to the end.
fn next(text: &[u8]) -> Entry<'_> {
    let (mut words, mut at, mut lines, mut depth) = (Vec::new(), 0, 0, 0_usize);
    while let Some(octet) = text.get(at) {
        at += 1;
        match octet {
            b'\n' => {
                lines += 1;
                if depth == 0 {
                    break;
                }
            }
            b';' => at += text[at..].iter().take_while(|octet| **octet != b'\n').count(),
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b' ' | b'\t' | b'\r' => {}
            _ => {
                let word = &text[at - 1..];
                let length = word_length(word);
                words.push(&word[..length]);
                lines += word[..length].iter().filter(|octet| **octet == b'\n').count();
                at = at - 1 + length;
            }
        }
    }
    Entry { words, is_indented: text.first().is_some_and(|octet| b" \t(".contains(octet)), lines, text: &text[..at] }
}

/// Octets of the word that a text begins with.
fn word_length(text: &[u8]) -> usize {
    let is_quoted = text.first() == Some(&b'"');
    let mut at = usize::from(is_quoted);
    while let Some(octet) = text.get(at) {
        match octet {
            b'\\' => at += 1,
            b'"' if is_quoted => return at + 1,
            b' ' | b'\t' | b'\r' | b'\n' | b';' | b'(' | b')' | b'"' if !is_quoted => return at,
            _ => {}
        }
        at += 1;
    }
    at.min(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn changed(text: &str) -> String {
        let origin = "kube.test.".parse().unwrap();
        String::from_utf8(understood(text.as_bytes(), Some(&origin)).unwrap().into_owned()).unwrap()
    }

    #[test]
    fn records_of_other_types_stay_as_they_are() {
        let text = "@ 60 SOA ns ops 1 1 1 1 1 ; LOC\nLOC 60 A 192.0.2.1\n 60 TXT (\n \"LOC 1 N\" ; URI\n )\n\nuri.loc TXT kx\n";
        assert!(matches!(understood(text.as_bytes(), None), Ok(Cow::Borrowed(same)) if same == text.as_bytes()));
        let generic = "a 60 IN LOC \\# 1 00\n";
        assert_eq!(changed(generic), generic);
    }

    #[test]
    fn records_keep_owner_time_class_and_lines() {
        for (text, expected) in [
            ("a 60 IN AFSDB 1 b\n", "a 60 IN TYPE18 \\# 15 00010162046b756265047465737400\n"),
            (" in 1h kx 1 .\n", " in 1h TYPE36 \\# 3 000100\n"),
            ("a ( URI 1 2\n\"x\" ) ; end\nb A 192.0.2.1", "a TYPE256 \\# 5 0001000278\n\nb A 192.0.2.1"),
            ("$ORIGIN .\na EUI48 00-01-02-03-04-ff", "$ORIGIN .\na TYPE108 \\# 6 0001020304ff"),
            ("$ORIGIN b\na RT 1 @\n", "$ORIGIN b\na TYPE21 \\# 15 0001 0162046b756265047465737400\n"),
            ("\\032 type99 a\\\"\\032 \"\"\n", "\\032 TYPE99 \\# 5 0361222000\n"),
        ] {
            let spaced = |text: &str| text.replace(' ', "");
            assert_eq!(spaced(&changed(text)), spaced(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm_and_keeps_its_lines(text in "([a-z0-9.()\";\\\\ \t\n]|LOC|URI|SPF|IN|\\$ORIGIN){0,60}|\\PC{0,60}") {
            if let Ok(changed) = understood(text.as_bytes(), None) {
                let lines = |text: &[u8]| text.iter().filter(|octet| **octet == b'\n').count();
                prop_assert_eq!(lines(&changed), lines(text.as_bytes()));
            }
        }
    }
}
