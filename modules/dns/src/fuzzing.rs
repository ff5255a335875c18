//! What fuzzers call.
use std::{net::Ipv4Addr, sync::Arc};

use crate::{
    answer::{Client, Identity, Transport, answer},
    check::Referral,
    content::Content,
    name::Name,
    overlay::Overlay,
    parent,
    query::Query,
    reply::OPT,
    response::Question,
    rtype::Rtype,
    secondary::{
        replica::Replica,
        stream::{LIMITS, Sent, Stream, apply},
    },
    stun, text, tsig,
    update::{Asker, Update},
    zone::{self, Zone, Zones},
};

/// The answer of a server that may see an address.
pub fn stun(message: &[u8]) {
    // Its own id: who guesses it need not be guessed at.
    let id = message.get(8..20).and_then(|id| id.try_into().ok()).unwrap_or_default();
    stun::read(message, &id);
}

/// Reads the answer of another name server to a question about `kube.test`: the flags and counts of its header, and what comes
/// after the question.
pub fn response(rtype: u8, input: &[u8]) {
    let name = |text: &str| text.parse::<Name>().expect("a name");
    let question = Question { name: name("kube.test"), rtype: Rtype(rtype.into()), is_recursive: false };
    let Some((header, rest)) = input.split_first_chunk::<8>() else { return };
    let mut message = question.write(7);
    message.truncate(message.len() - OPT);
    message[2..4].copy_from_slice(&header[..2]);
    message[6..12].copy_from_slice(&header[2..]);
    message.extend(rest);
    let Some(response) = question.read(7, &message) else { return };
    if let Ok(parent) = parent::read(&response, &question.name, &name("test")) {
        assert!(response.is_authoritative && !response.is_truncated);
        assert_eq!(parent.ds.is_empty(), response.data(&question.name, Rtype::DS).next().is_none());
    }
    Referral::read(&question.name, &response);
}

/// Zones that are asked.
pub struct Asked(Zones);

impl Asked {
    /// The zone of a text; none if it is no zone.
    pub fn new(zone: &[u8]) -> Option<Self> {
        let content = text::read(zone, None).ok()?;
        Some(Self(Zones::new(vec![Arc::new(Zone::new(&content, None))])))
    }

    /// The answer to a message.
    pub fn answer(&self, message: &[u8], over_udp: bool) -> Option<Vec<u8>> {
        let transport = if over_udp { Transport::Udp } else { Transport::Stream };
        let client = Client { address: Ipv4Addr::LOCALHOST.into(), transport, now: 1 };
        let mut out = Vec::new();
        answer(&self.0, &Identity::default(), &client, message, &mut out).map(|_| out)
    }
}

/// A zone that is updated by one who may change everything.
pub struct Updated(Content);

impl Updated {
    /// The zone of a text; none if it is no zone.
    pub fn new(zone: &[u8]) -> Option<Self> {
        text::read(zone, None).ok().map(Self)
    }

    /// The zone after a message, whatever that wants first; none if it is no update of it.
    pub fn update(&self, message: &[u8]) -> Option<Content> {
        let update = Update::read(message, &Query::read(message).ok()?).ok()?;
        if update.zone != *self.0.apex() {
            return None;
        }
        update.check(&self.0).ok();
        let asker = Asker { key: self.0.apex(), now: 1 };
        let left = update.apply(&self.0, &Overlay::default(), asker, |_, _| true).ok()?;
        let mut content = self.0.clone();
        left.apply(&mut content);
        Some(content)
    }
}

/// The zone that a primary sends in `frames`, whole or as what changed since the zone of a text; none if it is none.
pub fn receive(known: &[u8], frames: &[u8], is_whole: bool) -> Option<Asked> {
    let known = text::read(known, None).ok()?;
    let name = known.apex().clone();
    let rtype = if is_whole { Rtype::AXFR } else { Rtype::IXFR };
    let question = Question { name: name.clone(), rtype, is_recursive: false };
    let key = tsig::Key { name: name.clone(), algorithm: tsig::Algorithm::default(), secret: b"secret".to_vec() };
    let mut asker = tsig::asker::Asker::sign(&key, &mut question.write(0), 1);
    let mut stream = Stream::new(name.clone(), (!is_whole).then(|| known.serial()), LIMITS);
    let mut rest = frames;
    loop {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (message, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
        rest = after;
        // Nobody guesses the key; it is only seen to that nothing breaks.
        asker.check(message, 1).ok();
        if stream.take(message.len(), question.read_part(0, message)?.answer).ok()? {
            break;
        }
    }
    let records = match stream.sent()? {
        Sent::Current => return None,
        Sent::Whole(records) => records,
        Sent::Changes(changes) => apply(&name, zone::records(&known, None), changes).ok()?,
    };
    Some(Asked(Zones::new(vec![Replica::new(&name, records).ok()?.zone])))
}
