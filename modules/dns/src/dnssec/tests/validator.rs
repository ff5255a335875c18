//! What a validating resolver does with an answer: [RFC 4035, section 5](https://www.rfc-editor.org/rfc/rfc4035#section-5),
//! [RFC 5155, section 8](https://www.rfc-editor.org/rfc/rfc5155#section-8).
use std::collections::BTreeMap;

use data_encoding::BASE32HEX_NOPAD;
use hickory_proto::{
    dnssec::{
        Verifier,
        rdata::{DNSKEY, DNSSECRData, RRSIG},
    },
    op::{Message, ResponseCode},
    rr::{self, DNSClass, RData, RecordType},
    serialize::binary::BinDecodable,
};

use crate::{
    content::{Content, Set},
    denial::{Hash, hash},
    name::{Name, suffixes},
    rtype::Rtype,
    zone::{Denial, Signed},
};

/// A resolver that trusts these keys of a zone.
pub(super) struct Validator {
    pub(super) apex: Name,
    pub(super) keys: Vec<DNSKEY>,
    pub(super) now: u32,
}

/// What an answer proves.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Proven {
    Answer,
    /// It leads out of the zone.
    Away,
    /// Its aliases lead back to one of them.
    Circle,
    NoData,
    NoName,
    /// To a zone below that is signed, or that is not.
    Referral {
        is_signed: bool,
    },
}

struct Nsec3 {
    hash: Hash,
    next: Hash,
    types: Vec<RecordType>,
}

impl Nsec3 {
    fn has(&self, rtype: RecordType) -> bool {
        self.types.contains(&rtype)
    }

    fn covers(&self, hash: Hash) -> bool {
        if self.hash < self.next { self.hash < hash && hash < self.next } else { self.hash < hash || hash < self.next }
    }

    fn is_cut(&self) -> bool {
        self.has(RecordType::NS) && !self.has(RecordType::SOA)
    }
}

type Groups = BTreeMap<(Name, u16), Vec<rr::Record>>;

pub(super) fn record(owner: &Name, rtype: Rtype, ttl: u32, data: &[u8]) -> rr::Record {
    let fixed = [&rtype.0.to_be_bytes()[..], &[0, 1], &ttl.to_be_bytes(), &(data.len() as u16).to_be_bytes()].concat();
    rr::Record::from_bytes(&[owner.wire(), &fixed, data].concat()).unwrap()
}

pub(super) fn records(owner: &Name, rtype: Rtype, set: &Set) -> Vec<rr::Record> {
    set.data.iter().map(|data| record(owner, rtype, set.ttl, data)).collect()
}

pub(super) fn signatures(owner: &Name, ttl: u32, data: &[Box<[u8]>]) -> Vec<rr::Record> {
    data.iter().map(|data| record(owner, Rtype::RRSIG, ttl, data)).collect()
}

/// A name of the other library as one of ours.
fn ours(name: &rr::Name) -> Name {
    let labels = name.iter().flat_map(|label| [&[label.len() as u8], label].concat());
    Name::read(&labels.chain([0]).collect::<Vec<_>>()).unwrap()
}

fn rrsig(record: &rr::Record) -> Option<&RRSIG> {
    let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &record.data else { return None };
    Some(rrsig)
}

fn labels(name: &Name) -> usize {
    suffixes(name.wire()).count() - 1 - usize::from(name.wire().starts_with(b"\x01*"))
}

/// The last `labels` labels of a name.
fn last(name: &Name, labels: usize) -> &[u8] {
    let all = suffixes(name.wire()).count() - 1;
    suffixes(name.wire()).nth(all - labels).unwrap()
}

impl Validator {
    /// One that trusts the keys in `content`.
    pub(super) fn new(content: &Content, now: u32) -> Self {
        let apex = content.apex().clone();
        let set = content.set(&apex, Rtype::DNSKEY).unwrap();
        Self { keys: keys(&apex, set), apex, now }
    }

