//! Pure: the types of records.
use std::{fmt, str::FromStr};

use domain::base::iana;

/// The type of a record: [the IANA's list](https://www.iana.org/assignments/dns-parameters).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rtype(pub u16);

impl Rtype {
    pub(crate) const A: Self = Self(1);
    pub(crate) const NS: Self = Self(2);
    pub(crate) const CNAME: Self = Self(5);
    pub(crate) const SOA: Self = Self(6);
    pub(crate) const PTR: Self = Self(12);
    pub(crate) const MX: Self = Self(15);
    pub(crate) const TXT: Self = Self(16);
    pub(crate) const AAAA: Self = Self(28);
    pub(crate) const DNAME: Self = Self(39);
    pub(crate) const OPT: Self = Self(41);
    pub(crate) const DS: Self = Self(43);
    pub(crate) const RRSIG: Self = Self(46);
    pub(crate) const NSEC: Self = Self(47);
    pub(crate) const DNSKEY: Self = Self(48);
    pub(crate) const NSEC3: Self = Self(50);
    pub(crate) const NSEC3PARAM: Self = Self(51);
    pub(crate) const CDS: Self = Self(59);
    pub(crate) const CDNSKEY: Self = Self(60);
    pub(crate) const HTTPS: Self = Self(65);
    pub(crate) const TSIG: Self = Self(250);
    pub(crate) const IXFR: Self = Self(251);
    pub(crate) const AXFR: Self = Self(252);
    pub(crate) const ANY: Self = Self(255);
    pub(crate) const CAA: Self = Self(257);

    /// Where the domain names begin in record data that may be compressed, and how many there are: the types of
    /// [RFC 3597, section 4](https://www.rfc-editor.org/rfc/rfc3597#section-4) that are still in use.
    pub(crate) fn compressible(self) -> Option<(usize, usize)> {
        match self {
            Self::NS | Self::CNAME | Self::PTR => Some((0, 1)),
            Self::MX => Some((2, 1)),
            Self::SOA => Some((0, 2)),
            _ => None,
        }
    }
}

impl fmt::Display for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        iana::Rtype::from_int(self.0).fmt(f)
    }
}

impl fmt::Debug for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Rtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known =
            text.parse::<iana::Rtype>().map_err(|_| format!("{text:?} is not a type of records, like \"TXT\""))?;
        Ok(Self(known.to_int()))
    }
}
