//! Pure: the side that asks: its requests are signed, and what answers them is looked at before it counts.
use super::{BADKEY, BADSIG, BADTIME, Fields, Key, add, count, prefixed, record, timers, variables};
use crate::query::signature;

/// Most messages without a signature between two that have one: [RFC 8945, section 5.3.1](https://www.rfc-editor.org/rfc/rfc8945#section-5.3.1).
const UNSIGNED: u32 = 99;

/// Why an answer does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Untrusted {
    /// It has no signature where it must have one.
    #[error("its answer is not signed")]
    Unsigned,
    /// Its signature is none.
    #[error("its answer has a signature that cannot be read")]
    Malformed,
    /// It is signed with another key.
    #[error("its answer is signed with another key")]
    OtherKey,
    /// The signature is not one of that message.
    #[error("its answer has a wrong signature: the secrets differ, or it was changed on the way")]
    BadSignature,
    /// It was not signed now.
    #[error("its answer was signed at another time: one of the clocks is wrong")]
    Late,
    /// It says that it knows no such key.
    #[error("it does not know the key, or has it with another algorithm")]
    UnknownKey,
    /// It says that the signature of the question is wrong.
    #[error("it has another secret by the name of the key")]
    OtherSecret,
    /// It says that the question was signed at another time.
    #[error("its clock has another time than this machine's")]
    OtherTime,
}

/// A request that was signed, while answers come: [RFC 8945, section 5.3](https://www.rfc-editor.org/rfc/rfc8945#section-5.3).
pub(crate) struct Asker<'k> {
    key: &'k Key,
    /// The MAC of the request, or of the last answer that had one.
    previous: Vec<u8>,
    /// The messages since.
    between: Vec<u8>,
    unsigned: u32,
    is_first: bool,
}

impl<'k> Asker<'k> {
    /// Signs a request at a time in seconds since 1970.
    pub(crate) fn sign(key: &'k Key, message: &mut Vec<u8>, now: u32) -> Self {
        let timers = timers(now);
        let previous = key.mac(&[&**message, &variables(key, &timers, &[0; 4])].concat());
        let id = [message[0], message[1]];
        add(message, &record(key.name.wire(), key.algorithm.wire(), &timers, &previous, id, &[0; 4]));
        Self { key, previous, between: Vec::new(), unsigned: 0, is_first: true }
    }

    /// Looks at the next message that answers, at a time in seconds since 1970.
    ///
    /// # Errors
    /// It must not be believed, nor anything after it.
    pub(crate) fn check(&mut self, message: &[u8], now: u32) -> Result<(), Untrusted> {
        let Some(signature) = signature(message).map_err(|_| Untrusted::Malformed)? else {
            self.unsigned += 1;
            if self.is_first || self.unsigned > UNSIGNED {
                return Err(Untrusted::Unsigned);
            }
            self.between.extend_from_slice(message);
            return Ok(());
        };
        let fields = Fields::read(message, signature).ok_or(Untrusted::Malformed)?;
        // What says that it cannot sign is not signed.
        match u16::from_be_bytes([fields.tail[0], fields.tail[1]]) {
            BADKEY => return Err(Untrusted::UnknownKey),
            BADSIG => return Err(Untrusted::OtherSecret),
            _ => {}
        }
        if fields.name != self.key.name.wire() || fields.algorithm != self.key.algorithm.wire() {
            return Err(Untrusted::OtherKey);
        }
        let mut signed = prefixed(&self.previous);
        signed.append(&mut self.between);
        // As it was before it was signed.
        let begins = signed.len();
        signed.extend_from_slice(&message[..signature.at]);
        signed[begins..begins + 2].copy_from_slice(&fields.id);
        count(&mut signed[begins..], u16::wrapping_sub);
        match self.is_first {
            true => signed.extend(variables(self.key, &fields.timers, fields.tail)),
            false => signed.extend(fields.timers),
        }
        if !self.key.is_mac(&signed, fields.mac) {
            return Err(Untrusted::BadSignature);
        }
        match u16::from_be_bytes([fields.tail[0], fields.tail[1]]) {
            0 => {}
            BADTIME => return Err(Untrusted::OtherTime),
            _ => return Err(Untrusted::Malformed),
        }
        if fields.time().abs_diff(now.into()) > fields.fudge() {
            return Err(Untrusted::Late);
        }
        (self.previous, self.unsigned, self.is_first) = (fields.mac.to_vec(), 0, false);
        Ok(())
    }

    /// Whether the last message was signed, as the last of an answer has to be.
    pub(crate) fn is_settled(&self) -> bool {
        !self.is_first && self.unsigned == 0
    }
}

#[cfg(test)]
mod tests;
