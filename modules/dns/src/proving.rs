//! Says the texts that prove names to certificate authorities wherever the zone of a name is: here, at another name server that takes
//! updates, or where an alias leads; and waits until every name server of that zone says them.
mod known;
mod listed;
mod place;
pub(crate) mod remote;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::{join, join_all};
use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};

use self::{
    known::Known,
    listed::{Listed, Outcome},
    place::{Beyond, Place, alias, authority, beyond},
    remote::Remote,
};
use crate::{
    Error,
    catalog::Catalog,
    config::Config,
    content::Set,
    name::Name,
    parent,
    resolve::{PORT, Resolvers, address},
    response::Response,
    rtype::Rtype,
    serve::Shared,
    tsig::Key,
};

/// Most aliases that are followed, one to the other.
const ALIASES: usize = 8;
/// How long it may take to find where a name is; and what others have in place of a zone here, without which it is served still.
const PATIENCE: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_secs(2);
/// Most name servers of a zone that are waited for.
const MOST: usize = 16;
/// How often it is looked whether this server has a zone of another one as it is there.
const LOOK: Duration = Duration::from_millis(200);

/// Why texts are not said, or not by everyone.
#[derive(Debug, thiserror::Error)]
pub enum Unsaid {
    /// They are not kept.
    #[error(transparent)]
    Kept(#[from] Error),
    /// Another name server does not take them.
    #[error("the name server {server} takes no update with the key {key}: {reason}")]
    Remote {
        /// The server.
        server: SocketAddr,
        /// The key.
        key: Name,
        /// What it says, and what to do.
        reason: String,
    },
    /// Nobody says where the zone of the name is, or who else has it.
    #[error("it cannot be found who has the zone of {name}: {reason}")]
    Unknown {
        /// The name.
        name: Name,
        /// Why not.
        reason: String,
    },
    /// A server of the zone says something else.
    #[error(
        "the name server {server} of {zone} does not say the TXT record of {owner} after {waited:?} ({reason}), and an authority \
         may ask it: let it follow the zone at once (`transfer` and `notify`, or NOTIFY elsewhere), or raise `propagation` in [dns]"
    )]
    Behind {
        /// The server.
        server: String,
        /// The zone.
        zone: Name,
        /// The name.
        owner: Name,
        /// How long that was.
        waited: Duration,
        /// What it says.
        reason: String,
    },
}

/// What the config says of it, and what was found under that.
pub(crate) struct Rules {
    /// Whether anybody can ask here at all.
    listens: bool,
    remotes: Vec<Remote>,
    /// How long the servers of a zone may take.
    propagation: Duration,
    known: Mutex<Known>,
}

