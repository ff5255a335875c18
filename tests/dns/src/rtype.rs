//! Pure: the types of records that are asked for, by name: <https://www.iana.org/assignments/dns-parameters>.
use std::fmt;

/// A type of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rtype(pub u16);

macro_rules! types {
    ($($name:ident $number:literal)*) => {
        #[expect(missing_docs, reason = "they are called as the IANA calls them")]
        impl Rtype {
            $(pub const $name: Self = Self($number);)*
            const NAMES: &[(Self, &str)] = &[$((Self::$name, stringify!($name))),*];
        }
    };
}

types! {
    A 1  NS 2  CNAME 5  SOA 6  PTR 12  HINFO 13  MX 15  TXT 16  RP 17  AFSDB 18  RT 21  AAAA 28  LOC 29  SRV 33  NAPTR 35  KX 36  CERT 37  DNAME 39
    OPT 41  DS 43  SSHFP 44  RRSIG 46  NSEC 47  DNSKEY 48  DHCID 49  NSEC3 50  NSEC3PARAM 51  TLSA 52  SMIMEA 53  CDS 59  CDNSKEY 60  SVCB 64
    HTTPS 65  SPF 99  EUI48 108  EUI64 109  ANY 255  URI 256  CAA 257
}

impl fmt::Display for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(rtype, _)| rtype == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}
