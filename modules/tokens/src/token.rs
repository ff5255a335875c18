//! Pure: what a token is, and how it is written.
use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How many random bytes a token has.
const RANDOM: usize = 32;
/// How many hexadecimal digits of a token's hash are its id.
const ID: usize = 12;
/// The longest label, in characters.
const LONGEST_LABEL: usize = 100;
/// The longest life of a token that ends.
const LONGEST_LIFE: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// A token itself. It is shown to whoever made it, and to nobody else.
pub struct Secret(String);

/// The SHA-256 of a token's text: what is kept of it, and what it is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash(pub [u8; 32]);

/// What a token allows: its kind, and what the kind is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Scope {
    /// To sync.
    Sync {
        /// The documents of this space.
        space: Space,
        /// In this way.
        access: Access,
    },
}

impl Scope {
    /// The word for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sync { .. } => "sync",
        }
    }
}

/// What may be done with documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// They may be read.
    Read,
    /// They may be read and changed, and new ones made.
    Write,
    /// That, and who has it is told of all that there are: for another KUBE.
    Mirror,
}

/// The name of a space: a DNS label, so that no name collides with those that KUBE derives, which have a dot.
///
/// Lower-case letters, digits and hyphens, 1 to 63 of them, no hyphen at either end
/// ([RFC 1123, section 2.1](https://www.rfc-editor.org/rfc/rfc1123#section-2.1)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Space(Arc<str>);

/// Text that names no space.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of a space: use 1 to 63 of a-z, 0-9 and `-`, without `-` at either end, as in \"team\"")]
pub struct NotASpace(String);

/// What a person calls a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

/// Why what is asked for is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The space has no name.
    #[error(transparent)]
    Space(#[from] NotASpace),
    /// The label is none.
    #[error("a label has 1 to {LONGEST_LABEL} characters, none of them a control character")]
    Label,
    /// The token would be expired at once, or never.
    #[error("a token expires after 1 second to 100 years")]
    Life,
    /// Text that is no SHA-256 in hexadecimal.
    #[error("a hash has 64 hexadecimal digits")]
    Hash,
}

/// What is kept of a token.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Finds the token when it is shown.
    pub(crate) hash: Hash,
    /// What it allows.
    pub scope: Scope,
    /// What a person calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// From when on it allows nothing, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// When it was last shown, in seconds since 1970; 0 when it was not since the start.
    #[serde(skip)]
    used: AtomicU64,
}

impl Secret {
    /// Writes a token of this kind with these random bytes.
    pub(crate) fn new(kind: &str, random: [u8; RANDOM]) -> Self {
        Self(format!("kube_{kind}_{}", BASE64URL_NOPAD.encode(&random)))
    }

    /// The token as it is given to whoever may use it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub(crate) fn hash(&self) -> Hash {
        Hash(Sha256::digest(&self.0).into())
    }
}

impl Token {
    /// What is kept of `secret`, made `now`.
    ///
    /// # Errors
    /// It would live too short or too long.
    pub(crate) fn new(
        secret: &Secret,
        scope: Scope,
        label: Option<Label>,
        life: Option<Duration>,
        now: SystemTime,
    ) -> Result<Self, Wrong> {
        if life.is_some_and(|life| !(Duration::from_secs(1)..=LONGEST_LIFE).contains(&life)) {
            return Err(Wrong::Life);
        }
        let created = seconds(now);
        let expires = life.map(|life| created + life.as_secs());
        Ok(Self { hash: secret.hash(), scope, label, created, expires, used: AtomicU64::new(0) })
    }

    /// How people speak of it: the beginning of its hash.
    pub fn id(&self) -> String {
        HEXLOWER.encode(&self.hash.0[..ID / 2])
    }

    /// When it expires.
    pub fn until(&self) -> Option<SystemTime> {
        self.expires.and_then(|expires| UNIX_EPOCH.checked_add(Duration::from_secs(expires)))
    }

    /// Whether it allows nothing any more.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| expires <= seconds(now))
    }

    /// When it was last shown since the start, in seconds since 1970.
    pub fn last_used(&self) -> Option<u64> {
        Some(self.used.load(Ordering::Relaxed)).filter(|used| *used != 0)
    }

    /// Remembers that it is shown.
    pub(crate) fn touch(&self, now: SystemTime) {
        self.used.store(seconds(now), Ordering::Relaxed);
    }
}

/// Whole seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl fmt::Debug for Secret {
    /// Not the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl TryFrom<String> for Hash {
    type Error = Wrong;

    fn try_from(text: String) -> Result<Self, Wrong> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| Wrong::Hash)?;
        bytes.try_into().map(Self).map_err(|_| Wrong::Hash)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        HEXLOWER.encode(&hash.0)
    }
}

