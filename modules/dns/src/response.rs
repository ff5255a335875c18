//! Pure: questions to other name servers, and what they answer: [RFC 1035, section 4](https://www.rfc-editor.org/rfc/rfc1035#section-4).
use domain::{
    base::{
        Message, ToName,
        iana::{Class, OptRcode},
        message::RecordSection,
        rdata::ComposeRecordData,
        wire::ParseError,
    },
    rdata::AllRecordData,
};

use crate::{
    content::Record,
    name::Name,
    reply::{OPT, UDP_LIMIT},
    rrset::IN,
    rtype::Rtype,
};

/// What another name server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) rtype: Rtype,
    /// Whether it is to ask others: a resolver is, an authority is not.
    pub(crate) is_recursive: bool,
}

/// What another name server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) rcode: OptRcode,
    pub(crate) is_authoritative: bool,
    /// Whether there is more, which only a stream has room for.
    pub(crate) is_truncated: bool,
    pub(crate) answer: Vec<Record>,
    pub(crate) authority: Vec<Record>,
    pub(crate) additional: Vec<Record>,
}

impl Question {
    /// The message, with room for answers of 1232 octets.
    pub(crate) fn write(&self, id: u16) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.name.wire().len() + 40);
        out.extend(id.to_be_bytes());
        out.extend([self.is_recursive.into(), 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        out.extend(self.name.wire());
        out.extend(self.rtype.0.to_be_bytes());
        out.extend(IN.to_be_bytes());
        let opt = out.len();
        out.push(0);
        out.extend(Rtype::OPT.0.to_be_bytes());
        out.extend(UDP_LIMIT.to_be_bytes());
        out.resize(opt + OPT, 0);
        out
    }

    /// Reads `message`; none if it is not the answer to this question with that ID, or cannot be read.
    pub(crate) fn read(&self, id: u16, message: &[u8]) -> Option<Response> {
        let message = Message::from_slice(message).ok()?;
        let asked = message.sole_question().ok()?;
        let is_it = message.header().id() == id
            && message.header().qr()
            && asked.qclass() == Class::IN
            && asked.qtype().to_int() == self.rtype.0
            && Name::read(&asked.qname().to_vec().as_slice().to_ascii_lowercase())? == self.name;
        is_it.then(|| Response::read(message).ok()).flatten()
    }

    /// Reads a message of an answer that has many, of which only the first has to repeat the question:
    /// [RFC 5936, section 2.2.2](https://www.rfc-editor.org/rfc/rfc5936#section-2.2.2).
    pub(crate) fn read_part(&self, id: u16, message: &[u8]) -> Option<Response> {
        let part = Message::from_slice(message).ok()?;
        if part.header_counts().qdcount() > 0 {
            return self.read(id, message);
        }
        let is_it = part.header().id() == id && part.header().qr();
        is_it.then(|| Response::read(part).ok()).flatten()
    }
}

impl Response {
    fn read(message: &Message<[u8]>) -> Result<Self, ParseError> {
        let (_, answer, authority, additional) = message.sections()?;
        Ok(Self {
            rcode: message.opt_rcode(),
            is_authoritative: message.header().aa(),
            is_truncated: message.header().tc(),
            answer: records(answer)?,
            authority: records(authority)?,
            additional: records(additional)?,
        })
    }

    /// The data of the records of a name and type in the answer, with their TTL in seconds.
    pub(crate) fn data(&self, name: &Name, rtype: Rtype) -> impl Iterator<Item = (&[u8], u32)> {
        let is_it = move |record: &&Record| record.owner == *name && record.rtype == rtype;
        self.answer.iter().filter(is_it).map(|record| (&*record.data, record.ttl))
    }
}

/// The records of class IN, their data as zones here have it.
fn records(section: RecordSection<'_, [u8]>) -> Result<Vec<Record>, ParseError> {
    let mut records = Vec::new();
    for record in section.into_records::<AllRecordData<_, _>>() {
        let record = record?;
        if record.class() != Class::IN {
            continue;
        }
        let owner = Name::read(record.owner().to_vec().as_slice()).ok_or(ParseError::ShortInput)?;
        let mut data = Vec::new();
        let Ok(()) = record.data().compose_canonical_rdata(&mut data);
        let rtype = Rtype(record.rtype().to_int());
        records.push(Record { owner, rtype, ttl: record.ttl().as_secs(), data: data.into() });
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(name: &str, rtype: Rtype) -> Question {
        Question { name: name.parse().unwrap(), rtype, is_recursive: false }
    }

    /// An answer with an NS record, whose name is a pointer into the question, and its address behind it.
    fn answer(question: &Question, id: u16) -> Vec<u8> {
        let mut message = question.write(id);
        let end = message.len() - OPT;
        message.truncate(end);
        message[2..12].copy_from_slice(&[0x84, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
        message.extend([0xc0, 12, 0, 2, 0, 1, 0, 0, 0, 60, 0, 5, 2, b'n', b'S', 0xc0, 12]);
        message.extend([0xc0, end as u8 + 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        message
    }

    #[test]
    fn an_answer_is_read_with_its_names_whole_and_in_lower_case() {
        let question = question("Kube.test", Rtype::NS);
        let response = question.read(7, &answer(&question, 7)).unwrap();
        assert!(response.is_authoritative && !response.is_truncated && response.rcode == OptRcode::NOERROR);
        assert_eq!(
            response.data(&question.name, Rtype::NS).collect::<Vec<_>>(),
            [(&b"\x02ns\x04kube\x04test\0"[..], 60)]
        );
        let [address] = &*response.additional else { panic!("{response:?}") };
        assert_eq!((address.owner.to_string(), &*address.data), ("ns.kube.test.".to_owned(), &[192, 0, 2, 1][..]));
    }

    #[test]
    fn what_does_not_answer_the_question_is_none() {
        let asked = question("kube.test", Rtype::NS);
        let message = answer(&asked, 7);
        assert_eq!(asked.read(8, &message), None);
        assert_eq!(asked.read(7, &asked.write(7)), None, "that is a question");
        assert_eq!(question("kube.example", Rtype::NS).read(7, &message), None);
        assert_eq!(question("kube.test", Rtype::DS).read(7, &message), None);
        assert_eq!(asked.read(7, &message[..message.len() - 1]), None);
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_an_answer_or_not(tail in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..80) {
            let question = question("kube.test", Rtype::NS);
            let mut message = answer(&question, 7);
            message.truncate(cut.max(12));
            message.extend(tail);
            question.read(7, &message);
        }
    }
}
