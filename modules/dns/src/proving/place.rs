//! Pure: where records of a name can be said, by what name servers answer.
use crate::{catalog::Home, content::Record, name::Name, proving::remote::Remote, response::Response, rtype::Rtype};

/// Where records of a name are said, and under which name: another one where aliases lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a zone here.
    Here {
        /// The zone.
        zone: Name,
        /// The name.
        owner: Name,
    },
    /// In a zone of another name server.
    There {
        /// The server.
        remote: Remote,
        /// The zone.
        zone: Name,
        /// The name.
        owner: Name,
    },
}

impl Place {
    /// The name.
    pub(crate) fn owner(&self) -> &Name {
        match self {
            Self::Here { owner, .. } | Self::There { owner, .. } => owner,
        }
    }

    /// The zone.
    pub(crate) fn zone(&self) -> &Name {
        match self {
            Self::Here { zone, .. } | Self::There { zone, .. } => zone,
        }
    }
}

/// What the rest of the world has in place of a zone here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// Nothing that says that it is another zone.
    Ours,
    /// Another zone, in which the name is an alias of this one.
    Alias(Name),
    /// Another zone of that name.
    Theirs,
}

/// What a resolver that was asked for an alias at `owner` says of the zone that `home` here has for it.
///
/// That a zone is not there yet says nothing: caches remember that for long after it has come.
pub(crate) fn beyond(response: &Response, owner: &Name, home: &Home) -> Beyond {
    if let Some(to) = alias(response, owner) {
        return Beyond::Alias(to);
    }
    match authority(response, owner) {
        Some((zone, primary)) if zone == home.zone && Some(&primary) != home.primary.as_ref() => Beyond::Theirs,
        Some(_) | None => Beyond::Ours,
    }
}

/// What a name is an alias of, as an answer says it.
pub(crate) fn alias(response: &Response, owner: &Name) -> Option<Name> {
    response.data(owner, Rtype::CNAME).find_map(|(data, _)| Name::read(data))
}

/// The zone that an answer says has `owner`, and its primary server:
/// [RFC 2308, section 3](https://www.rfc-editor.org/rfc/rfc2308#section-3).
pub(crate) fn authority(response: &Response, owner: &Name) -> Option<(Name, Name)> {
    let is_it = |record: &&Record| record.rtype == Rtype::SOA && owner.is_in(record.owner.wire());
    let soa = response.authority.iter().find(is_it)?;
    Some((soa.owner.clone(), Name::read(&soa.data)?))
}

#[cfg(test)]
mod tests {
    use domain::base::iana::OptRcode;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn response(answer: &[(&str, Rtype, &str)], authority: &[(&str, Rtype, &str)]) -> Response {
        let records = |records: &[(&str, Rtype, &str)]| {
            let one = |(owner, rtype, data): &(&str, Rtype, &str)| {
                let data = [name(data).wire(), name("ops.test").wire(), &[0; 20]].concat();
                Record { owner: name(owner), rtype: *rtype, ttl: 60, data: data.into() }
            };
            records.iter().map(one).collect()
        };
        Response {
            rcode: OptRcode::NOERROR,
            is_authoritative: false,
            is_truncated: false,
            answer: records(answer),
            authority: records(authority),
            additional: Vec::new(),
        }
    }

    #[test]
    fn only_what_others_say_of_a_zone_makes_it_theirs() {
        let owner = name("_acme-challenge.shop.test");
        let home = Home { zone: name("shop.test"), primary: Some(name("ns1.shop.test")), alias: None };
        let of = |answer: &[_], authority: &[_]| beyond(&response(answer, authority), &owner, &home);
        let soa = |zone, primary| (zone, Rtype::SOA, primary);
        assert_eq!(of(&[], &[soa("shop.test", "ns1.shop.test")]), Beyond::Ours);
        assert_eq!(of(&[], &[soa("shop.test", "ns1.registrar.test")]), Beyond::Theirs);
        // It is not delegated yet, or the resolver says nothing.
        assert_eq!(of(&[], &[soa("test", "ns1.nic.test")]), Beyond::Ours);
        assert_eq!(of(&[], &[soa("other.shop.test", "ns1.registrar.test")]), Beyond::Ours);
        assert_eq!(of(&[], &[]), Beyond::Ours);
        let to = |from, to| (from, Rtype::CNAME, to);
        assert_eq!(of(&[to("_acme-challenge.shop.test", "x.kube.test")], &[]), Beyond::Alias(name("x.kube.test")));
        assert_eq!(of(&[to("other.shop.test", "x.kube.test")], &[]), Beyond::Ours);
    }

    #[test]
    fn data_that_is_none_says_nothing() {
        let mut response = response(&[("a.test", Rtype::CNAME, "b.test")], &[("test", Rtype::SOA, "ns.test")]);
        for record in response.answer.iter_mut().chain(&mut response.authority) {
            record.data = b"\x3fabc"[..].into();
        }
        assert_eq!((alias(&response, &name("a.test")), authority(&response, &name("a.test"))), (None, None));
    }
}
