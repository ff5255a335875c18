//! Pure: what may be the name of a process.
use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The name that KUBE's own log has among those of processes.
pub(crate) const OWN: &str = "kube";

/// The name of a process: it is a folder's, a control group's and a metric label's too.
///
/// Lower-case letters, digits, `-` and `_`, 1 to 63 of them, beginning with a letter or a digit, and not `kube`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is not the name of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or longer than 63 bytes.
    #[error("the name of a process has 1 to 63 characters")]
    Length,
    /// A character that may not be there.
    #[error(
        "the name of a process has a-z, 0-9, `-` and `_`, and begins with a letter or a digit: {0:?} cannot be there"
    )]
    Character(char),
    /// A name of this KUBE's own.
    #[error("`{OWN}` is what KUBE's own log is called: take another name")]
    Reserved,
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > 63 {
            return Err(NameError::Length);
        }
        let fits = |(at, c): &(usize, char)| matches!(c, 'a'..='z' | '0'..='9') || *at > 0 && matches!(c, '-' | '_');
        match text.char_indices().find(|at| !fits(at)) {
            Some((_, wrong)) => Err(NameError::Character(wrong)),
            None if text == OWN => Err(NameError::Reserved),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_everywhere_it_is_used() {
        for good in ["a", "worker", "7", "my-bot_2", &"x".repeat(63)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        let wrong = [
            ("", NameError::Length),
            (&*"x".repeat(64), NameError::Length),
            ("-a", NameError::Character('-')),
            ("_a", NameError::Character('_')),
            ("a/b", NameError::Character('/')),
            ("..", NameError::Character('.')),
            ("Worker", NameError::Character('W')),
            ("kube", NameError::Reserved),
        ];
        for (text, error) in wrong {
            assert_eq!(text.parse::<Name>(), Err(error), "{text:?}");
        }
    }
}
