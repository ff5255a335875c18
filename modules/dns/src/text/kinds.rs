//! Pure: record data in words, of the types that the parser of zones does not know: each is a row of a table.
use std::fmt::Write as _;

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};

use super::loc;
use crate::{
    name::{Name, length},
    rtype::Rtype,
};

/// A word as it is written, quotation marks included.
pub(super) type Raw<'a> = &'a [u8];

/// A part of record data.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// A number of one octet.
    Octet,
    /// A number of two.
    Short,
    /// A number of two that may be one of these words.
    Word(&'static [(&'static str, u16)]),
    /// A number of one octet that may be one of these words.
    Algorithm(&'static [(&'static str, u16)]),
    /// A domain name.
    Name,
    /// Character strings to the end, one or more.
    Strings,
    /// A text to the end, without its length.
    Text,
    /// Hexadecimal digits to the end, in any number of words.
    Hex,
    /// Base 64 to the end, in any number of words.
    Base64,
    /// So many octets with hyphens between them.
    Hyphens(usize),
    /// A place on Earth.
    Place,
}

use Part::{Algorithm, Base64, Hex, Hyphens, Octet, Place, Short, Strings, Text, Word};

/// [RFC 4398, section 2.1](https://www.rfc-editor.org/rfc/rfc4398#section-2.1).
const CERTIFICATES: &[(&str, u16)] = &[
    ("PKIX", 1),
    ("SPKI", 2),
    ("PGP", 3),
    ("IPKIX", 4),
    ("ISPKI", 5),
    ("IPGP", 6),
    ("ACPKIX", 7),
    ("IACPKIX", 8),
    ("URI", 253),
    ("OID", 254),
];
/// [The IANA's list](https://www.iana.org/assignments/dns-sec-alg-numbers).
const ALGORITHMS: &[(&str, u16)] = &[
    ("RSAMD5", 1),
    ("DH", 2),
    ("DSA", 3),
    ("RSASHA1", 5),
    ("RSASHA256", 8),
    ("RSASHA512", 10),
    ("ECDSAP256SHA256", 13),
    ("ECDSAP384SHA384", 14),
    ("ED25519", 15),
    ("ED448", 16),
];

/// A type, its name, its data, and an example of it.
struct Kind {
    rtype: Rtype,
    name: &'static str,
    parts: &'static [Part],
    example: &'static str,
}

const fn kind(rtype: u16, name: &'static str, parts: &'static [Part], example: &'static str) -> Kind {
    Kind { rtype: Rtype(rtype), name, parts, example }
}

const KINDS: [Kind; 11] = [
    // RFC 1183, sections 1 and 3.3.
    kind(18, "AFSDB", &[Short, Part::Name], "1 afsdb.example.org."),
    kind(21, "RT", &[Short, Part::Name], "10 relay.example.org."),
    // RFC 1876.
    kind(29, "LOC", &[Place], "52 22 23 N 4 53 32 E -2m"),
    // RFC 2230, section 3.
    kind(36, "KX", &[Short, Part::Name], "10 kx.example.org."),
    // RFC 4398, section 2.2.
    kind(37, "CERT", &[Word(CERTIFICATES), Short, Algorithm(ALGORITHMS), Base64], "PGP 0 0 mQENBF=="),
    // RFC 4701, section 3.2.
    kind(49, "DHCID", &[Base64], "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA="),
    // RFC 8162, section 2.
    kind(53, "SMIMEA", &[Octet, Octet, Octet, Hex], "3 1 1 d2abde240d7cd3ee"),
    // RFC 7208, section 3.1: in new zones it is TXT.
    kind(99, "SPF", &[Strings], "\"v=spf1 -all\""),
    // RFC 7043, sections 3.2 and 4.2.
    kind(108, "EUI48", &[Hyphens(6)], "00-00-5e-00-53-2a"),
    kind(109, "EUI64", &[Hyphens(8)], "00-00-5e-ef-10-00-00-2a"),
    // RFC 7553, section 4.
    kind(256, "URI", &[Short, Short, Text], "10 1 \"https://example.org/\""),
];

/// The type that a word names, if its data is read here.
pub(super) fn known(word: &[u8]) -> Option<Rtype> {
    let number =
        || str::from_utf8(word.split_at_checked(4).filter(|(head, _)| head.eq_ignore_ascii_case(b"TYPE"))?.1).ok();
    let is_it = |kind: &&Kind| {
        kind.name.as_bytes().eq_ignore_ascii_case(word)
            || number().is_some_and(|number| number.parse() == Ok(kind.rtype.0))
    };
    KINDS.iter().find(is_it).map(|kind| kind.rtype)
}

fn of(rtype: Rtype) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.rtype == rtype)
}

