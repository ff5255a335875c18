//! Pure: what Linux says of the IPv6 addresses that interfaces have: `/proc/net/if_inet6`.
use std::{collections::BTreeMap, net::Ipv6Addr};

/// What is known of an address; without any of these it can be used, and lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Nothing can be bound to it: whether another machine has it is being asked, or one has
    /// ([RFC 4862, section 5.4](https://www.rfc-editor.org/rfc/rfc4862#section-5.4)).
    pub(crate) is_tentative: bool,
    /// It is one of those that change every day so that nobody is recognised by them
    /// ([RFC 8981](https://www.rfc-editor.org/rfc/rfc8981)), or it is on its way out
    /// ([RFC 4862, section 5.5.4](https://www.rfc-editor.org/rfc/rfc4862#section-5.5.4)).
    pub(crate) is_passing: bool,
}

// `linux/if_addr.h`.
const TEMPORARY: u8 = 0x01;
const OPTIMISTIC: u8 = 0x04;
const DAD_FAILED: u8 = 0x08;
const DEPRECATED: u8 = 0x20;
const TENTATIVE: u8 = 0x40;

/// The addresses of the file: lines of address, interface number, prefix length, scope, flags and interface, in hexadecimal. A
/// line that is none is left out.
pub(crate) fn states(text: &str) -> BTreeMap<Ipv6Addr, State> {
    text.lines().filter_map(state).collect()
}

fn state(line: &str) -> Option<(Ipv6Addr, State)> {
    let mut words = line.split_ascii_whitespace();
    let address = words.next().filter(|address| address.len() == 32)?;
    let address = u128::from_str_radix(address, 16).ok()?;
    let flags = u8::from_str_radix(words.nth(3)?, 16).ok()?;
    let has = |flag| flags & flag != 0;
    // An optimistic one is tentative too, and can be used all the same: RFC 4429.
    let is_tentative = has(DAD_FAILED) || has(TENTATIVE) && !has(OPTIMISTIC);
    Some((Ipv6Addr::from(address), State { is_tentative, is_passing: has(TEMPORARY) || has(DEPRECATED) }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_that_do_not_last_are_told_from_those_that_do() {
        let states = states(
            "00000000000000000000000000000001 01 80 10 80       lo\n\
             2a0104f8000000000000000000000001 02 40 00 80     eth0\n\
             2a0104f8000000000000000000000002 02 40 00 01     eth0\n\
             2a0104f8000000000000000000000003 02 40 00 20     eth0\n\
             2a0104f8000000000000000000000004 02 40 00 c0     eth0\n\
             2a0104f8000000000000000000000005 02 40 00 88     eth0\n\
             2a0104f8000000000000000000000006 02 40 00 44     eth0\n",
        );
        let of = |address: &str| states[&address.parse().unwrap()];
        let (lasting, passing, tentative) = (
            State::default(),
            State { is_passing: true, ..State::default() },
            State { is_tentative: true, ..State::default() },
        );
        for (address, expected) in [
            ("::1", lasting),
            ("2a01:4f8::1", lasting),
            ("2a01:4f8::2", passing),
            ("2a01:4f8::3", passing),
            ("2a01:4f8::4", tentative),
            ("2a01:4f8::5", tentative),
            ("2a01:4f8::6", lasting),
        ] {
            assert_eq!(of(address), expected, "{address}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "[0-9a-f \\n]{0,200}|\\PC{0,100}") {
            states(&text);
        }
    }
}
