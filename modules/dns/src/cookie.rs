//! Pure: cookies, by which a server knows that a client's address is its own:
//! [RFC 7873](https://www.rfc-editor.org/rfc/rfc7873), made as in [RFC 9018](https://www.rfc-editor.org/rfc/rfc9018).
use std::{hash::Hasher, net::IpAddr};

use siphasher::sip::SipHasher24;

/// How long a cookie is good, in seconds: [RFC 9018, section 4.3](https://www.rfc-editor.org/rfc/rfc9018#section-4.3).
const LIFETIME: u32 = 3600;
/// How far another server's clock may be ahead.
const AHEAD: u32 = 300;
/// Version 1, and three octets that are reserved.
const VERSION: [u8; 4] = [1, 0, 0, 0];

/// The secret that cookies are made with.
#[derive(Clone, Default)]
pub(crate) struct Cookies {
    secret: [u8; 16],
}

/// What a client showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presented {
    /// A cookie that was made here for its address.
    Ours,
    /// None, or one that is not good any more.
    Other,
}

impl Cookies {
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        Self { secret }
    }

    /// A fresh cookie for the client of `shown`, which has at least eight octets, and what it was that it showed.
    pub(crate) fn answer(&self, shown: &[u8], address: IpAddr, now: u32) -> ([u8; 24], Presented) {
        let (client, server) = shown.split_at(8);
        let is_ours = server.len() == 16 && {
            let made = u32::from_be_bytes([server[4], server[5], server[6], server[7]]);
            // Serial number arithmetic: RFC 1982.
            let age = now.wrapping_sub(made).cast_signed();
            let is_fresh = age <= LIFETIME.cast_signed() && age >= -AHEAD.cast_signed();
            is_fresh && server[..4] == VERSION && self.make(client, made, address)[..] == *shown
        };
        let mut fresh = [0; 24];
        fresh[..8].copy_from_slice(client);
        fresh[8..].copy_from_slice(&self.make(client, now, address)[8..]);
        (fresh, if is_ours { Presented::Ours } else { Presented::Other })
    }

    /// The whole cookie.
    fn make(&self, client: &[u8], made: u32, address: IpAddr) -> [u8; 24] {
        let mut cookie = [0; 24];
        cookie[..8].copy_from_slice(client);
        cookie[8..12].copy_from_slice(&VERSION);
        cookie[12..16].copy_from_slice(&made.to_be_bytes());
        let mut hasher = SipHasher24::new_with_key(&self.secret);
        hasher.write(&cookie[..16]);
        match address {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&address.octets()),
        }
        cookie[16..].copy_from_slice(&hasher.finish().to_le_bytes());
        cookie
    }
}

impl std::fmt::Debug for Cookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookies")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(hex: &str) -> Vec<u8> {
        hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// [RFC 9018, appendix A](https://www.rfc-editor.org/rfc/rfc9018#appendix-A).
    #[test]
    fn cookies_are_those_of_the_rfc() {
        let cookies = Cookies::new(octets("e5e973e5a6b2a43f48e7dc849e37bfcf").try_into().unwrap());
        let address = "198.51.100.100".parse().unwrap();
        let (fresh, presented) = cookies.answer(&octets("2464c4abcf10c957"), address, 1_559_731_985);
        assert_eq!(presented, Presented::Other);
        assert_eq!(fresh, *octets("2464c4abcf10c957010000005cf79f111f8130c3eee29480"));

        let address = "203.0.113.203".parse().unwrap();
        let shown = octets("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5");
        let (_, presented) = cookies.answer(&shown, address, 1_559_734_700);
        // Its reserved octets are not those that are made here.
        assert_eq!(presented, Presented::Other);
    }

    #[test]
    fn a_cookie_is_good_for_an_hour_at_its_address() {
        let cookies = Cookies::new([7; 16]);
        let [here, there] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        let (shown, _) = cookies.answer(b"01234567", here, 1000);
        for (address, now, expected) in [
            (here, 1000, Presented::Ours),
            (here, 4600, Presented::Ours),
            (here, 4601, Presented::Other),
            (here, 700, Presented::Ours),
            (here, 699, Presented::Other),
            (there, 1000, Presented::Other),
        ] {
            assert_eq!(cookies.answer(&shown, address, now).1, expected, "{address} {now}");
        }
        assert_eq!(cookies.answer(b"01234567", here, 1000).1, Presented::Other);
        assert_eq!(cookies.answer(&[&shown[..], b"more"].concat(), here, 1000).1, Presented::Other);
    }
}
