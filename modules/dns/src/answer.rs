//! Pure: the query engine. A message and the zones at one moment in, an answer out:
//! [RFC 1034, section 4.3.2](https://www.rfc-editor.org/rfc/rfc1034#section-4.3.2) with
//! [RFC 4592](https://www.rfc-editor.org/rfc/rfc4592) (wildcards), [RFC 6672](https://www.rfc-editor.org/rfc/rfc6672) (DNAME),
//! [RFC 2308](https://www.rfc-editor.org/rfc/rfc2308) (negative answers) and
//! [RFC 5155](https://www.rfc-editor.org/rfc/rfc5155) (their proofs).
use std::{net::IpAddr, ptr};

use crate::{
    address::Address,
    cookie::{Cookies, Presented},
    denial::Hash,
    grant::Grants,
    name::{LONGEST, length, suffixes},
    query::{Edns, HEADER, Malformed, Opcode, Query},
    reply::{OPT, Rcode, Reply, Section, UDP_LIMIT},
    rrset::{IN, Rrset},
    rtype::Rtype,
    secondary::heard::{Followed, hear},
    transfer::Secondary,
    tsig,
    zone::{Node, Place, Zone, Zones, wildcard},
};

/// Octets over UDP to those who do not say more: [RFC 1035, section 4.2.1](https://www.rfc-editor.org/rfc/rfc1035#section-4.2.1).
const PLAIN_LIMIT: u16 = 512;
/// Octets over a stream.
const STREAM_LIMIT: usize = 65535;
/// Aliases that are followed for one question.
const LONGEST_CHAIN: usize = 16;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    /// TCP, or TLS or HTTP over it.
    Stream,
}

/// What an answer says, for those who count and limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) rcode: Rcode,
    pub(crate) qtype: Rtype,
    /// The number of the zone; none if no zone has the name.
    pub(crate) zone: Option<usize>,
    pub(crate) kind: Kind,
    /// Whether the client showed a cookie of ours: its address is not forged.
    pub(crate) is_known: bool,
    /// Which of the zones of other name servers has changed, as one says who may: whoever keeps them up to date is to hear of it.
    pub(crate) notified: Option<usize>,
}

/// What kind of answer it is, for those who limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// It has records.
    Positive,
    /// The name has no such records, or there is no such name.
    Negative,
    /// Another server has them.
    Referral,
    /// The query was refused, or not understood.
    Error,
}

/// What the server says of itself.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    /// Its name, for those who ask which server this is: [RFC 5001](https://www.rfc-editor.org/rfc/rfc5001).
    pub(crate) nsid: Vec<u8>,
    pub(crate) cookies: Cookies,
    /// Answers of a kind that a network gets over UDP in a second; 0 is no limit.
    pub(crate) rate_limit: u32,
    /// Who may have whole zones.
    pub(crate) transfer: Vec<Secondary>,
    /// What queries may be signed with.
    pub(crate) keys: Vec<tsig::Key>,
    /// Who is told of changes.
    pub(crate) notify: Vec<Address>,
    /// Who may update what.
    pub(crate) grants: Grants,
    /// The zones of other name servers that are served here too.
    pub(crate) followed: Vec<Followed>,
}

/// Who asks, how, and when (in seconds since 1970).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    pub(crate) transport: Transport,
    pub(crate) now: u32,
}

/// Answers `message` into `out`; none if there is nothing to say.
pub(crate) fn answer(
    zones: &Zones,
    identity: &Identity,
    client: &Client,
    message: &[u8],
    out: &mut Vec<u8>,
) -> Option<Answered> {
    match Query::read(message) {
        Ok(query) => Some(reply(zones, identity, client, message, &query, out)),
        Err(Malformed::Silent) => None,
        Err(Malformed::Format) => {
            out.clear();
            out.extend_from_slice(&[message[0], message[1], 0x80 | message[2] & 0x79, Rcode::FormErr as u8]);
            out.resize(HEADER, 0);
            let (rcode, kind) = (Rcode::FormErr, Kind::Error);
            Some(Answered { rcode, qtype: Rtype(0), zone: None, kind, is_known: false, notified: None })
        }
    }
}