/// Record data from its words; relative names are below `origin`.
///
/// # Errors
/// What is wrong with the words.
pub(super) fn read(rtype: Rtype, words: &[Raw<'_>], origin: Option<&Name>) -> Result<Vec<u8>, String> {
    let kind = of(rtype).ok_or_else(|| format!("{rtype} is not read here"))?;
    let wrong = |what: &str| format!("{what}; {} is like `{}`", kind.name, kind.example);
    let (mut data, mut words) = (Vec::new(), words);
    for part in kind.parts {
        let used = match part {
            Octet | Short | Word(_) | Algorithm(_) | Part::Name | Hyphens(_) => 1,
            Strings | Text | Hex | Base64 | Place => words.len(),
        };
        let (mine, rest) =
            words.split_at_checked(used).filter(|(mine, _)| !mine.is_empty()).ok_or_else(|| wrong("too short"))?;
        let texts: Result<Vec<_>, _> = mine.iter().map(|word| str::from_utf8(word)).collect();
        let texts = texts.map_err(|_| wrong("there are characters other than those of ASCII"));
        match part {
            Strings | Text => take(*part, mine, &mut data).map_err(|what| wrong(&what))?,
            Place => data.extend(loc::read(&texts?).map_err(|what| wrong(&what))?),
            Octet | Short | Word(_) | Algorithm(_) | Part::Name | Hyphens(_) | Hex | Base64 => {
                put(*part, &texts?.concat(), origin, &mut data).map_err(|what| wrong(&what))?
            }
        }
        words = rest;
    }
    match words {
        [] if data.len() <= u16::MAX.into() => Ok(data),
        [] => Err(wrong("too long")),
        [more, ..] => Err(wrong(&format!("{:?} is too much", String::from_utf8_lossy(more)))),
    }
}

/// Adds texts of any octets.
fn take(part: Part, words: &[Raw<'_>], data: &mut Vec<u8>) -> Result<(), String> {
    match (part, words) {
        (Text, [text]) => data.extend(plain(text)),
        (Text, _) => return Err("a text of several words stands in quotation marks".to_owned()),
        _ => {
            for word in words.iter().map(|word| plain(word)) {
                let length = u8::try_from(word.len()).map_err(|_| "a string has at most 255 characters".to_owned())?;
                data.push(length);
                data.extend(word);
            }
        }
    }
    Ok(())
}

/// What a word says: without quotation marks, with the characters that are escaped.
fn plain(word: Raw<'_>) -> Vec<u8> {
    let unquoted = word.strip_prefix(b"\"").and_then(|word| word.strip_suffix(b"\""));
    let (mut plain, mut rest) = (Vec::new(), unquoted.unwrap_or(word));
    while let Some((octet, after)) = rest.split_first() {
        let number = || str::from_utf8(after.get(..3)?).ok()?.parse::<u8>().ok();
        let (said, length) = match (octet, after) {
            (b'\\', [escaped, ..]) => number().map_or((*escaped, 1), |number| (number, 3)),
            (_, _) => (*octet, 0),
        };
        plain.push(said);
        rest = &after[length..];
    }
    plain
}

/// Adds what a word, or all words together, say.
fn put(part: Part, word: &str, origin: Option<&Name>, data: &mut Vec<u8>) -> Result<(), String> {
    let number = |most: u16, words: &[(&str, u16)]| {
        let named = words.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, number)| *number);
        let is_number = word.bytes().all(|octet| octet.is_ascii_digit());
        let number = named.or_else(|| word.parse().ok().filter(|_| is_number)).filter(|number| *number <= most);
        number.ok_or_else(|| format!("{word:?} is not a number up to {most}"))
    };
    match part {
        Octet => data.push(number(u8::MAX.into(), &[])? as u8),
        Algorithm(names) => data.push(number(u8::MAX.into(), names)? as u8),
        Short => data.extend(number(u16::MAX, &[])?.to_be_bytes()),
        Word(names) => data.extend(number(u16::MAX, names)?.to_be_bytes()),
        Part::Name => data.extend(name(word, origin)?.wire()),
        Hex => data.extend(HEXLOWER_PERMISSIVE.decode(word.as_bytes()).map_err(|error| error.to_string())?),
        Base64 => data.extend(BASE64.decode(word.as_bytes()).map_err(|error| error.to_string())?),
        Hyphens(octets) => {
            let digits: Vec<_> = word.split('-').filter(|pair| pair.len() == 2).collect();
            let read = HEXLOWER_PERMISSIVE.decode(digits.concat().as_bytes()).ok();
            let is_whole = word.len() == 3 * octets - 1;
            data.extend(
                read.filter(|read| read.len() == octets && is_whole).ok_or_else(|| format!("not {octets} octets"))?,
            );
        }
        Strings | Text | Place => unreachable!("it is of several words"),
    }
    Ok(())
}

