//! Pure: requests to other name servers to update the TXT records of a name, and what they answer:
//! [RFC 2136, sections 2 and 3.8](https://www.rfc-editor.org/rfc/rfc2136#section-2).
use domain::base::{
    Message,
    iana::{Opcode, OptRcode},
};

use super::UPDATE;
use crate::{content::Set, name::Name, query::ANY, rrset::IN, rtype::Rtype};

/// A request to put `set` in place of all TXT records of `owner`, which is in `zone`; an empty one takes them away.
pub(crate) fn replace(id: u16, zone: &Name, owner: &Name, set: &Set) -> Vec<u8> {
    let changes = u16::try_from(1 + set.data.len()).expect("an order has few proofs");
    let mut out = Vec::with_capacity(512);
    out.extend(id.to_be_bytes());
    out.extend([UPDATE, 0, 0, 1, 0, 0]);
    out.extend(changes.to_be_bytes());
    out.extend([0, 0]);
    out.extend(zone.wire());
    out.extend([Rtype::SOA.0, IN].map(u16::to_be_bytes).concat());
    // All that were there go first, section 2.5.2: what a program that fell left behind does too.
    record(&mut out, owner, ANY, 0, &[]);
    for data in &set.data {
        record(&mut out, owner, IN, set.ttl, data);
    }
    out
}

fn record(out: &mut Vec<u8>, owner: &Name, class: u16, ttl: u32, data: &[u8]) {
    out.extend(owner.wire());
    out.extend([Rtype::TXT.0, class].map(u16::to_be_bytes).concat());
    out.extend(ttl.to_be_bytes());
    out.extend(u16::try_from(data.len()).expect("a proof is short").to_be_bytes());
    out.extend(data);
}

/// What came of a request with that ID; none if `message` is no answer to one.
pub(crate) fn read(id: u16, message: &[u8]) -> Option<OptRcode> {
    let message = Message::from_slice(message).ok()?;
    let header = message.header();
    let is_it = header.id() == id && header.qr() && header.opcode() == Opcode::UPDATE;
    is_it.then(|| message.opt_rcode())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        content::{Content, Record},
        overlay::Overlay,
        query::Query,
        update::{Asker, Update},
    };

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// What a server has of the name after a request, and had before.
    fn after(before: &[&[u8]], set: &Set) -> Option<Set> {
        let (zone, owner) = (name("Example.test"), name("_acme-challenge.example.test"));
        let message = replace(7, &zone, &owner, set);
        let update = Update::read(&message, &Query::read(&message).unwrap()).unwrap();
        let mut content = Content::new(zone);
        for data in before {
            content.add(Record { owner: owner.clone(), rtype: Rtype::TXT, ttl: 5, data: (*data).into() });
        }
        update.check(&content).unwrap();
        let asker = Asker { key: &name("key"), now: 1 };
        let overlay = update.apply(&content, &Overlay::default(), asker, |_, _| true).unwrap();
        overlay.set(&content, &owner, Rtype::TXT).cloned()
    }

    #[test]
    fn what_is_asked_for_takes_the_place_of_all_that_was_there() {
        let two = Set { ttl: 60, data: vec![b"\x03one"[..].into(), b"\x03two"[..].into()] };
        assert_eq!(after(&[], &two), Some(two.clone()));
        assert_eq!(after(&[b"\x03old", b"\x03two"], &two), Some(two));
        assert_eq!(after(&[b"\x03old"], &Set::default()), None);
    }

    #[test]
    fn only_the_answer_to_the_request_is_one() {
        let mut answer = replace(7, &name("example.test"), &name("a.example.test"), &Set::default());
        assert_eq!(read(7, &answer), None, "that is a request");
        (answer[2], answer[3]) = (0x80 | UPDATE, 5);
        assert_eq!(read(7, &answer), Some(OptRcode::REFUSED));
        // Without anything of the request but its ID.
        let (mut bare, done) = (answer[..12].to_vec(), [0; 8]);
        bare[3] = 0;
        bare[4..].copy_from_slice(&done);
        assert_eq!(read(7, &bare), Some(OptRcode::NOERROR));
        assert_eq!(read(8, &answer), None);
        answer[2] = 0x84;
        assert_eq!(read(7, &answer), None, "that answers a question");
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_an_answer_or_not(message in prop::collection::vec(any::<u8>(), 0..80)) {
            read(7, &message);
        }

        #[test]
        fn whatever_is_said_is_a_request(texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..255), 0..4)) {
            let data = texts.iter().map(|text| [&[text.len() as u8], &**text].concat().into()).collect();
            after(&[], &Set { ttl: 60, data });
        }
    }
}
