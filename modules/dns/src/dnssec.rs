//! Signed zones: [RFC 4033](https://www.rfc-editor.org/rfc/rfc4033) to 4035, with NSEC3 ([RFC 5155](https://www.rfc-editor.org/rfc/rfc5155)).
//!
//! A [`Keyset`](rollover::Keyset) knows which keys a zone has and what its parent is to say of them. It prepares the
//! content of the zone, [`sign`](sign::sign) signs that, and [`keys`] keeps the keys on disk. Nothing here knows the
//! time or the network: both are passed in.
//!
//! Whoever serves a zone
//! - reads its keyset, or begins with an empty one; makes a key if it has none, and rolls it;
//! - steps it now and then, with what the parent says if it could be asked; if that changed anything, writes it first, and
//!   publishes after that;
//! - prepares and signs the content whenever it or the keyset changed, and when the first signature falls due, each time
//!   with a new serial number;
//! - once signing is not wanted any more and the keyset is empty, serves the content as it is.
pub(crate) mod key;
pub(crate) mod keys;
pub(crate) mod rollover;
pub(crate) mod sign;

#[cfg(test)]
mod tests;
