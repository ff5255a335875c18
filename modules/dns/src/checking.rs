//! Looks at a zone as the rest of the world does.
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use domain::base::iana::OptRcode;
use futures_util::future::{join, join_all};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::{task::spawn_blocking, time::timeout};

use crate::{
    Error,
    address::Address,
    ask::{Over, ask},
    catalog::Catalog,
    check::{Above, Asked, Expected, Facts, Finding, Large, Referral, Reply, Verdict, findings},
    content::{Record, Set, Soa},
    delegation::all,
    name::Name,
    parent,
    resolve::{PORT, Resolvers, Server, addresses},
    response::{Question, Response},
    rtype::Rtype,
};

/// How long all of it may take: whoever asks waits for a minute.
const PATIENCE: Duration = Duration::from_secs(50);
/// Most servers of a zone, and addresses of them, that are asked.
const MOST: usize = 32;
/// Octets of a text that is too long for a datagram, and how long others may keep it, in seconds.
const LARGE: usize = 2000;
const TTL: u32 = 1;

/// All that is found of a zone; none if it is not served. `resolvers` are asked for what others have; none: those of the system.
pub(crate) async fn check(
    catalog: &Arc<Catalog>,
    zone: &Name,
    issuer: Option<String>,
    resolvers: &[Address],
) -> Option<Vec<Finding>> {
    let unknown = |says: String| vec![Finding { about: "name servers".to_owned(), verdict: Verdict::Unknown, says }];
    if catalog.is_mirrored(zone) {
        let says =
            format!("{zone} comes from another name server, which knows how it should be: have it checked there");
        return Some(unknown(says));
    }
    if catalog.presigned().iter().any(|(presigned, _)| presigned == zone) {
        let says = format!("{zone} is signed by whoever makes its zone file, who knows what its DS record should be");
        return Some(unknown(says));
    }
    let expected = catalog.expected(zone, issuer)?;
    if parent::is_private(zone) && resolvers.is_empty() {
        let says =
            format!("{zone} is a private name: name a resolver that knows it, with --resolver or `[dns] resolvers`");
        return Some(unknown(says));
    }
    let resolvers = match Resolvers::of(resolvers) {
        Ok(resolvers) => resolvers,
        Err(error) => return Some(unknown(error.to_string())),
    };
    Some(match timeout(PATIENCE, look(catalog, &expected, &resolvers)).await {
        Ok(facts) => findings(&expected, &facts),
        Err(_) => unknown(format!("it takes longer than {PATIENCE:?}: hardly anybody answers")),
    })
}

async fn look(catalog: &Arc<Catalog>, expected: &Expected, resolvers: &Resolvers) -> Facts {
    let above = above(expected, resolvers).await;
    let delegated = delegated(&above);
    let servers = servers(expected, resolvers, &delegated).await;
    let (mut resolved, mut large) = (Vec::new(), Large::default());
    // Without a delegation nobody gets through, and nothing more is to be learned.
    if !delegated.is_empty() {
        let nonce = nonce();
        resolved = through(expected, resolvers, &nonce).await;
        large = text(catalog, expected, resolvers, &servers, &nonce).await;
    }
    let caa = if expected.issuer.is_some() { caa(expected, resolvers).await } else { Ok(Vec::new()) };
    Facts { resolver: resolvers.first(), above, servers, resolved, large, caa }
}

