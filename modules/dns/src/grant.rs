//! Pure: who may update which names and types.
use serde::{Deserialize, Serialize};

use crate::{
    name::{Name, suffixes},
    rrset::inside,
    rtype::Rtype,
};

/// What one key may update, as a person writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// The name of the key that updates are signed with.
    pub key: Name,
    /// The names that it may change.
    pub names: Vec<Pattern>,
    /// The types of the records that it may change.
    #[serde(default = "addresses_and_texts")]
    pub types: Vec<Changeable>,
}

/// What programs that update names want: those of dynamic addresses, and those that prove a name to an authority.
fn addresses_and_texts() -> Vec<Changeable> {
    [Rtype::A, Rtype::AAAA, Rtype::TXT].map(Changeable).to_vec()
}

/// A type of records that updates may be let change: neither what the server itself says of a zone and its signatures, nor what
/// is no type of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Changeable(Rtype);

impl TryFrom<String> for Changeable {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let rtype: Rtype = text.parse()?;
        if is_changeable(rtype) {
            Ok(Self(rtype))
        } else {
            Err(format!("updates cannot change {text:?}: name types of records, like \"A\" or \"TXT\""))
        }
    }
}

impl From<Changeable> for String {
    fn from(changeable: Changeable) -> Self {
        changeable.0.to_string()
    }
}

/// Whether updates may change records of a type at all.
pub(crate) fn is_changeable(rtype: Rtype) -> bool {
    // SIG, KEY and NXT are what DNSSEC had before.
    let is_of_server = matches!(
        rtype,
        Rtype::SOA
            | Rtype::RRSIG
            | Rtype::NSEC
            | Rtype::DNSKEY
            | Rtype::NSEC3
            | Rtype::NSEC3PARAM
            | Rtype::CDS
            | Rtype::CDNSKEY
            | Rtype(24 | 25 | 30)
    );
    !is_of_server && is_data(rtype)
}

/// Whether updates may change records of a name and type, in the zone at `apex`, at all: who serves a zone, and how it is trusted,
/// is not for those who update names in it.
pub(crate) fn is_for_updates(apex: &Name, owner: &Name, rtype: Rtype) -> bool {
    is_changeable(rtype) && !(owner == apex && matches!(rtype, Rtype::NS | Rtype::DS))
}

/// Whether there are records of a type: [RFC 6895, section 3.1](https://www.rfc-editor.org/rfc/rfc6895#section-3.1).
pub(crate) fn is_data(rtype: Rtype) -> bool {
    !matches!(rtype, Rtype(0 | 128..=255) | Rtype::OPT)
}

/// Names that may be changed. The label `*`, at most once, stands for one or more labels; without it, one name is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    /// The labels before `*`.
    first: Box<[u8]>,
    has_star: bool,
    /// The labels after it, or all.
    last: Box<[u8]>,
}

impl Pattern {
    /// Whether it is meant below the domain.
    pub fn is_relative(&self) -> bool {
        !self.text.ends_with('.')
    }

    /// The names that are meant, of which relative ones are in `origin`; none if there is no such name.
    fn resolve(&self, origin: Option<&Name>) -> Option<Names> {
        let origin: &[u8] = if self.is_relative() { origin?.wire() } else { &[0] };
        let last = Name::read(&[&self.last, origin].concat())?;
        Some(Names { first: self.first.clone(), has_star: self.has_star, last })
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |reason: &str| format!("{text:?} is no name to update: {reason}");
        if text.is_empty() {
            return Err(wrong("\"@\" is the domain itself"));
        }
        let name: Name =
            if text == "@" { "." } else { &text }.parse().map_err(|error: crate::NotAName| error.to_string())?;
        let (labels, _) = name.wire().split_at(name.wire().len() - 1);
        let is_star = |suffix: &&[u8]| suffix.starts_with(b"\x01*");
        let mut stars = suffixes(name.wire()).filter(is_star).map(|suffix| labels.len() + 1 - suffix.len());
        let (star, another) = (stars.next(), stars.next());
        if another.is_some() {
            return Err(wrong("`*` stands for one or more labels, and can be there once"));
        }
        let (first, last) = star.map_or((&[][..], labels), |star| (&labels[..star], &labels[star + 2..]));
        let (first, last) = (first.into(), last.into());
        Ok(Self { text, first, has_star: star.is_some(), last })
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

/// Names that may be changed, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names {
    first: Box<[u8]>,
    has_star: bool,
    last: Name,
}

impl Names {
    fn have(&self, name: &Name) -> bool {
        if !self.has_star {
            return *name == self.last;
        }
        let labels = inside(name.wire(), self.last.wire());
        labels.and_then(|labels| labels.strip_prefix(&*self.first)).is_some_and(|between| !between.is_empty())
    }
}

/// What one key may update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    key: Name,
    names: Vec<Names>,
    types: Vec<Rtype>,
}

impl Grant {
    /// What a person granted; relative names are in `origin`.
    pub(crate) fn new(update: &Update, origin: Option<&Name>) -> Self {
        let names = update.names.iter().filter_map(|pattern| pattern.resolve(origin)).collect();
        let types = update.types.iter().map(|Changeable(rtype)| *rtype).collect();
        Self { key: update.key.clone(), names, types }
    }
}