    /// The signature that makes a set good.
    pub(super) fn verify<'r>(&self, records: &[rr::Record], signatures: &'r [rr::Record]) -> Option<&'r RRSIG> {
        let first = &records[0];
        signatures.iter().filter_map(rrsig).find(|rrsig| {
            let input = rrsig.input();
            input.type_covered == first.record_type()
                && ours(&input.signer_name) == self.apex
                && (input.sig_inception.get()..input.sig_expiration.get()).contains(&self.now)
                && records.iter().all(|record| record.ttl <= input.original_ttl)
                && usize::from(input.num_labels) <= labels(&ours(&first.name))
                && self.keys.iter().any(|key| {
                    key.calculate_key_tag().unwrap() == input.key_tag
                        && key.verify_rrsig(&first.name, DNSClass::IN, rrsig, records.iter()).is_ok()
                })
        })
    }

    /// Checks everything that is signed, by each key.
    pub(super) fn verify_all(&self, content: &Content, signed: &Signed) {
        for ((owner, rtype), data) in &signed.signatures {
            let set = content.set(owner, *rtype).unwrap();
            self.verify_each(owner, *rtype, set, data);
        }
        for Denial { hash, set, signatures } in &signed.denials {
            let label = BASE32HEX_NOPAD.encode(hash);
            self.verify_each(&self.apex.below(label.as_bytes()).unwrap(), Rtype::NSEC3, set, signatures);
        }
    }

    fn verify_each(&self, owner: &Name, rtype: Rtype, set: &Set, data: &[Box<[u8]>]) {
        assert_eq!(data.len(), self.keys.len(), "{owner} {rtype}");
        for key in &self.keys {
            let alone = Self { keys: vec![key.clone()], apex: self.apex.clone(), now: self.now };
            let signatures = signatures(owner, set.ttl, data);
            let verified = alone.verify(&records(owner, rtype, set), &signatures);
            assert!(verified.is_some(), "{owner} {rtype}");
        }
    }

    /// Validates an answer, and says what it proves.
    pub(super) fn judge(&self, answer: &[u8]) -> Result<Proven, String> {
        let message = Message::from_vec(answer).map_err(|error| error.to_string())?;
        if message.metadata.truncation {
            return Err("truncated".into());
        }
        let query = &message.queries[0];
        let (answers, authority) = (group(&message.answers), group(&message.authorities));
        let denials = self.denials(&authority)?;
        let proof = Proof { denials: &denials, apex: &self.apex };
        for ((owner, rtype), records) in answers.iter().chain(&authority) {
            self.accept(&answers, &authority, &proof, owner, *rtype, records)?;
        }
        let qtype: u16 = query.query_type().into();
        let mut name = ours(query.name());
        let mut followed = Vec::new();
        loop {
            if followed.contains(&name) {
                return Ok(Proven::Circle);
            }
            followed.push(name.clone());
            if qtype == Rtype::ANY.0 && answers.keys().any(|(owner, _)| *owner == name)
                || answers.contains_key(&(name.clone(), qtype))
            {
                return Ok(Proven::Answer);
            }
            let Some(alias) = answers.get(&(name.clone(), Rtype::CNAME.0)) else { break };
            let RData::CNAME(target) = &alias[0].data else { return Err("no alias".into()) };
            name = ours(&target.0);
        }
        // Or to where the server did not follow.
        if !name.is_in(self.apex.wire()) || followed.len() > 16 {
            return Ok(Proven::Away);
        }
        let servers = authority.keys().find(|(owner, rtype)| *rtype == Rtype::NS.0 && *owner != self.apex);
        if let Some((cut, _)) = servers {
            if !name.is_in(cut.wire()) {
                return Err(format!("a referral to {cut} for {name}"));
            }
            if authority.contains_key(&(cut.clone(), Rtype::DS.0)) {
                return Ok(Proven::Referral { is_signed: true });
            }
            let proven = proof.matching(cut.wire()).is_some_and(|nsec3| nsec3.is_cut() && !nsec3.has(RecordType::DS));
            return if proven {
                Ok(Proven::Referral { is_signed: false })
            } else {
                Err(format!("{cut} may have a DS"))
            };
        }
        if !authority.contains_key(&(self.apex.clone(), Rtype::SOA.0)) {
            return Err("no SOA record".into());
        }
        let rcode = message.metadata.response_code;
        if rcode == ResponseCode::NXDomain {
            proof.no_name(&name).map(|()| Proven::NoName)
        } else if rcode == ResponseCode::NoError {
            proof.no_data(&name, query.query_type()).map(|()| Proven::NoData)
        } else {
            Err(rcode.to_string())
        }
    }

    /// Accepts a set of an answer or not.
    fn accept(
        &self,
        answers: &Groups,
        authority: &Groups,
        proof: &Proof<'_>,
        owner: &Name,
        rtype: u16,
        records: &[rr::Record],
    ) -> Result<(), String> {
        if rtype == Rtype::RRSIG.0 {
            return Ok(());
        }
        let all =
            [answers, authority].map(|groups| groups.get(&(owner.clone(), Rtype::RRSIG.0)).map_or(&[][..], |all| all));
        let all = all.concat();
        let Some(rrsig) = self.verify(records, &all) else {
            let is_covered = all.iter().filter_map(rrsig).any(|rrsig| u16::from(rrsig.input().type_covered) == rtype);
            let is_referral =
                rtype == Rtype::NS.0 && *owner != self.apex && !answers.contains_key(&(owner.clone(), rtype));
            let is_made_up = rtype == Rtype::CNAME.0
                && suffixes(owner.wire()).skip(1).any(|above| {
                    let Some(dname) = answers.get(&(Name::read(above).unwrap(), Rtype::DNAME.0)) else { return false };
                    let RData::CNAME(target) = &records[0].data else { return false };
                    let labels = &owner.wire()[..owner.wire().len() - above.len()];
                    let to = dname_target(&dname[0]);
                    ours(&target.0).wire() == [labels, to.wire()].concat()
                });
            let accepted = !is_covered && (is_referral || is_made_up);
            return if accepted { Ok(()) } else { Err(format!("{owner} {rtype} is not signed")) };
        };
        let signed = usize::from(rrsig.input().num_labels);
        if signed < labels(owner) && !proof.is_covered(last(owner, signed + 1)) {
            return Err(format!("{owner} comes from a wildcard, but may be there itself"));
        }
        Ok(())
    }

    fn denials(&self, authority: &Groups) -> Result<Vec<Nsec3>, String> {
        let nsec3 = |record: &rr::Record| {
            let RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) = &record.data else { return None };
            let label = record.name.iter().next()?.to_ascii_uppercase();
            Some(Nsec3 {
                hash: BASE32HEX_NOPAD.decode(&label).ok()?.try_into().ok()?,
                next: nsec3.next_hashed_owner_name().try_into().ok()?,
                types: nsec3.type_bit_maps().collect(),
            })
        };
        let records =
            authority.iter().filter(|((_, rtype), _)| *rtype == Rtype::NSEC3.0).flat_map(|(_, records)| records);
        records.map(|record| nsec3(record).ok_or_else(|| format!("{record}"))).collect()
    }
}

