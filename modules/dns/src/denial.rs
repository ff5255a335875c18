//! Pure: proofs that a name or a type is not there, by hashed names: NSEC3, [RFC 5155](https://www.rfc-editor.org/rfc/rfc5155)
//! with the parameters of [RFC 9276](https://www.rfc-editor.org/rfc/rfc9276): `1 0 0 -`.
use sha1::{Digest, Sha1};

use crate::{rrset::Rrset, rtype::Rtype, zone::Denial};

/// The hash of a name: one round of SHA-1, no salt.
pub(crate) type Hash = [u8; 20];

/// The NSEC3 records of a zone.
#[derive(Debug)]
pub(crate) struct Chain(Vec<(Hash, Rrset)>);

impl Chain {
    /// Encodes the records.
    pub(crate) fn new(denials: &[Denial], apex: &[u8]) -> Self {
        let encode = |denial: &Denial| (denial.hash, Rrset::new(Rtype::NSEC3, &denial.set, &denial.signatures, apex));
        let mut chain: Vec<_> = denials.iter().map(encode).collect();
        chain.sort_unstable_by_key(|(hash, _)| *hash);
        Self(chain)
    }

    /// The record of a name that is there, or the one that says it is not.
    pub(crate) fn covering(&self, name: &[u8]) -> Option<&(Hash, Rrset)> {
        let place = match self.0.binary_search_by_key(&hash(name), |(hash, _)| *hash) {
            Ok(place) => place,
            // Before the first: the last covers up to there.
            Err(place) => place.checked_sub(1).unwrap_or(self.0.len().checked_sub(1)?),
        };
        self.0.get(place)
    }
}

/// Hashes a name in canonical form: [RFC 5155, section 5](https://www.rfc-editor.org/rfc/rfc5155#section-5).
pub(crate) fn hash(name: &[u8]) -> Hash {
    Sha1::digest(name).into()
}

/// The first label of the record's owner, with its length: the hash in base 32 with the extended hex alphabet.
pub(crate) fn label(hash: &Hash) -> [u8; 33] {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let mut label = [32; 33];
    let (groups, _) = hash.as_chunks::<5>();
    for (group, digits) in groups.iter().zip(label[1..].chunks_exact_mut(8)) {
        let bits = group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for (place, digit) in digits.iter_mut().enumerate() {
            *digit = DIGITS[(bits >> (35 - 5 * place) & 31) as usize];
        }
    }
    label
}