impl Rules {
    /// # Errors
    /// A key that there is not.
    pub(crate) fn of(config: &Config, keys: &[Key]) -> Result<Self, Error> {
        Ok(Self {
            listens: !config.listen.is_empty(),
            remotes: Remote::of(config, keys)?,
            propagation: config.propagation,
            known: Mutex::default(),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server that is said to have the nearest zone of a name, with that zone.
    fn named(&self, name: &Name) -> Option<(&Remote, &Name)> {
        let named = self.remotes.iter().filter_map(|remote| Some((remote, remote.zone.as_ref()?)));
        named.filter(|(_, zone)| name.is_in(zone.wire())).max_by_key(|(_, zone)| zone.wire().len())
    }
}

/// Says texts, and knows which.
pub(crate) struct Prover {
    shared: Arc<Shared>,
    catalog: Arc<Catalog>,
    /// What is said now, by the names that it was wanted for.
    said: Mutex<BTreeMap<Name, Said>>,
}

/// Texts, as the data of records, and where they are.
struct Said {
    place: Place,
    data: Vec<Box<[u8]>>,
}

/// One step on the way to the place of a name.
enum Step {
    Place(Place),
    /// The same, as far as is known without those who do not answer.
    Guess(Place),
    /// It is an alias of this one.
    Alias(Name),
    Nowhere,
}

impl Prover {
    pub(crate) fn new(shared: Arc<Shared>, catalog: Arc<Catalog>) -> Self {
        Self { shared, catalog, said: Mutex::default() }
    }

    /// Whether records of a name can be said.
    pub(crate) async fn can(&self, name: &Name) -> bool {
        self.find(name, false).await.is_ok_and(|place| place.is_some())
    }

    /// Says these data of TXT records of a name, in place of others; none takes them away, without a wait.
    ///
    /// # Errors
    /// They are not said, or a server of the zone does not have them in time.
    pub(crate) async fn say(&self, name: &Name, ttl: u32, data: Vec<Box<[u8]>>) -> Result<bool, Unsaid> {
        // They go from where they are, whoever leads elsewhere by now.
        let before = if data.is_empty() { self.said().get(name).map(|said| said.place.clone()) } else { None };
        let place = match before {
            Some(place) => place,
            None => match self.find(name, !data.is_empty()).await? {
                Some(place) => place,
                None => return Ok(false),
            },
        };
        let set = self.note(name, &place, ttl, data.clone());
        let is_taken = match &place {
            Place::Here { owner, .. } => {
                let (catalog, owner) = (Arc::clone(&self.catalog), owner.clone());
                // The change is written to disk, and the zone is signed with it.
                let published = spawn_blocking(move || catalog.publish(owner, Rtype::TXT, set)).await;
                published.map_err(|fell| Error::Thread(fell.into())).flatten()?
            }
            Place::There { remote, zone, owner } => {
                let done = remote.replace(zone, owner, &set).await;
                let result = if done.is_ok() { "done" } else { "failed" };
                self.shared.metrics.updates_sent.with_label_values(&[result]).inc();
                done.map(|()| true)?
            }
        };
        if is_taken && !data.is_empty() {
            self.until_all_say(&place, &data).await?;
        }
        Ok(is_taken)
    }

    fn said(&self) -> MutexGuard<'_, BTreeMap<Name, Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what is said of a name; returns all that is to be said in its place: aliases of several may lead there.
    fn note(&self, name: &Name, place: &Place, ttl: u32, data: Vec<Box<[u8]>>) -> Set {
        let mut said = self.said();
        if data.is_empty() {
            said.remove(name);
        } else {
            said.insert(name.clone(), Said { place: place.clone(), data });
        }
        let mut set = Set { ttl, data: Vec::new() };
        let there = said.values().filter(|said| said.place.owner() == place.owner());
        there.flat_map(|said| &said.data).for_each(|data| set.add(ttl, data.clone()));
        set
    }

    /// Where records of a name are said; none if nowhere. What was found lately counts, unless it is to be found `anew`.
    async fn find(&self, name: &Name, anew: bool) -> Result<Option<Place>, Unsaid> {
        let (rules, now) = (self.shared.proving.load_full(), Instant::now());
        let (counts, rests) = {
            let known = rules.known();
            (known.get(name, now), known.rests(now) && !anew)
        };
        if let Some(place) = counts.filter(|_| !anew) {
            return Ok(place);
        }
        let found = timeout(PATIENCE, self.locate(&rules, name, rests)).await;
        let found = found.unwrap_or_else(|_| Err(format!("it takes longer than {PATIENCE:?}")));
        let (mut known, now) = (rules.known(), Instant::now());
        match found {
            Ok((place, is_sure)) => {
                let place = if is_sure { place } else { known.last(name).or(place) };
                known.learn(name, place.clone(), now);
                Ok(place)
            }
            Err(reason) => {
                let unknown = Unsaid::Unknown { name: name.clone(), reason };
                if !rests && known.miss(now) {
                    tracing::warn!("{unknown}");
                }
                known.last(name).map(Some).ok_or(unknown)
            }
        }
    }

    /// Follows aliases to where records of a name are said; and says whether that is sure. When others are to `rest`, nobody
    /// is asked about names that no zone here and no server that the config names has.
    async fn locate(&self, rules: &Rules, name: &Name, rest: bool) -> Result<(Option<Place>, bool), String> {
        let mut name = name.clone();
        for _ in 0..=ALIASES {
            name = match self.step(rules, &name, rest).await? {
                Step::Place(place) => return Ok((Some(place), true)),
                Step::Guess(place) => return Ok((Some(place), false)),
                Step::Nowhere => return Ok((None, true)),
                Step::Alias(to) => to,
            };
        }
        tracing::warn!(%name, "more than {ALIASES} aliases lead there: no record is said");
        Ok((None, true))
    }

    async fn step(&self, rules: &Rules, owner: &Name, rest: bool) -> Result<Step, String> {
        let named = rules.named(owner);
        // Whoever names the server of a zone means it, also if there is one of that name here.
        let is_nearer = |zone: &Name| named.is_none_or(|(_, other)| other.wire().len() < zone.wire().len());
        let home = self.catalog.home(owner).filter(|home| rules.listens && is_nearer(&home.zone));
        if let Some(home) = home {
            let here = Place::Here { zone: home.zone.clone(), owner: owner.clone() };
            if let Some(to) = home.alias.clone() {
                return Ok(Step::Alias(to));
            }
            match timeout(SHORT, self.resolved(owner)).await {
                Ok(Ok(Some(response))) => match beyond(&response, owner, &home) {
                    Beyond::Alias(to) => return Ok(Step::Alias(to)),
                    Beyond::Ours => return Ok(Step::Place(here)),
                    Beyond::Theirs => tracing::debug!(zone = %home.zone, "other name servers have it"),
                },
                Ok(Ok(None)) => return Ok(Step::Place(here)),
                // Without a word of others it is as it is here.
                Ok(Err(_)) | Err(_) => return Ok(Step::Guess(here)),
            }
        }
        let unnamed = rules.remotes.iter().filter(|remote| remote.zone.is_none() && !rest);
        let mut silent = None;
        for remote in named.map(|(remote, _)| remote).into_iter().chain(unnamed) {
            let there = |zone| Place::There { remote: remote.clone(), zone, owner: owner.clone() };
            // What answers says both whether the name is an alias and which zone it is in.
            let answer = timeout(SHORT, remote.ask(owner, Rtype::CNAME)).await;
            match (answer.unwrap_or_else(|late| Err(late.into())), &remote.zone) {
                (Ok(response), zone) => {
                    if let Some(to) = alias(&response, owner) {
                        return Ok(Step::Alias(to));
                    }
                    let found = || authority(&response, owner).filter(|_| response.is_authoritative);
                    if let Some(zone) = zone.clone().or_else(|| Some(found()?.0)) {
                        return Ok(Step::Place(there(zone)));
                    }
                }
                // What is wrong is said when it does not take an update.
                (Err(_), Some(zone)) => return Ok(Step::Guess(there(zone.clone()))),
                (Err(error), None) => silent = Some(format!("the name server {}: {error}", remote.server)),
            }
        }
        if rest {
            return Err("nobody answered a moment ago".to_owned());
        }
        match (self.resolved(owner).await?.and_then(|response| alias(&response, owner)), silent) {
            (Some(to), _) => Ok(Step::Alias(to)),
            (None, Some(silent)) => Err(silent),
            (None, None) => Ok(Step::Nowhere),
        }
    }

    /// What resolvers say of an alias at a name; none of a private name that no resolver is named for.
    async fn resolved(&self, owner: &Name) -> Result<Option<Response>, String> {
        match self.resolvers(owner)? {
            Some(resolvers) => resolvers.ask(owner, Rtype::CNAME).await.map(Some),
            None => Ok(None),
        }
    }

    fn resolvers(&self, name: &Name) -> Result<Option<Resolvers>, String> {
        let config = self.catalog.resolvers();
        if parent::is_private(name) && config.is_empty() {
            return Ok(None);
        }
        Resolvers::of(&config).map(Some).map_err(|error| error.to_string())
    }

    /// Waits until every name server that the zone lists says all of `wanted`.
    async fn until_all_say(&self, place: &Place, wanted: &[Box<[u8]>]) -> Result<(), Unsaid> {
        let patience = self.shared.proving.load().propagation;
        let (zone, owner) = (place.zone(), place.owner());
        let behind = |server: &str, reason| Unsaid::Behind {
            server: server.to_owned(),
            zone: zone.clone(),
            owner: owner.clone(),
            waited: patience,
            reason,
        };
        let (servers, is_listed) = self.listed(place).await?;
        let asked = join_all(servers.iter().map(|server| server.until(owner, wanted, patience)));
        let own = async { !is_listed || self.until_mirrored(zone, owner, wanted, patience).await };
        let (outcomes, is_said) = join(asked, own).await;
        if !is_said {
            return Err(behind("that is this KUBE", "its primary has not given it the newest zone".to_owned()));
        }
        for (server, outcome) in servers.iter().zip(outcomes) {
            let server = server.name.to_string();
            match outcome {
                Outcome::Says => {}
                Outcome::Behind(reason) => return Err(behind(&server, reason)),
                Outcome::Silent(reason) => {
                    tracing::warn!(%zone, %server, "a name server does not answer ({reason}): an authority is to ask another one");
                }
            }
        }
        Ok(())
    }

    /// Waits until this server says so too, if it is a secondary of the zone. Says whether it does, or is none.
    async fn until_mirrored(&self, zone: &Name, owner: &Name, wanted: &[Box<[u8]>], patience: Duration) -> bool {
        let begun = Instant::now();
        while self.catalog.is_mirrored(zone) && !self.catalog.says(owner, wanted) {
            if begun.elapsed() >= patience {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }

    /// The name servers that the zone of a place lists, but for this one, which may not reach itself behind the translation of a
    /// router; and whether it is among them.
    async fn listed(&self, place: &Place) -> Result<(Vec<Listed>, bool), Unsaid> {
        let zone = place.zone();
        let names = match place {
            Place::Here { zone, .. } => self.catalog.servers(zone),
            Place::There { remote, .. } => match remote.ask(zone, Rtype::NS).await {
                Ok(response) => response.data(zone, Rtype::NS).filter_map(|(data, _)| Name::read(data)).collect(),
                Err(error) => {
                    let reason = format!("{} does not say which name servers it has ({error})", remote.server);
                    return Err(Unsaid::Unknown { name: place.owner().clone(), reason });
                }
            },
        };
        let here = self.catalog.here();
        let found = join_all(names.into_iter().take(MOST).map(async |name| {
            let addresses = self.addresses(place, &name).await;
            (name, addresses)
        }));
        let is_own = |(_, found): &(Name, Vec<IpAddr>)| found.iter().any(|address| here.contains(address));
        let (own, others): (Vec<_>, Vec<_>) = found.await.into_iter().partition(is_own);
        let listed = others.into_iter().map(|(name, addresses)| {
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, PORT)).collect();
            Listed { name, addresses }
        });
        Ok((listed.collect(), !own.is_empty()))
    }

    /// Where a name server is: as the server that has the zone says, zones here, or resolvers; none if none of them knows.
    async fn addresses(&self, place: &Place, server: &Name) -> Vec<IpAddr> {
        if let Place::There { remote, zone, .. } = place
            && server.is_in(zone.wire())
        {
            let (v4, v6) = join(remote.ask(server, Rtype::A), remote.ask(server, Rtype::AAAA)).await;
            let responses = [v4, v6].into_iter().flatten().flat_map(|response| response.answer);
            return responses.filter_map(|record| address(record.rtype, &record.data)).collect();
        }
        if let Some(addresses) = self.catalog.addresses(server) {
            return addresses;
        }
        match self.resolvers(server) {
            Ok(Some(resolvers)) => resolvers.addresses(server).await.unwrap_or_default(),
            Ok(None) | Err(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
