//! Signed zones: [RFC 4033](https://www.rfc-editor.org/rfc/rfc4033) to 4035, with NSEC3 ([RFC 5155](https://www.rfc-editor.org/rfc/rfc5155)).
//!
//! A [`Keyset`](rollover::Keyset) knows which keys a zone has and what its parent is to say of them. It prepares the
//! content of the zone, [`sign`](sign::sign) signs that, and [`keys`] keeps the keys on disk. Nothing here knows the
//! time or the network: both are passed in.
pub(crate) mod key;
pub(crate) mod keys;
pub(crate) mod rollover;
pub(crate) mod sign;

#[cfg(test)]
mod tests;