/// What the zone above says, on all its servers.
async fn above(expected: &Expected, resolvers: &Resolvers) -> Result<Above, String> {
    let zone = expected.zone();
    let (name, servers) = resolvers.parent(zone).await?;
    let question = |rtype| Question { name: zone.clone(), rtype, is_recursive: false };
    let (ns, ds) = (question(Rtype::NS), question(Rtype::DS));
    let (ns, ds) = join(all(&servers, &ns), all(&servers, &ds)).await;
    let referrals = ns.into_iter().flatten().map(|(address, said)| {
        let response = said.map_err(|why| why.to_string())?;
        Referral::read(zone, &response).ok_or_else(|| format!("{address} answers {}", response.rcode))
    });
    let referrals = referrals.collect();
    let read = |said: Result<Response, _>| said.and_then(|response| parent::read(&response, zone, &name));
    let ds: Vec<Vec<_>> =
        ds.into_iter().map(|answers| answers.into_iter().map(|(_, said)| read(said)).collect()).collect();
    let ds = parent::add_up(&name, &ds);
    Ok(Above { name, referrals, ds })
}

/// The servers that the zone above names.
fn delegated(above: &Result<Above, String>) -> Vec<Server> {
    let first =
        above.as_ref().ok().and_then(|above| above.referrals.iter().find_map(|referral| referral.as_ref().ok()));
    first.map(|referral| referral.servers.clone()).unwrap_or_default()
}

/// Asks every server that is named above or in the zone for its serial number.
async fn servers(expected: &Expected, resolvers: &Resolvers, delegated: &[Server]) -> Vec<Asked> {
    let mut names: Vec<Name> = delegated.iter().map(|server| server.name.clone()).chain(expected.servers()).collect();
    names.sort();
    names.dedup();
    let places = names.iter().map(async |name| {
        let mut found = expected.addresses(name);
        let glue = delegated.iter().filter(|server| server.name == *name);
        found.extend(glue.flat_map(|server| server.addresses.iter().copied()));
        if !name.is_in(expected.zone().wire()) {
            found.extend(resolvers.addresses(name).await.unwrap_or_default());
        }
        found.sort_unstable();
        found.dedup();
        let found: Vec<Option<IpAddr>> =
            if found.is_empty() { vec![None] } else { found.into_iter().map(Some).collect() };
        found.into_iter().map(|address| (name.clone(), address)).collect::<Vec<_>>()
    });
    let places: Vec<_> = join_all(places).await.into_iter().flatten().take(MOST).collect();
    let asked = places.into_iter().map(async |(name, address)| {
        let reply = async |over| match address {
            Some(address) => reply(expected.zone(), address, over).await,
            None => Reply::Silent,
        };
        let (udp, tcp) = join(reply(Over::Udp), reply(Over::Tcp)).await;
        Asked { name, address, udp, tcp }
    });
    join_all(asked).await
}

/// What a server says of the zone's SOA record.
async fn reply(zone: &Name, address: IpAddr, over: Over) -> Reply {
    let question = Question { name: zone.clone(), rtype: Rtype::SOA, is_recursive: false };
    let response = match ask(SocketAddr::new(address, PORT), &question, over).await {
        Ok(response) => response,
        Err(error) => {
            let has_no_way =
                matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable);
            return if has_no_way { Reply::NoWay } else { Reply::Silent };
        }
    };
    let soa = response.data(zone, Rtype::SOA).next().and_then(|(data, _)| Soa::read(data));
    match soa {
        _ if response.rcode != OptRcode::NOERROR => Reply::Lame(format!("it answers {}", response.rcode)),
        Some(soa) if response.is_authoritative => Reply::Serial(soa.serial),
        _ => Reply::Lame("it answers without authority".to_owned()),
    }
}

/// What the first resolver says of the apex, and of a name that nobody has asked for before.
async fn through(
    expected: &Expected,
    resolvers: &Resolvers,
    nonce: &[u8],
) -> Vec<(Name, Rtype, Result<Vec<IpAddr>, String>)> {
    let apex = expected.zone().clone();
    let wildcard = apex.below(b"*").filter(|wildcard| !expected.addresses(wildcard).is_empty());
    let any = wildcard.and_then(|_| apex.below(nonce));
    let apex = Some(apex).filter(|apex| !expected.addresses(apex).is_empty());
    let names = apex.into_iter().chain(any).flat_map(|name| [Rtype::A, Rtype::AAAA].map(|rtype| (name.clone(), rtype)));
    let asked = names.map(async |(name, rtype)| {
        let said = resolvers.ask(&name, rtype).await.map(|response| addresses(&response.answer).collect());
        (name, rtype, said)
    });
    join_all(asked).await
}

