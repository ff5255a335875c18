//! Pure: domain names, as they are on the wire.
use std::{cmp::Ordering, fmt, str::FromStr};

use domain::base::{Name as Text, name::FromStrError};
use serde::{Deserialize, Serialize};

/// Most octets of a name, lengths and the empty label included: [RFC 1035, section 3.1](https://www.rfc-editor.org/rfc/rfc1035#section-3.1).
pub(crate) const LONGEST: usize = 255;
/// Most octets of a label.
const LONGEST_LABEL: u8 = 63;

/// An absolute domain name: its labels with their lengths, in lower case, as
/// [RFC 4034, section 6.2](https://www.rfc-editor.org/rfc/rfc4034#section-6.2) has them.
///
/// A borrowed name is a `&[u8]` of that form.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Box<[u8]>);

/// What is not a domain name, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a domain name: {reason}")]
pub struct NotAName {
    text: String,
    reason: FromStrError,
}

impl Name {
    /// The name at the start of `wire`, which is not compressed; none if there is none.
    pub(crate) fn read(wire: &[u8]) -> Option<Self> {
        let length = length(wire)?;
        Some(Self(wire[..length].to_ascii_lowercase().into()))
    }

    /// The name on the wire.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The name of `label` below this one; none if that would be too long.
    pub(crate) fn below(&self, label: &[u8]) -> Option<Self> {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=LONGEST_LABEL).contains(length))?;
        let wire = [&[length], &*label.to_ascii_lowercase(), &self.0].concat();
        (wire.len() <= LONGEST).then(|| Self(wire.into()))
    }

    /// The name above this one; none of the root.
    pub(crate) fn above(&self) -> Option<Self> {
        parent(&self.0).map(|above| Self(above.into()))
    }

    /// Whether this is `other`, or below it.
    pub(crate) fn is_in(&self, other: &[u8]) -> bool {
        suffixes(&self.0).any(|suffix| suffix == other)
    }
}

/// The order of [RFC 4034, section 6.1](https://www.rfc-editor.org/rfc/rfc4034#section-6.1): a name before those below it.
impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mine, theirs): (Vec<_>, Vec<_>) = (suffixes(&self.0).collect(), suffixes(&other.0).collect());
        let shared = mine.len().min(theirs.len());
        // The last label of both is empty.
        let differ = (2..=shared).find_map(|back| {
            let order = label(mine[mine.len() - back]).cmp(label(theirs[theirs.len() - back]));
            (order != Ordering::Equal).then_some(order)
        });
        differ.unwrap_or_else(|| mine.len().cmp(&theirs.len()))
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let name: Text<Vec<u8>> = text.parse().map_err(|reason| NotAName { text: text.to_owned(), reason })?;
        Ok(Self(name.as_slice().to_ascii_lowercase().into()))
    }
}

impl TryFrom<String> for Name {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, NotAName> {
        text.parse()
    }
}

/// Without the dot at the end.
impl From<Name> for String {
    fn from(name: Name) -> Self {
        let text = name.to_string();
        text.strip_suffix('.').filter(|text| !text.is_empty()).map_or(text.clone(), ToOwned::to_owned)
    }
}

/// As zone files have it: [RFC 1035, section 5.1](https://www.rfc-editor.org/rfc/rfc1035#section-5.1).
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == 1 {
            return f.write_str(".");
        }
        for label in suffixes(&self.0).map(label).take_while(|label| !label.is_empty()) {
            for octet in label {
                match octet {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => write!(f, "\\{}", char::from(*octet))?,
                    b'!'..=b'~' => write!(f, "{}", char::from(*octet))?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Octets of the uncompressed name at the start of `wire`; none if there is none.
pub(crate) fn length(wire: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let label = *wire.get(at)?;
        at += 1 + usize::from(label);
        if label > LONGEST_LABEL || at > LONGEST {
            return None;
        }
        if label == 0 {
            return Some(at);
        }
    }
}

/// What is left of a name without its first label; none of the root.
pub(crate) fn parent(name: &[u8]) -> Option<&[u8]> {
    match name[0] {
        0 => None,
        label => Some(&name[1 + usize::from(label)..]),
    }
}

/// The first label of a name, without its length.
fn label(name: &[u8]) -> &[u8] {
    &name[1..=usize::from(name[0])]
}

/// A name, its parent, and so on up to the root.
pub(crate) fn suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |name| parent(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_its_labels_in_lower_case() {
        assert_eq!(name("Ab.C").wire(), b"\x02ab\x01c\x00");
        assert_eq!(name("ab.c."), name("AB.C"));
        assert_eq!(name(".").wire(), b"\x00");
        assert_eq!(name(r"a\.b\065.c").to_string(), r"a\.ba.c.");
        assert_eq!(name(r"\;\$\ \000.\*").to_string(), r"\;\$\032\000.*.");
        assert!("a..b".parse::<Name>().is_err());
    }

    #[test]
    fn what_is_not_a_whole_name_is_not_read() {
        for wire in [&b""[..], b"\x01", b"\x01a", b"\x40", b"\xc0\x00", &[1; 400]] {
            assert_eq!(length(wire), None, "{wire:?}");
        }
        assert_eq!(Name::read(b"\x01A\x00rest"), Some(name("a")));
        let longest = [&b"\x3f"[..], &[b'a'; 63]].concat();
        let longest = [&longest[..], &longest, &longest, b"\x3d", &[b'a'; 61], b"\x00"].concat();
        assert_eq!(length(&longest), Some(255));
        assert_eq!(length(&[&b"\x01a"[..], &longest].concat()), None);
    }

    #[test]
    fn names_are_in_one_another() {
        assert!(name("a.b.c").is_in(name("b.c").wire()) && name("b.c").is_in(name("b.c").wire()));
        assert!(!name("ab.c").is_in(name("b.c").wire()) && !name("c").is_in(name("b.c").wire()));
        assert_eq!(name("c").below(b"B"), Some(name("b.c")));
        assert_eq!(name("c").below(&[b'a'; 64]), None);
    }

    #[test]
    fn the_order_is_that_of_rfc_4034() {
        let sorted = [
            "example",
            "a.example",
            "yljkjljk.a.example",
            "Z.a.example",
            "zABC.a.EXAMPLE",
            "z.example",
            r"\001.z.example",
            "*.z.example",
            r"\200.z.example",
        ];
        for (first, second) in sorted.iter().zip(&sorted[1..]) {
            assert!(name(first) < name(second), "{first} {second}");
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_a_name_or_not(wire in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(name) = Name::read(&wire) {
                prop_assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
            }
        }
    }
}
