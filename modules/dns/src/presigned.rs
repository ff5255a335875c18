//! Pure: zones that somebody else has signed. They are served as they came, signatures and denials where they belong:
//! [RFC 4035, section 3](https://www.rfc-editor.org/rfc/rfc4035#section-3). Without the key nothing can be made anew, so a zone
//! whose proofs are not of the kind that is looked up here is not taken.
use data_encoding::BASE32HEX_NOPAD;

use crate::{
    content::Content,
    denial::Hash,
    dnssec::sign::{Head, PARAMETERS, hashes},
    name::{Name, parent},
    rtype::Rtype,
    zone::{Denial, Signed},
};

/// Octets of an RRSIG record before the name of the signer.
const FIXED: usize = 18;
/// Octets of a hash.
const HASH: u8 = 20;

/// Why a signed zone cannot be served as it was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unservable {
    /// It denies names by other names.
    #[error(
        "it is signed with NSEC, and only NSEC3 with the parameters 1 0 0 - can be served: have its signer use those (RFC 9276)"
    )]
    Nsec,
    /// It denies names by other hashes.
    #[error(
        "it is signed with NSEC3 parameters other than 1 0 0 -, and only those can be served: have its signer use them \
        (RFC 9276; no salt, no extra iterations, no opt-out)"
    )]
    Parameters,
    /// A record that belongs to signing is not one.
    #[error("{owner}: the {rtype} record is none")]
    Malformed {
        /// Whose it is.
        owner: Name,
        /// What it should be.
        rtype: Rtype,
    },
    /// There is a signature, and nothing that it signs.
    #[error("{owner}: there is a signature of {rtype} records, and no such record")]
    Orphan {
        /// Whose it is.
        owner: Name,
        /// What it signs.
        rtype: Rtype,
    },
    /// Some signatures are missing.
    #[error("it has signatures, but none of its SOA record")]
    Partly,
    /// Some name could not be denied, or would be.
    #[error("its NSEC3 records are not those of its names")]
    Chain,
}

/// Whether there is something in a zone that only signing adds.
pub(crate) fn is_signed(content: &Content) -> bool {
    content.sets().any(|(_, rtype, _)| matches!(rtype, Rtype::RRSIG | Rtype::NSEC | Rtype::NSEC3))
}

/// Takes a zone and what signing added to it apart; none if it is not signed.
///
/// # Errors
/// It is signed in a way that cannot be served.
pub(crate) fn split(content: &Content) -> Result<Option<(Content, Signed)>, Unservable> {
    if !is_signed(content) {
        return Ok(None);
    }
    if content.sets().any(|(_, rtype, _)| rtype == Rtype::NSEC) {
        return Err(Unservable::Nsec);
    }
    let parameters = content.set(content.apex(), Rtype::NSEC3PARAM);
    if !parameters.is_some_and(|set| matches!(&*set.data, [data] if **data == PARAMETERS)) {
        return Err(Unservable::Parameters);
    }
    let (mut plain, mut signed) = (Content::new(content.apex().clone()), Signed::default());
    for (owner, rtype, set) in content.sets() {
        match rtype {
            Rtype::RRSIG => {
                for data in &set.data {
                    let malformed = || Unservable::Malformed { owner: owner.clone(), rtype };
                    let covered = data.first_chunk::<2>().filter(|_| data.len() > FIXED).ok_or_else(malformed)?;
                    let place = (owner.clone(), Rtype(u16::from_be_bytes(*covered)));
                    signed.signatures.entry(place).or_default().push(data.clone());
                }
            }
            Rtype::NSEC3 => {
                let malformed = || Unservable::Malformed { owner: owner.clone(), rtype };
                let hash = hash(owner, content.apex()).ok_or_else(malformed)?;
                let [data] = &*set.data else { return Err(malformed()) };
                if data.first_chunk() != Some(&PARAMETERS) {
                    return Err(Unservable::Parameters);
                }
                next(data).ok_or_else(malformed)?;
                signed.denials.push(Denial { hash, set: set.clone(), signatures: Vec::new() });
            }
            _ => plain.put(owner.clone(), rtype, set.clone()),
        }
    }
    signed.denials.sort_unstable_by_key(|denial| denial.hash);
    for denial in &mut signed.denials {
        let owner = content.apex().below(&crate::denial::label(&denial.hash)[1..]).expect("it came with that name");
        denial.signatures = signed.signatures.remove(&(owner, Rtype::NSEC3)).unwrap_or_default();
    }
    check(&plain, &signed)?;
    Ok(Some((plain, signed)))
}

/// Looks whether what is there is signed, and what is not there can be denied.
fn check(plain: &Content, signed: &Signed) -> Result<(), Unservable> {
    let orphan = signed.signatures.keys().filter(|(owner, rtype)| plain.set(owner, *rtype).is_none()).min();
    if let Some((owner, rtype)) = orphan {
        return Err(Unservable::Orphan { owner: owner.clone(), rtype: *rtype });
    }
    if !signed.signatures.contains_key(&(plain.apex().clone(), Rtype::SOA)) {
        return Err(Unservable::Partly);
    }
    let denied: Vec<Hash> = signed.denials.iter().map(|denial| denial.hash).collect();
    let following = denied.iter().skip(1).chain(denied.first());
    let is_closed =
        signed.denials.iter().zip(following).all(|(denial, after)| next(&denial.set.data[0]) == Some(after));
    // Whoever is asked for a name takes it for granted that it has its record: RFC 5155, section 7.1.
    let is_whole = plain.soa().is_some() && denied == hashes(plain);
    if is_closed && is_whole { Ok(()) } else { Err(Unservable::Chain) }
}

/// When the first of the signatures expires, in seconds since 1970.
pub(crate) fn expires(signed: &Signed) -> Option<u32> {
    let denials = signed.denials.iter().flat_map(|denial| &denial.signatures);
    signed.signatures.values().flatten().chain(denials).map(|data| Head::read(data).expiration).min()
}

/// The hash that an NSEC3 record has in its name: [RFC 5155, section 3](https://www.rfc-editor.org/rfc/rfc5155#section-3).
fn hash(owner: &Name, apex: &Name) -> Option<Hash> {
    let label = owner.wire().get(1..=usize::from(owner.wire()[0]))?.to_ascii_uppercase();
    let is_below = parent(owner.wire()) == Some(apex.wire());
    BASE32HEX_NOPAD.decode(&label).ok().filter(|_| is_below)?.try_into().ok()
}

/// The hash that an NSEC3 record says comes next.
fn next(data: &[u8]) -> Option<&Hash> {
    let (length, rest) = data.get(PARAMETERS.len()..)?.split_first()?;
    rest.first_chunk().filter(|_| *length == HASH)
}

#[cfg(test)]
mod tests;
