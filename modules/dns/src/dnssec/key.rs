//! The key that signs all of a zone: ECDSA on P-256 with SHA-256, [RFC 6605](https://www.rfc-editor.org/rfc/rfc6605).
use std::fmt;

use data_encoding::{BASE64, HEXUPPER};
use hickory_proto::dnssec::{
    Algorithm, DnsSecError, PublicKey, SigningKey, TBS, crypto::EcdsaSigningKey, rdata::DNSKEY,
};
use serde::Serialize;
use sha2::{Digest, Sha256, Sha384};

use crate::name::Name;

/// ECDSAP256SHA256.
pub(crate) const ALGORITHM: u8 = 13;
/// A key of the zone that its parent may name: [RFC 4034, section 2.1.1](https://www.rfc-editor.org/rfc/rfc4034#section-2.1.1).
const FLAGS: u16 = 257;
/// [RFC 4034, section 2.1.2](https://www.rfc-editor.org/rfc/rfc4034#section-2.1.2).
const PROTOCOL: u8 = 3;
/// Digests of a key: [RFC 4509](https://www.rfc-editor.org/rfc/rfc4509), [RFC 6605](https://www.rfc-editor.org/rfc/rfc6605).
const SHA_256: u8 = 2;
const SHA_384: u8 = 4;

/// A private key, and its DNSKEY record.
pub(crate) struct Key {
    pkcs8: Box<[u8]>,
    signing: EcdsaSigningKey,
    dnskey: Box<[u8]>,
    tag: u16,
}

/// What a parent is to be told about a key, in the words that registrars use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ds {
    /// The name of the zone.
    pub zone: String,
    /// The number by which the key is found.
    pub key_tag: u16,
    /// 13: ECDSAP256SHA256.
    pub algorithm: u8,
    /// 2: SHA-256.
    pub digest_type: u8,
    /// Hexadecimal.
    pub digest: String,
    /// 257: KSK, or "key signing key".
    pub flags: u16,
    /// Always 3.
    pub protocol: u8,
    /// Base 64.
    pub public_key: String,
}

impl Key {
    /// Makes a key whose tag is none of `others`: the tag is how a signature says whose it is.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub(crate) fn generate(others: &[u16]) -> Result<Self, DnsSecError> {
        loop {
            let pkcs8 = EcdsaSigningKey::generate_pkcs8(Algorithm::ECDSAP256SHA256)?;
            let key = Self::read(pkcs8.secret_pkcs8_der())?;
            if !others.contains(&key.tag) {
                return Ok(key);
            }
        }
    }

    /// Reads a key from PKCS #8 in DER.
    ///
    /// # Errors
    /// It is not one, or not one of ECDSA on P-256.
    pub(crate) fn read(pkcs8: &[u8]) -> Result<Self, DnsSecError> {
        let signing = EcdsaSigningKey::from_pkcs8(&pkcs8.into(), Algorithm::ECDSAP256SHA256)?;
        let public = signing.to_public_key()?;
        let dnskey = [&FLAGS.to_be_bytes()[..], &[PROTOCOL, ALGORITHM], public.public_bytes()].concat();
        let tag = DNSKEY::calculate_key_tag_internal(&dnskey);
        Ok(Self { pkcs8: pkcs8.into(), signing, dnskey: dnskey.into(), tag })
    }

    /// The private key, as it is read.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The data of the DNSKEY record.
    pub(crate) fn dnskey(&self) -> &[u8] {
        &self.dnskey
    }

    /// The number by which a validator finds the key: [RFC 4034, appendix B](https://www.rfc-editor.org/rfc/rfc4034#appendix-B).
    pub(crate) fn tag(&self) -> u16 {
        self.tag
    }

    /// Signs `message`.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, DnsSecError> {
        self.signing.sign(&TBS::from(message))
    }

    /// The data of the DS record at the parent of `zone`.
    pub(crate) fn ds(&self, zone: &Name) -> Box<[u8]> {
        let digest = Sha256::digest(self.named(zone));
        [&self.tag.to_be_bytes()[..], &[ALGORITHM, SHA_256], &digest].concat().into()
    }

    /// Whether a DS record of `zone` with the data `ds` names this key, with a digest that validators accept.
    pub(crate) fn is_named_by(&self, ds: &[u8], zone: &Name) -> bool {
        let Some((fixed, digest)) = ds.split_first_chunk::<4>() else { return false };
        let named = self.named(zone);
        fixed[..3] == [&self.tag.to_be_bytes()[..], &[ALGORITHM]].concat()
            && match fixed[3] {
                SHA_256 => digest == &*Sha256::digest(named),
                SHA_384 => digest == &*Sha384::digest(named),
                _ => false,
            }
    }

    /// What the parent of `zone` is to be told.
    pub(crate) fn describe(&self, zone: &Name) -> Ds {
        Ds {
            zone: zone.to_string(),
            key_tag: self.tag,
            algorithm: ALGORITHM,
            digest_type: SHA_256,
            digest: HEXUPPER.encode(&self.ds(zone)[4..]),
            flags: FLAGS,
            protocol: PROTOCOL,
            public_key: BASE64.encode(&self.dnskey[4..]),
        }
    }

    /// What a digest is made of: [RFC 4034, section 5.1.4](https://www.rfc-editor.org/rfc/rfc4034#section-5.1.4).
    fn named(&self, zone: &Name) -> Vec<u8> {
        [zone.wire(), &self.dnskey].concat()
    }
}

/// Never the private key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("tag", &self.tag).finish_non_exhaustive()
    }
}

/// Two keys are one if their public keys are.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.dnskey == other.dnskey
    }
}

/// The record as a line of a zone file.
impl fmt::Display for Ds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { zone, key_tag, algorithm, digest_type, digest, .. } = self;
        write!(f, "{zone} IN DS {key_tag} {algorithm} {digest_type} {digest}")
    }
}

impl Ds {
    /// The key itself as a line of a zone file: some registrars make the digest themselves.
    pub fn dnskey(&self) -> String {
        let Self { zone, flags, protocol, algorithm, public_key, .. } = self;
        format!("{zone} IN DNSKEY {flags} {protocol} {algorithm} {public_key}")
    }
}