/// What all keys may update.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grants(pub(crate) Vec<Grant>);

impl Grants {
    /// Whether a key may update anything.
    pub(crate) fn know(&self, key: &Name) -> bool {
        self.0.iter().any(|grant| grant.key == *key)
    }

    /// Whether a key may update records of a name and type, in the zone at `apex`.
    pub(crate) fn allow(&self, key: &Name, apex: &Name, owner: &Name, rtype: Rtype) -> bool {
        let grants = |grant: &Grant| {
            grant.key == *key && grant.types.contains(&rtype) && grant.names.iter().any(|names| names.have(owner))
        };
        is_for_updates(apex, owner, rtype) && self.0.iter().any(grants)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// What a key named `laptop` may do to names below `kube.test`.
    fn grants(names: &[&str], types: &[&str]) -> Grants {
        let names = names.iter().map(|text| Pattern::try_from((*text).to_owned()).unwrap()).collect();
        let types = types.iter().map(|text| Changeable::try_from((*text).to_owned()).unwrap()).collect();
        let update = Update { key: name("laptop"), names, types };
        Grants(vec![Grant::new(&update, Some(&name("kube.test")))])
    }

    #[test]
    fn names_are_below_the_domain_and_a_star_is_one_or_more_labels() {
        for (pattern, has, has_not) in [
            ("home", vec!["home.kube.test", "HOME.kube.test"], vec!["a.home.kube.test", "kube.test", "home.test"]),
            ("@", vec!["kube.test"], vec!["a.kube.test", "test"]),
            ("*", vec!["a.kube.test", "a.b.kube.test", "*.kube.test"], vec!["kube.test", "akube.test"]),
            ("*.home", vec!["a.home.kube.test", "a.b.home.kube.test"], vec!["home.kube.test", "whome.kube.test"]),
            (
                "_acme-challenge.*",
                vec!["_acme-challenge.a.kube.test", "_acme-challenge.b.a.kube.test"],
                vec!["_acme-challenge.kube.test", "a.kube.test", "a._acme-challenge.a.kube.test"],
            ),
            ("a.*.b", vec!["a.x.b.kube.test", "a.a.b.kube.test"], vec!["a.b.kube.test", "x.b.kube.test"]),
            ("www.other.test.", vec!["www.other.test"], vec!["www.other.test.kube.test", "other.test"]),
            ("*.other.test.", vec!["www.other.test"], vec!["other.test", "www.kube.test"]),
        ] {
            let grants = grants(&[pattern], &["TXT"]);
            let allowed = |owner: &str| grants.allow(&name("laptop"), &name("kube.test"), &name(owner), Rtype::TXT);
            assert!(has.iter().all(|owner| allowed(owner)), "{pattern} {has:?}");
            assert!(!has_not.iter().any(|owner| allowed(owner)), "{pattern} {has_not:?}");
        }
    }

    #[test]
    fn a_key_may_change_its_names_and_types_only_and_never_who_serves_the_zone() {
        let grants = grants(&["@", "*"], &["A", "NS", "DS"]);
        let allowed = |key, owner, rtype| grants.allow(&name(key), &name("kube.test"), &name(owner), rtype);
        assert!(allowed("laptop", "kube.test", Rtype::A) && allowed("laptop", "a.kube.test", Rtype::NS));
        assert!(!allowed("laptop", "kube.test", Rtype::TXT));
        assert!(!allowed("laptop", "kube.test", Rtype::NS) && !allowed("laptop", "kube.test", Rtype::DS));
        assert!(!allowed("laptop", "kube.test", Rtype::SOA) && !allowed("laptop", "a.kube.test", Rtype::RRSIG));
        assert!(
            !allowed("another", "a.kube.test", Rtype::A) && grants.know(&name("laptop")) && !grants.know(&name("a"))
        );
    }

    #[test]
    fn what_cannot_be_granted_is_told() {
        for text in ["", "a..b", "*.a.*", "*.*"] {
            assert!(Pattern::try_from(text.to_owned()).is_err(), "{text}");
        }
        for text in ["SOA", "RRSIG", "DNSKEY", "ANY", "AXFR", "OPT", "TSIG", "MAILA", "no such type"] {
            assert!(Changeable::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert_eq!(String::from(Pattern::try_from("*.Home".to_owned()).unwrap()), "*.Home");
    }

    proptest! {
        #[test]
        fn a_pattern_without_a_star_has_the_name_that_it_is(labels in prop::collection::vec("[a-z0-9_-]{1,20}", 1..5)) {
            let text = labels.join(".");
            let owner = name(&format!("{text}.kube.test"));
            prop_assert!(grants(&[&text], &["A"]).allow(&name("laptop"), &name("kube.test"), &owner, Rtype::A));
            let below = owner.below(b"x").unwrap();
            prop_assert!(!grants(&[&text], &["A"]).allow(&name("laptop"), &name("kube.test"), &below, Rtype::A));
        }
    }
}