fn reply(
    zones: &Zones,
    identity: &Identity,
    client: &Client,
    message: &[u8],
    query: &Query<'_>,
    out: &mut Vec<u8>,
) -> Answered {
    let mut options = [0; 4 + 40 + 4 + 255];
    let (mut used, mut is_known) = (0, false);
    if let Some(edns) = &query.edns {
        (used, is_known) = identity.options(edns, client, &mut options);
    }
    let opt = query.edns.as_ref().map(|_| &options[..used]);
    let limit = match (client.transport, &query.edns) {
        (Transport::Stream, _) => STREAM_LIMIT,
        (Transport::Udp, None) => PLAIN_LIMIT.into(),
        (Transport::Udp, Some(edns)) => edns.payload.clamp(PLAIN_LIMIT, UDP_LIMIT).into(),
    };
    let mut signed = tsig::check(&identity.keys, message, query, client.now);
    let signature = match &signed {
        Ok(signer) => signer.as_ref().map_or(0, tsig::Signer::len),
        Err(refusal) => refusal.len(),
    };
    let limit = limit.saturating_sub(opt.map_or(0, |options| OPT + options.len()) + signature);
    let mut reply = Reply::new(query, message, limit, out);
    let (mut number, mut notified) = (None, None);
    let rcode = if let Err(refusal) = &signed {
        refusal.rcode()
    } else if query.edns.as_ref().is_some_and(|edns| edns.version > 0) {
        Rcode::BadVers
    } else if query.opcode == Opcode::Update {
        // Those that may be are not answered here.
        Rcode::Refused
    } else if query.opcode == Opcode::Notify {
        let key = signed.as_ref().ok().and_then(|signer| signer.as_ref()).map(tsig::Signer::key);
        let heard = hear(&identity.followed, query, client.address, key);
        (reply.is_authoritative, notified) = (heard.is_ok(), heard.ok());
        heard.err().unwrap_or(Rcode::NoError)
    } else if query.opcode != Opcode::Query {
        Rcode::NotImp
    } else {
        match zone(zones, query) {
            // It is one of ours, and not here now.
            Some((_, None)) => Rcode::ServFail,
            Some(_) if matches!(query.qtype, Rtype::AXFR | Rtype::IXFR) => Rcode::Refused,
            Some((found, Some(zone))) => {
                number = Some(found);
                reply.enter(query.name.wire(), zone.apex.wire());
                Lookup { zone, reply: &mut reply, renamed: Vec::new(), proofs: Vec::new() }.run(query)
            }
            None => Rcode::Refused,
        }
    };
    let kind = match rcode {
        Rcode::NoError | Rcode::YxDomain if reply.count(Section::Answer) > 0 => Kind::Positive,
        Rcode::NoError if !reply.is_authoritative => Kind::Referral,
        Rcode::NoError | Rcode::NxDomain | Rcode::YxDomain => Kind::Negative,
        Rcode::FormErr
        | Rcode::ServFail
        | Rcode::NotImp
        | Rcode::Refused
        | Rcode::YxRrset
        | Rcode::NxRrset
        | Rcode::NotAuth
        | Rcode::NotZone
        | Rcode::BadVers => Kind::Error,
    };
    reply.finish(rcode, opt);
    match &mut signed {
        Ok(Some(signer)) => {
            signer.sign(out, client.now);
            // Nobody else can have sent it.
            is_known = true;
        }
        Ok(None) => {}
        Err(refusal) => refusal.sign(out),
    }
    Answered { rcode, qtype: query.qtype, zone: number, kind, is_known, notified }
}

/// Makes an answer one that only says to come by TCP.
pub(crate) fn cut_short(out: &mut Vec<u8>) {
    let question = length(&out[HEADER..]).map_or(0, |name| name + 4);
    out.truncate(HEADER + question);
    out[2] |= 2;
    out[6..HEADER].fill(0);
}

/// The zone that is to answer, if it is here, and its number.
fn zone<'z>(zones: &'z Zones, query: &Query<'_>) -> Option<(usize, Option<&'z Zone>)> {
    if query.qclass != IN {
        return None;
    }
    let name = query.name.wire();
    let number = zones.find(name)?;
    let zone = zones.get(number);
    // What the parent says of a child is the parent's to say: RFC 4035, section 3.1.4.1.
    if query.qtype == Rtype::DS
        && zone.is_some_and(|zone| zone.apex.wire() == name)
        && let Some(above) = zones.find_above(name)
    {
        return Some((above, zones.get(above)));
    }
    Some((number, zone))
}