/// A text that is in the zone as long as this is.
struct Published {
    catalog: Arc<Catalog>,
    name: Name,
}

impl Drop for Published {
    fn drop(&mut self) {
        if let Err(error) = self.catalog.publish(self.name.clone(), Rtype::TXT, Set::default()) {
            tracing::warn!(name = %self.name, %error, "a text of `kube dns check` stays in the zone until the next start");
        }
    }
}

/// Publishes a text that is too long for a datagram, and asks for it here and through the resolver.
async fn text(
    catalog: &Arc<Catalog>,
    expected: &Expected,
    resolvers: &Resolvers,
    servers: &[Asked],
    nonce: &[u8],
) -> Large {
    let Some(name) = expected.zone().below(&[b"_kube-check-", nonce].concat()) else { return Large::default() };
    let data = vec![[&[250][..], &[b'k'; 250]].concat().repeat(LARGE / 250).into()];
    let (catalog, owner) = (Arc::clone(catalog), name.clone());
    let publish = spawn_blocking(move || {
        let is_published = catalog.publish(owner.clone(), Rtype::TXT, Set { ttl: TTL, data })?;
        Ok::<_, Error>(is_published.then(|| Published { catalog, name: owner }))
    });
    // A zone that is somebody else's stays as it is.
    let Ok(Ok(Some(published))) = publish.await else { return Large::default() };
    let question = Question { name: name.clone(), rtype: Rtype::TXT, is_recursive: false };
    let answers = |asked: &&Asked| matches!((&asked.udp, &asked.tcp), (Reply::Serial(_), Reply::Serial(_)));
    let places = servers.iter().filter(answers).filter_map(|asked| asked.address);
    let (mut is_cut, mut whole) = (None, None);
    for place in places {
        // Secondaries may not have it yet.
        let at = SocketAddr::new(place, PORT);
        if let Ok(response) = ask(at, &question, Over::Udp).await
            && response.rcode == OptRcode::NOERROR
        {
            (is_cut, whole) = (Some(response.is_truncated), ask(at, &question, Over::Tcp).await.ok());
            break;
        }
    }
    let is_whole = |response: &Response| response.data(&name, Rtype::TXT).any(|(data, _)| data.len() > LARGE);
    let resolved = resolvers.ask(&name, Rtype::TXT).await;
    // It is signed anew without it, and kept so on disk.
    spawn_blocking(move || drop(published)).await.ok();
    Large {
        is_cut,
        is_whole: whole.map(|response| is_whole(&response)),
        resolved: Some(resolved.map(|response| is_whole(&response))),
    }
}

/// The CAA records that count for the zone: its own, or the nearest above it.
async fn caa(expected: &Expected, resolvers: &Resolvers) -> Result<Vec<Record>, String> {
    let zone = expected.zone();
    if let Some(set) = expected.content.set(zone, Rtype::CAA) {
        let record = |data: &[u8]| Record { owner: zone.clone(), rtype: Rtype::CAA, ttl: set.ttl, data: data.into() };
        return Ok(set.data.iter().map(|data| record(data)).collect());
    }
    for name in std::iter::successors(zone.above(), Name::above) {
        let mut found = resolvers.ask(&name, Rtype::CAA).await?.answer;
        found.retain(|record| record.owner == name && record.rtype == Rtype::CAA);
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// A label that nobody has asked for before.
fn nonce() -> Vec<u8> {
    let mut octets = [0; 8];
    // Without randomness a cache may know the answer already: what is seen is a little older then.
    getrandom(&mut octets, GetRandomFlags::empty()).ok();
    data_encoding::HEXLOWER.encode(&octets).into_bytes()
}