/// The keys in a DNSKEY set.
pub(super) fn keys(apex: &Name, set: &Set) -> Vec<DNSKEY> {
    let key = |record: rr::Record| {
        let RData::DNSSEC(DNSSECRData::DNSKEY(key)) = record.data else { panic!("{record}") };
        key
    };
    records(apex, Rtype::DNSKEY, set).into_iter().map(key).collect()
}

/// The other library does not know the type.
fn dname_target(record: &rr::Record) -> Name {
    let RData::Unknown { rdata, .. } = &record.data else { panic!("{record}") };
    Name::read(&rdata.anything).unwrap()
}

fn group(records: &[rr::Record]) -> Groups {
    let mut groups = Groups::new();
    for record in records {
        groups.entry((ours(&record.name), record.record_type().into())).or_default().push(record.clone());
    }
    groups
}

struct Proof<'a> {
    denials: &'a [Nsec3],
    apex: &'a Name,
}

impl<'a> Proof<'a> {
    fn matching(&self, name: &[u8]) -> Option<&'a Nsec3> {
        self.denials.iter().find(|nsec3| nsec3.hash == hash(name))
    }

    fn is_covered(&self, name: &[u8]) -> bool {
        self.denials.iter().any(|nsec3| nsec3.covers(hash(name)))
    }

    /// The closest encloser of a name that is not there: [RFC 5155, section 8.3](https://www.rfc-editor.org/rfc/rfc5155#section-8.3).
    fn encloser(&self, name: &Name) -> Result<Name, String> {
        let mut above = suffixes(name.wire()).zip(suffixes(name.wire()).skip(1));
        let found = above.find_map(|(longer, name)| Some((longer, name, self.matching(name)?)));
        let (next_closer, encloser, nsec3) = found.ok_or_else(|| format!("{name}: no closest encloser"))?;
        let encloser = Name::read(encloser).unwrap();
        if !encloser.is_in(self.apex.wire()) || nsec3.is_cut() || nsec3.has(RecordType::from(Rtype::DNAME.0)) {
            return Err(format!("{encloser} encloses nothing"));
        }
        if self.is_covered(next_closer) { Ok(encloser) } else { Err(format!("{name}: the next closer may be there")) }
    }

    /// [RFC 5155, section 8.4](https://www.rfc-editor.org/rfc/rfc5155#section-8.4).
    fn no_name(&self, name: &Name) -> Result<(), String> {
        let wildcard = self.encloser(name)?.below(b"*").unwrap();
        if self.is_covered(wildcard.wire()) { Ok(()) } else { Err(format!("{wildcard} may be there")) }
    }

    /// [RFC 5155, sections 8.5 to 8.7](https://www.rfc-editor.org/rfc/rfc5155#section-8.5).
    fn no_data(&self, name: &Name, qtype: RecordType) -> Result<(), String> {
        let nsec3 = match self.matching(name.wire()) {
            Some(nsec3) => nsec3,
            None => {
                let wildcard = self.encloser(name)?.below(b"*").unwrap();
                self.matching(wildcard.wire()).ok_or_else(|| format!("{wildcard} is not known"))?
            }
        };
        // Of a DS record at the apex only the parent's word counts, but that is not this server's.
        if qtype != RecordType::DS && nsec3.is_cut() || nsec3.has(qtype) || nsec3.has(RecordType::CNAME) {
            return Err(format!("{name} {qtype} may be there"));
        }
        Ok(())
    }
}