impl Identity {
    /// Writes the options of the answer; says how many octets they have, and whether the client showed a cookie of ours.
    fn options(&self, edns: &Edns<'_>, client: &Client, out: &mut [u8]) -> (usize, bool) {
        let (mut used, mut is_known) = (0, false);
        let mut put = |code: u16, value: &[u8]| {
            let octets = [&code.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat();
            out[used..used + octets.len()].copy_from_slice(&octets);
            used += octets.len();
        };
        if let Some(cookie) = edns.cookie {
            let (fresh, presented) = self.cookies.answer(cookie, client.address, client.now);
            is_known = presented == Presented::Ours;
            put(10, &fresh);
        }
        if edns.wants_nsid && !self.nsid.is_empty() {
            put(3, &self.nsid);
        }
        (used, is_known)
    }
}

/// One question in one zone.
struct Lookup<'z, 'r, 'o> {
    zone: &'z Zone,
    reply: &'r mut Reply<'o>,
    /// The DNAME records that were added.
    renamed: Vec<&'z Rrset>,
    /// What proves that something is not there: it comes after all answers.
    proofs: Vec<&'z (Hash, Rrset)>,
}

impl<'z> Lookup<'z, '_, '_> {
    fn run(mut self, query: &Query<'_>) -> Rcode {
        self.reply.is_authoritative = true;
        let rcode = self.follow(query);
        self.add_proofs();
        rcode
    }

    fn follow(&mut self, query: &Query<'_>) -> Rcode {
        // The name that is looked for, and where it stands in the answer.
        let (mut name, mut at): (Vec<u8>, u16);
        let (mut looked_for, mut stands_at) = (query.name.wire(), HEADER as u16);
        let mut followed: Vec<Vec<u8>> = Vec::new();
        for _ in 0..LONGEST_CHAIN {
            let (found, node) = self.zone.closest(looked_for);
            let (found, node) = if node.place == Place::Hidden { self.zone.hiding(found) } else { (found, node) };
            let is_exact = found.len() == looked_for.len();
            let next = match node.place {
                Place::Cut if !(is_exact && query.qtype == Rtype::DS) => {
                    self.refer(looked_for, stands_at, found, node, followed.is_empty());
                    return Rcode::NoError;
                }
                _ if !is_exact => match node.get(Rtype::DNAME) {
                    Some(dname) => match self.rename(looked_for, stands_at, found, dname) {
                        // The alias that it made is what was asked for.
                        Ok(_) if query.qtype == Rtype::CNAME => None,
                        Ok(next) => Some(next),
                        Err(rcode) => return rcode,
                    },
                    None => match self.zone.wildcard(found, node) {
                        Some(wildcard) => self.choose(query.qtype, looked_for, stands_at, wildcard, Some(found)),
                        None => {
                            self.deny(looked_for, found);
                            return Rcode::NxDomain;
                        }
                    },
                },
                Place::Inside | Place::Cut | Place::Hidden => {
                    self.choose(query.qtype, looked_for, stands_at, node, None)
                }
            };
            let Some((target, place)) = next else { break };
            followed.push(looked_for.to_vec());
            // What is not in this zone is for the client to ask, and what was followed before is a circle.
            if !suffixes(&target).any(|suffix| suffix == self.zone.apex.wire()) || followed.contains(&target) {
                break;
            }
            (name, at) = (target, place);
            (looked_for, stands_at) = (&name, at);
        }
        Rcode::NoError
    }

    /// Adds what a node has of a type. Returns what is to be looked for next, and where it stands in the answer.
    fn choose(
        &mut self,
        qtype: Rtype,
        name: &[u8],
        at: u16,
        node: &'z Node,
        wildcard_in: Option<&[u8]>,
    ) -> Option<(Vec<u8>, u16)> {
        let cname = node.get(Rtype::CNAME);
        let found = match qtype {
            // One of them is enough: RFC 8482, section 4.1.
            Rtype::ANY => node.rrsets.first(),
            Rtype::RRSIG if node.rrsets.iter().any(|rrset| rrset.signatures.count() > 0) => {
                let signed = node.rrsets.iter().filter(|rrset| rrset.signatures.count() > 0);
                signed.for_each(|rrset| self.reply.add_signatures(rrset, at));
                if let Some(encloser) = wildcard_in {
                    self.prove(next_closer(name, encloser));
                }
                return None;
            }
            _ => node.get(qtype).or(cname),
        };
        let Some(rrset) = found else {
            self.deny_type(name, wildcard_in);
            return None;
        };
        let before = self.reply.len();
        if !self.has_renamed(rrset) {
            self.reply.add(Section::Answer, rrset, at);
        }
        if let Some(encloser) = wildcard_in {
            self.prove(next_closer(name, encloser));
        }
        if rrset.rtype != Rtype::CNAME || matches!(qtype, Rtype::CNAME | Rtype::ANY) {
            return None;
        }
        // What does not fit has the code of the whole, so it goes on even then.
        // The target is the data of the record that was just written: owner, type, class, TTL, length.
        let target = rrset.target(self.zone.apex.wire());
        Some((target, (before + 12) as u16))
    }