impl Space {
    /// The name, to share.
    pub fn name(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl FromStr for Space {
    type Err = NotASpace;

    fn from_str(text: &str) -> Result<Self, NotASpace> {
        let is_label = (1..=63).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if is_label { Ok(Self(text.into())) } else { Err(NotASpace(text.chars().take(100).collect())) }
    }
}

impl TryFrom<String> for Space {
    type Error = NotASpace;

    fn try_from(text: String) -> Result<Self, NotASpace> {
        text.parse()
    }
}

impl From<Space> for String {
    fn from(space: Space) -> Self {
        space.0.as_ref().to_owned()
    }
}

impl TryFrom<String> for Label {
    type Error = Wrong;

    fn try_from(text: String) -> Result<Self, Wrong> {
        let length = text.chars().count();
        // It is shown on terminals, which control characters would steer.
        let fits = (1..=LONGEST_LABEL).contains(&length) && !text.chars().any(char::is_control);
        if fits { Ok(Self(text)) } else { Err(Wrong::Label) }
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope() -> Scope {
        Scope::Sync { space: "team".parse().unwrap(), access: Access::Read }
    }

    #[test]
    fn a_token_says_what_it_is_and_is_known_by_its_hash() {
        let secret = Secret::new("sync", [0xff; RANDOM]);
        assert_eq!(secret.reveal(), format!("kube_sync_{}8", "_".repeat(42)));
        assert_eq!(format!("{secret:?}"), "Secret");
        // sha256sum of the text.
        let hash = String::from(secret.hash());
        assert_eq!(hash, "f7f8c7b323111b4d786f03a84fcc5bc70eef101b597e0cbd2fe741ae0695cef8");
        let token = Token::new(&secret, scope(), None, None, UNIX_EPOCH).unwrap();
        assert_eq!(token.id(), hash[..12]);
    }

    #[test]
    fn a_token_is_over_from_the_second_on_that_it_names() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let secret = Secret::new("sync", [1; RANDOM]);
        let token = Token::new(&secret, scope(), None, Some(Duration::from_secs(60)), at(1000)).unwrap();
        assert_eq!((token.created, token.expires, token.until()), (1000, Some(1060), Some(at(1060))));
        assert_eq!([1059, 1060, 5000].map(|now| token.is_expired(at(now))), [false, true, true]);
        for life in [Duration::ZERO, Duration::from_millis(999), Duration::MAX] {
            assert_eq!(Token::new(&secret, scope(), None, Some(life), at(0)).unwrap_err(), Wrong::Life);
        }
        assert!(!Token::new(&secret, scope(), None, None, at(0)).unwrap().is_expired(at(u64::MAX >> 2)));
    }

    #[test]
    fn a_space_is_a_label() {
        for name in ["default", "team", "a", "2026", "a-b", &"a".repeat(63)] {
            assert_eq!(String::from(name.parse::<Space>().unwrap()), name);
        }
        for name in ["", "app.shop", "Team", "a b", "-a", "a-", "ä", "a/b", "a\n", &"a".repeat(64)] {
            let error = name.parse::<Space>().unwrap_err().to_string();
            assert!(error.contains("\"team\""), "{error}");
        }
    }

    #[test]
    fn a_label_cannot_steer_a_terminal() {
        for label in ["Ana's laptop", "büro 2", &"ä".repeat(100)] {
            Label::try_from(label.to_owned()).unwrap();
        }
        for label in ["", "\x1b[2J", "a\nb", &"ä".repeat(101)] {
            assert_eq!(Label::try_from(label.to_owned()), Err(Wrong::Label), "{label:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_of_a_file_or_a_person_is_taken_for_more_than_it_is(text in any::<String>()) {
            if let Ok(space) = text.parse::<Space>() {
                prop_assert!(!text.contains('.') && text.len() <= 63);
                prop_assert_eq!(String::from(space), text.clone());
            }
            if let Ok(hash) = Hash::try_from(text.clone()) {
                prop_assert_eq!(String::from(hash), text.clone());
            }
            drop(Label::try_from(text));
        }

        #[test]
        fn every_token_has_the_same_form_and_another_hash(one: [u8; RANDOM], other: [u8; RANDOM]) {
            let (one, other) = (Secret::new("sync", one), Secret::new("sync", other));
            let body = one.reveal().strip_prefix("kube_sync_").unwrap();
            prop_assert!(body.len() == 43 && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
            prop_assert_eq!(one.reveal() == other.reveal(), one.hash() == other.hash());
        }
    }
}
