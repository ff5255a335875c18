//! Pure: who may say that a zone has changed: [RFC 1996, section 3.10](https://www.rfc-editor.org/rfc/rfc1996#section-3.10).
use std::net::{IpAddr, SocketAddr};

use crate::{name::Name, query::Query, reply::Rcode, rrset::IN, rtype::Rtype, tsig};

/// A zone of somebody else's that is served here too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Followed {
    pub(crate) zone: Name,
    /// Where it comes from; the first is asked first.
    pub(crate) primaries: Vec<SocketAddr>,
    /// What both sides sign with.
    pub(crate) key: Option<tsig::Key>,
}

impl Followed {
    /// Which of the primaries has that address. An address says nothing of the port: NOTIFY comes from any.
    pub(crate) fn primary(&self, address: IpAddr) -> Option<usize> {
        self.primaries.iter().position(|primary| primary.ip() == address)
    }
}

/// A NOTIFY that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) zone: Name,
    pub(crate) from: IpAddr,
}

/// Which of the zones has changed, as `query` says, which came from `address` and was perhaps signed with a key of that name.
///
/// # Errors
/// It does not count.
pub(crate) fn hear(
    followed: &[Followed],
    query: &Query<'_>,
    address: IpAddr,
    key: Option<&Name>,
) -> Result<usize, Rcode> {
    if query.qtype != Rtype::SOA || query.qclass != IN {
        return Err(Rcode::NotImp);
    }
    let zone = followed.iter().position(|followed| followed.zone.wire() == query.name.wire()).ok_or(Rcode::NotAuth)?;
    let has_key = followed[zone].key.as_ref().is_some_and(|ours| key == Some(&ours.name));
    let counts = has_key || followed[zone].primary(address).is_some();
    if counts { Ok(zone) } else { Err(Rcode::Refused) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tsig::{Algorithm, Key};

    #[test]
    fn primaries_and_those_with_the_key_are_heard() {
        let key = Key { name: "second".parse().unwrap(), algorithm: Algorithm::HmacSha256, secret: b"a".to_vec() };
        let followed = Followed {
            zone: "kube.test".parse().unwrap(),
            primaries: vec!["192.0.2.1:5353".parse().unwrap()],
            key: Some(key.clone()),
        };
        let message = |name: &str, rtype: u8| {
            let name: Name = name.parse().unwrap();
            [&[0, 7, 0x24, 0, 0, 1, 0, 0, 0, 0, 0, 0], name.wire(), &[0, rtype, 0, 1]].concat()
        };
        let other: Name = "third".parse().unwrap();
        for (name, rtype, from, key, expected) in [
            ("Kube.Test", 6, "192.0.2.1", None, Ok(0)),
            ("kube.test", 6, "192.0.2.2", Some(&key.name), Ok(0)),
            ("kube.test", 6, "192.0.2.2", Some(&other), Err(Rcode::Refused)),
            ("kube.test", 6, "192.0.2.2", None, Err(Rcode::Refused)),
            ("www.kube.test", 6, "192.0.2.1", None, Err(Rcode::NotAuth)),
            ("kube.test", 1, "192.0.2.1", None, Err(Rcode::NotImp)),
        ] {
            let message = message(name, rtype);
            let query = Query::read(&message).unwrap();
            let heard = hear(std::slice::from_ref(&followed), &query, from.parse().unwrap(), key);
            assert_eq!(heard, expected, "{name} {rtype} {from}");
        }
    }
}