    /// Answers that another zone has it: [RFC 1034, section 4.2.1](https://www.rfc-editor.org/rfc/rfc1034#section-4.2.1).
    fn refer(&mut self, name: &[u8], at: u16, cut: &[u8], node: &'z Node, is_first: bool) {
        if is_first {
            self.reply.is_authoritative = false;
        }
        let owner = self.reply.suffix(at, name.len(), cut.len());
        if let Some(servers) = node.get(Rtype::NS) {
            self.reply.add(Section::Authority, servers, owner);
        }
        match node.get(Rtype::DS) {
            Some(ds) if self.reply.wants_dnssec => self.reply.add(Section::Authority, ds, owner),
            Some(_) => {}
            None => self.prove(cut),
        }
        self.add_proofs();
        for server in &node.servers {
            let Some(at) = self.zone.node(server.wire()) else { continue };
            let labels = &server.wire()[..server.wire().len() - self.zone.apex.wire().len()];
            for rtype in [Rtype::A, Rtype::AAAA] {
                let Some(rrset) = at.get(rtype) else { continue };
                let fits = self.reply.add_under(Section::Additional, labels, rrset);
                // Without it nobody finds the zone: RFC 9471, section 3.1.
                if !fits && server.is_in(cut) {
                    self.reply.is_truncated = true;
                }
            }
        }
    }

    /// Follows a DNAME.
    ///
    /// # Errors
    /// The new name would be too long: [RFC 6672, section 2.2](https://www.rfc-editor.org/rfc/rfc6672#section-2.2).
    fn rename(&mut self, name: &[u8], at: u16, found: &[u8], dname: &'z Rrset) -> Result<(Vec<u8>, u16), Rcode> {
        // The new name may be below it again.
        if !self.has_renamed(dname) {
            self.reply.add(Section::Answer, dname, self.reply.suffix(at, name.len(), found.len()));
            self.renamed.push(dname);
        }
        let target = [&name[..name.len() - found.len()], &dname.target(self.zone.apex.wire())].concat();
        if target.len() > LONGEST {
            return Err(Rcode::YxDomain);
        }
        let at = self.reply.add_alias(at, dname.ttl(), &target, self.zone.apex.wire());
        Ok((target, at))
    }

    /// Whether it is a DNAME record that is in the answer already.
    fn has_renamed(&self, rrset: &Rrset) -> bool {
        self.renamed.iter().any(|before| ptr::eq(*before, rrset))
    }

    /// Answers that the name has no such records.
    fn deny_type(&mut self, name: &[u8], wildcard_in: Option<&[u8]>) {
        match wildcard_in {
            Some(encloser) => self.deny(name, encloser),
            None => {
                self.add_negative();
                self.prove(name);
            }
        }
    }

    /// Answers that a name is not there, or that the wildcard it matches has no such records.
    fn deny(&mut self, name: &[u8], encloser: &[u8]) {
        self.add_negative();
        if self.zone.chain.is_none() || !self.reply.wants_dnssec {
            return;
        }
        self.prove(encloser);
        self.prove(next_closer(name, encloser));
        if let Some((octets, length)) = wildcard(encloser) {
            self.prove(&octets[..length]);
        }
    }

    fn add_negative(&mut self) {
        let owner = self.reply.suffix(HEADER as u16, 0, self.zone.apex.wire().len());
        self.reply.add(Section::Authority, &self.zone.negative, owner);
    }

    /// Remembers what proves that `name` is not there, or what it has, if the zone is signed and that is wanted.
    fn prove(&mut self, name: &[u8]) {
        let Some(chain) = self.zone.chain.as_ref().filter(|_| self.reply.wants_dnssec) else { return };
        if let Some(proof) = chain.covering(name)
            && !self.proofs.iter().any(|before| ptr::eq(*before, proof))
        {
            self.proofs.push(proof);
        }
    }

    fn add_proofs(&mut self) {
        for (hash, rrset) in self.proofs.drain(..) {
            self.reply.add_denial(hash, rrset);
        }
    }
}

/// The name one label longer than `encloser` on the way to `name`: [RFC 5155, section 1.3](https://www.rfc-editor.org/rfc/rfc5155#section-1.3).
fn next_closer<'n>(name: &'n [u8], encloser: &[u8]) -> &'n [u8] {
    suffixes(name).take_while(|suffix| suffix.len() > encloser.len()).last().unwrap_or(name)
}

#[cfg(test)]
mod corners;
#[cfg(test)]
mod tests;
