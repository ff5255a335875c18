//! Pure: domain names, as they are written and as they are on the wire.
use std::fmt;

use kube_peer::dice::Dice;

/// Most octets of a name on the wire: [RFC 1035, section 3.1](https://www.rfc-editor.org/rfc/rfc1035#section-3.1).
pub const LONGEST: usize = 255;

/// An absolute domain name, by its labels, in the case that it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(Vec<Vec<u8>>);

impl Name {
    /// The name with these labels, the deepest first; its text has a dot between two, and none is escaped.
    pub fn of(text: &str) -> Self {
        Self(text.split('.').filter(|label| !label.is_empty()).map(|label| label.as_bytes().to_vec()).collect())
    }

    /// The name of labels as they are.
    pub fn from_labels(labels: Vec<Vec<u8>>) -> Self {
        Self(labels)
    }

    /// This name, below another.
    #[must_use]
    pub fn below(&self, above: &Self) -> Self {
        Self([&self.0[..], &above.0].concat())
    }

    /// The name above; that of the root is the root.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self(self.0.get(1..).unwrap_or_default().to_vec())
    }

    /// Its labels, the deepest first.
    pub fn labels(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// Whether it can be on the wire.
    pub fn is_valid(&self) -> bool {
        self.0.iter().all(|label| (1..=63).contains(&label.len())) && self.wire().len() <= LONGEST
    }

    /// The name on the wire, not compressed.
    pub fn wire(&self) -> Vec<u8> {
        let mut wire = Vec::new();
        for label in &self.0 {
            wire.push(label.len() as u8);
            wire.extend(label);
        }
        wire.push(0);
        wire
    }

    /// The name with each of its letters in a random case.
    #[must_use]
    pub fn mixed(&self, dice: &mut Dice) -> Self {
        let mut turn =
            |octet: &u8| if dice.one_in(2) { octet.to_ascii_uppercase() } else { octet.to_ascii_lowercase() };
        Self(self.0.iter().map(|label| label.iter().map(&mut turn).collect()).collect())
    }
}

/// As in a zone file: [RFC 1035, section 5.1](https://www.rfc-editor.org/rfc/rfc1035#section-5.1).
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in &self.0 {
            for octet in label {
                match octet {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'*' => {
                        write!(f, "{}", char::from(*octet))?
                    }
                    b'!'..=b'~' => write!(f, "\\{}", char::from(*octet))?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
            f.write_str(".")?;
        }
        if self.0.is_empty() { f.write_str(".") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_as_in_a_zone_file() {
        let name = Name::from_labels(vec![b"a.b".to_vec(), b"\x00\xff \\".to_vec(), b"C".to_vec()]);
        assert_eq!(name.to_string(), r"a\.b.\000\255\032\\.C.");
        assert_eq!(name.wire(), b"\x03a.b\x04\x00\xff \\\x01C\x00");
        assert_eq!((Name::of("").to_string(), Name::of("a.B").to_string()), (".".to_owned(), "a.B.".to_owned()));
    }
}
