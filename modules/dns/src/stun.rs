//! Pure: how a machine asks which address others see: the Binding request of
//! [RFC 8489](https://www.rfc-editor.org/rfc/rfc8489), and what comes back.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Says which answer belongs to which request, and cannot be guessed by who does not see it.
pub(crate) type Id = [u8; 12];

/// [RFC 8489, section 5](https://www.rfc-editor.org/rfc/rfc8489#section-5).
const COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();
const HEADER: usize = 20;
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const ERROR: u16 = 0x0111;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// Types below must be understood: [RFC 8489, section 14](https://www.rfc-editor.org/rfc/rfc8489#section-14).
const OPTIONAL: u16 = 0x8000;
/// What old servers say besides, all of it about addresses of theirs or, without the exclusive or, ours: MAPPED-ADDRESS,
/// SOURCE-ADDRESS and CHANGED-ADDRESS of [RFC 3489](https://www.rfc-editor.org/rfc/rfc3489#section-11.2).
const KNOWN: [u16; 3] = [0x0001, 0x0004, 0x0005];

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Where the request came from, as the server saw it.
    From(SocketAddr),
    /// It does not say, by this code.
    Refused(u16),
}

/// A request.
pub(crate) fn request(id: &Id) -> [u8; HEADER] {
    let mut message = [0; HEADER];
    message[..2].copy_from_slice(&REQUEST.to_be_bytes());
    message[4..8].copy_from_slice(&COOKIE);
    message[8..].copy_from_slice(id);
    message
}

/// Reads the answer to the request `id`; none if it is none, or says what has to be understood and is not.
pub(crate) fn read(message: &[u8], id: &Id) -> Option<Answer> {
    let (header, attributes) = message.split_at_checked(HEADER)?;
    let is_ours = header[4..8] == COOKIE && header[8..] == *id;
    if !is_ours || usize::from(number(&header[2..])?) != attributes.len() || attributes.len() % 4 != 0 {
        return None;
    }
    let (kind, mut rest) = (number(header)?, attributes);
    let mut answer = None;
    while !rest.is_empty() {
        let (attribute, value) = (number(rest)?, rest.get(4..)?);
        let length = usize::from(number(&rest[2..])?);
        let value_only = value.get(..length)?;
        // Of several of a type the first counts.
        match (kind, attribute) {
            (SUCCESS, XOR_MAPPED_ADDRESS) => answer = answer.or(Some(Answer::From(mapped(value_only, id)?))),
            (ERROR, ERROR_CODE) => answer = answer.or(Some(Answer::Refused(code(value_only)?))),
            (SUCCESS, unknown) if unknown < OPTIONAL && !KNOWN.contains(&unknown) => return None,
            _ => {}
        }
        rest = value.get(length.next_multiple_of(4)..)?;
    }
    answer
}

fn number(octets: &[u8]) -> Option<u16> {
    octets.first_chunk().map(|octets| u16::from_be_bytes(*octets))
}

/// [RFC 8489, section 14.2](https://www.rfc-editor.org/rfc/rfc8489#section-14.2): hidden from routers that rewrite every
/// address they see.
fn mapped(value: &[u8], id: &Id) -> Option<SocketAddr> {
    let [_, family, hidden @ ..] = value else { return None };
    let port = number(hidden)? ^ number(&COOKIE)?;
    let mask = [&COOKIE[..], id].concat();
    let open: Vec<u8> = hidden[2..].iter().zip(mask).map(|(octet, mask)| octet ^ mask).collect();
    let address = match (family, hidden.len() - 2) {
        (1, 4) => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(open).ok()?)),
        (2, 16) => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(open).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// [RFC 8489, section 14.8](https://www.rfc-editor.org/rfc/rfc8489#section-14.8).
fn code(value: &[u8]) -> Option<u16> {
    let [_, _, class, number, ..] = value else { return None };
    Some(u16::from(class & 7) * 100 + u16::from(*number))
}