/// A name, which may be relative.
pub(super) fn name(word: &str, origin: Option<&Name>) -> Result<Name, String> {
    // A dot after an odd number of backslashes is a character of the last label.
    let before = word.strip_suffix('.').map(|before| before.bytes().rev().take_while(|octet| *octet == b'\\').count());
    let is_whole = before.is_some_and(|backslashes| backslashes % 2 == 0);
    let whole = match (word, origin) {
        ("@", Some(origin)) => origin.to_string(),
        (_, _) if is_whole => word.to_owned(),
        (_, Some(origin)) => format!("{word}.{origin}").replace("..", "."),
        (_, None) => return Err(format!("{word:?} is a relative name, and there is no origin")),
    };
    whole.parse().map_err(|error: crate::NotAName| error.to_string())
}

/// The words of record data; none if its type is not known here, or the data is not of it.
pub(super) fn write(rtype: Rtype, data: &[u8]) -> Option<String> {
    let kind = of(rtype)?;
    let (mut words, mut rest) = (Vec::new(), data);
    for part in kind.parts {
        let (word, used) = match part {
            Octet | Algorithm(_) => (rest.first()?.to_string(), 1),
            Short | Word(_) => (u16::from_be_bytes(*rest.first_chunk()?).to_string(), 2),
            Part::Name => {
                let used = length(rest)?;
                (Name::read(&rest[..used])?.to_string(), used)
            }
            Strings => (strings(rest)?, rest.len()),
            Text => (quoted(rest), rest.len()),
            Hex => (HEXLOWER.encode(rest), rest.len()),
            Base64 => (BASE64.encode(rest), rest.len()),
            Hyphens(octets) => {
                let pairs: Vec<_> = rest.get(..*octets)?.iter().map(|octet| format!("{octet:02x}")).collect();
                (pairs.join("-"), *octets)
            }
            Place => (loc::write(rest)?, rest.len()),
        };
        words.push(word);
        rest = &rest[used..];
    }
    rest.is_empty().then(|| words.join(" "))
}

fn strings(mut data: &[u8]) -> Option<String> {
    let mut strings = Vec::new();
    while let Some((length, rest)) = data.split_first() {
        let (string, rest) = rest.split_at_checked((*length).into())?;
        strings.push(quoted(string));
        data = rest;
    }
    Some(strings.join(" "))
}

/// A text in quotation marks: [RFC 1035, section 5.1](https://www.rfc-editor.org/rfc/rfc1035#section-5.1).
fn quoted(text: &[u8]) -> String {
    let mut out = String::from("\"");
    for octet in text {
        match octet {
            b'"' | b'\\' => out.extend(['\\', char::from(*octet)]),
            b' '..=b'~' => out.push(char::from(*octet)),
            _ => {
                let Ok(()) = write!(out, "\\{octet:03}") else { unreachable!("a string takes everything") };
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(rtype: Rtype, text: &str) -> Result<Vec<u8>, String> {
        read(rtype, &text.split(' ').map(str::as_bytes).collect::<Vec<_>>(), Some(&"kube.test.".parse().unwrap()))
    }

    #[test]
    fn every_example_is_read_and_written_as_the_same() {
        for kind in &KINDS {
            let example = match kind.name {
                "CERT" => "3 0 0 mQENBF==".replace("==", "8="),
                _ => kind.example.to_owned(),
            };
            // Quoted, they may have spaces.
            let data = match kind.name {
                "SPF" => read(kind.rtype, &[example.as_bytes()], None).unwrap(),
                _ => words(kind.rtype, &example).unwrap(),
            };
            let written = write(kind.rtype, &data).unwrap();
            assert!(kind.name == "LOC" || written == example, "{}: {written}", kind.name);
            assert_eq!(
                (known(kind.name.as_bytes()), known(format!("type{}", kind.rtype.0).as_bytes())),
                (Some(kind.rtype), Some(kind.rtype))
            );
            let generic = kind.rtype.to_string();
            assert_eq!(generic.parse(), Ok(kind.rtype), "its name is that of the IANA");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_an_example() {
        for (rtype, text, wrong) in [
            (18, "1", "too short; AFSDB is like `1 afsdb.example.org.`"),
            (18, "1 a b", "\"b\" is too much"),
            (18, "65536 a", "\"65536\" is not a number up to 65535"),
            (18, "+1 a", "\"+1\" is not a number"),
            (53, "3 256 1 00", "is not a number up to 255"),
            (53, "3 1 1 0", "invalid length"),
            (256, "1 1 a b", "stands in quotation marks"),
            (108, "00-00-5e-00-53", "not 6 octets"),
            (108, "0-000-5e-00-53-2a", "not 6 octets"),
            (37, "WRONG 0 0 AA==", "\"WRONG\" is not a number"),
            (29, "52 22 23 N", "a place on Earth"),
        ] {
            let told = words(Rtype(rtype), text).unwrap_err();
            assert!(told.contains(wrong) && told.contains(" is like `"), "{text}: {told}");
        }
        assert!(known(b"A").is_none() && known(b"TYPE1").is_none() && known(b"TYPE").is_none());
    }

    proptest! {
        #[test]
        fn any_data_is_written_or_not(place in 0..KINDS.len(), data in prop::collection::vec(any::<u8>(), 0..40)) {
            write(KINDS[place].rtype, &data);
        }
    }
}