#[cfg(test)]
pub(crate) mod tests {
    use data_encoding::HEXLOWER_PERMISSIVE;
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        HEXLOWER_PERMISSIVE.decode(text.replace([' ', '\n'], "").as_bytes()).unwrap()
    }

    const ID: Id = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    /// An answer with these attributes.
    fn answer(kind: u16, attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
        answer_to(&ID, kind, attributes)
    }

    /// What a server says that sees a request from there.
    pub(crate) fn answered(from: SocketAddr, id: &Id) -> Vec<u8> {
        answer_to(id, SUCCESS, &[(XOR_MAPPED_ADDRESS, hidden(from, id))])
    }

    fn answer_to(id: &Id, kind: u16, attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let attribute = |(kind, value): &(u16, Vec<u8>)| {
            let padding = vec![0; value.len().next_multiple_of(4) - value.len()];
            [&kind.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value, &padding].concat()
        };
        let attributes: Vec<u8> = attributes.iter().flat_map(attribute).collect();
        [&kind.to_be_bytes()[..], &(attributes.len() as u16).to_be_bytes(), &COOKIE, id, &attributes].concat()
    }

    fn hidden(address: SocketAddr, id: &Id) -> Vec<u8> {
        let (family, octets) = match address.ip() {
            IpAddr::V4(address) => (1, address.octets().to_vec()),
            IpAddr::V6(address) => (2, address.octets().to_vec()),
        };
        let mask = [&COOKIE[..], id].concat();
        let port = address.port() ^ number(&COOKIE).unwrap();
        let octets = octets.iter().zip(mask).map(|(octet, mask)| octet ^ mask);
        [vec![0, family], port.to_be_bytes().to_vec(), octets.collect()].concat()
    }

    /// [RFC 5769, sections 2.2 and 2.3](https://www.rfc-editor.org/rfc/rfc5769#section-2.2), without the integrity that only a
    /// request with a password has.
    #[test]
    fn the_vectors_of_the_rfc_are_understood() {
        let v4 = hex("0101 0024 2112a442 b7e7a701bc34d686fa87dfae
            8022 000b 7465737420766563746f7220 0020 0008 0001a147e112a643 8028 0004 c07d4c96");
        let v6 = hex("0101 0030 2112a442 b7e7a701bc34d686fa87dfae
            8022 000b 7465737420766563746f7220 0020 0014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9 8028 0004 c8fb0b4c");
        assert_eq!(read(&v4, &ID), Some(Answer::From("192.0.2.1:32853".parse().unwrap())));
        let expected = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        assert_eq!(read(&v6, &ID), Some(Answer::From(expected)));
    }

    #[test]
    fn what_is_no_answer_to_the_request_is_none() {
        let seen = hidden("192.0.2.1:7".parse().unwrap(), &ID);
        let good = answer(SUCCESS, &[(XOR_MAPPED_ADDRESS, seen.clone())]);
        assert!(matches!(read(&good, &ID), Some(Answer::From(_))));
        assert_eq!(read(&good, &[0; 12]), None, "another request");
        assert_eq!(read(&good[..good.len() - 1], &ID), None, "cut short");
        assert_eq!(read(&answer(SUCCESS, &[(1, vec![0, 1, 0, 7, 192, 0, 2, 1])]), &ID), None, "not hidden");
        assert_eq!(
            read(&answer(SUCCESS, &[(0x7fff, vec![]), (XOR_MAPPED_ADDRESS, seen)]), &ID),
            None,
            "not understood"
        );
        assert_eq!(read(&request(&ID), &ID), None, "a request");
        let refused = answer(ERROR, &[(ERROR_CODE, vec![0, 0, 4, 20, b'n', b'o'])]);
        assert_eq!(read(&refused, &ID), Some(Answer::Refused(420)));
    }

    proptest! {
        #[test]
        fn what_a_server_sees_is_what_is_read(address: SocketAddr, text in prop::collection::vec(any::<u8>(), 0..20)) {
            // A scope is not on the wire.
            let address = SocketAddr::new(address.ip(), address.port());
            let message = answer(SUCCESS, &[(0x8022, text), (XOR_MAPPED_ADDRESS, hidden(address, &ID))]);
            prop_assert_eq!(read(&message, &ID), Some(Answer::From(address)));
        }

        #[test]
        fn any_octets_are_read_without_harm(rest in prop::collection::vec(any::<u8>(), 0..200), kind in 0..4_usize) {
            read(&rest, &ID);
            let kind = [SUCCESS, ERROR, REQUEST, 0][kind];
            let length = (rest.len() as u16).to_be_bytes();
            read(&[&kind.to_be_bytes()[..], &length, &COOKIE, &ID, &rest].concat(), &ID);
        }
    }
}
