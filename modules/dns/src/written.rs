//! The zones as they are written: the KUBE's own and those of apps' domains follow from its config, others are in zone files, signed
//! perhaps.
use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use crate::{
    Error, app,
    config::Config,
    content::Content,
    dnssec::keys,
    interfaces::Addresses,
    name::Name,
    outside::Outside,
    own,
    ports::{Https, Offer},
    presigned,
    secondary::replica::{Replica, Unusable},
    text,
};

/// Largest zone file: more than a million names need.
const LARGEST: u64 = 256 << 20;

/// A zone as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) content: Content,
    /// The file it is from; none if it follows from the config.
    pub(crate) file: Option<PathBuf>,
}

/// Zones of which the files are signed: they are served as they are.
pub(crate) type Presigned = BTreeMap<Name, Arc<Replica>>;

/// The zones that there are to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) written: Vec<Written>,
    pub(crate) presigned: Presigned,
    /// Those that are written for apps' domains, whoever has these in truth.
    pub(crate) apps: Vec<Name>,
    /// Where people reach this KUBE.
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether what is written is to be signed here.
    pub(crate) dnssec: bool,
    /// The addresses of this machine, and those at which people reach it.
    pub(crate) here: Vec<IpAddr>,
}

impl Wanted {
    fn zones(&self) -> impl Iterator<Item = &Name> {
        self.written.iter().map(|written| written.content.apex()).chain(self.presigned.keys())
    }

    fn has(&self, zone: &Name) -> bool {
        self.zones().any(|there| there == zone)
    }
}

/// What zones and listeners follow from: when it is another, they are made anew.
#[derive(Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) config: Config,
    pub(crate) addresses: Addresses,
    /// Those that people are told.
    pub(crate) public: Vec<IpAddr>,
    offer: Option<Offer>,
    files: Vec<Option<(SystemTime, u64, u64)>>,
}

impl Seen {
    pub(crate) fn of(config: &Config, addresses: Addresses, outside: &Outside, https: &dyn Https) -> Self {
        let stamp = |path: &PathBuf| {
            let file = fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len(), file.ino()))
        };
        let (public, files) = (outside.public(config, &addresses), config.zones.iter().map(stamp).collect());
        // Which port it is is not known before it is bound.
        let offer = https.offer().filter(|offer| offer.port != 0);
        Self { config: config.clone(), addresses, public, offer, files }
    }
}

/// Reads the zones that there are to be.
///
/// # Errors
/// The first that is not a zone.
pub(crate) fn read(Seen { config, addresses: own, public, offer, .. }: &Seen) -> Result<Wanted, Error> {
    let listed = config.own.as_ref().and_then(|own| own.addresses.as_ref());
    let addresses = listed.unwrap_or(public);
    let here = own.all.iter().chain(public).chain(addresses).copied().collect();
    let mut wanted = Wanted { dnssec: config.dnssec, addresses: addresses.clone(), here, ..Wanted::default() };
    if let Some(own) = &config.own {
        let content = own::content(own, addresses, offer.as_ref(), &config.records).map_err(Error::Records)?;
        wanted.written.push(Written { content, file: None });
    }
    for path in &config.zones {
        let content = zone_file(path)?;
        if wanted.has(content.apex()) {
            return Err(Error::Twice { path: path.clone(), apex: content.apex().clone() });
        }
        // Where zones are signed here, the signatures of others give way; for as long as it takes to end that, too.
        let has_keys = || -> Result<bool, Error> {
            let kept = keys::read(&keys::folder(&config.data), content.apex())?;
            Ok(kept.is_some_and(|keyset| !keyset.keys.is_empty()))
        };
        if presigned::is_signed(&content) && !config.dnssec && !has_keys()? {
            let unservable = |wrong: Unusable| Error::Unservable { path: path.clone(), reason: wrong.reason() };
            let replica = Replica::of(content).map_err(unservable)?;
            wanted.presigned.insert(replica.content.apex().clone(), Arc::new(replica));
        } else {
            wanted.written.push(Written { content, file: Some(path.clone()) });
        }
    }
    for (number, secondary) in config.secondary.iter().enumerate() {
        let is_there =
            wanted.has(&secondary.zone) || config.secondary[..number].iter().any(|other| other.zone == secondary.zone);
        if is_there {
            return Err(Error::Ours { apex: secondary.zone.clone() });
        }
    }
    for (apex, names) in app::zones(&config.domains) {
        // Whoever wrote another zone around it, or below it, knows better what there is.
        let secondaries = config.secondary.iter().map(|secondary| &secondary.zone);
        let meets = |zone: &Name| zone.is_in(apex.wire()) || apex.is_in(zone.wire());
        let is_known = wanted.zones().chain(secondaries).any(meets);
        if let Some(own) = config.own.as_ref().filter(|_| !is_known) {
            let content = app::content(own, &apex, &names, addresses, offer.as_ref()).map_err(Error::Records)?;
            wanted.written.push(Written { content, file: None });
            wanted.apps.push(apex);
        }
    }
    Ok(wanted)
}

fn zone_file(path: &Path) -> Result<Content, Error> {
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(unreadable)?.len() > LARGEST {
        return Err(unreadable(std::io::Error::other(format!("larger than {LARGEST} bytes"))));
    }
    let text = fs::read(path).map_err(unreadable)?;
    // As name servers have it: the file is called like its zone, unless it says so itself.
    let stem = path.file_name().and_then(|name| name.to_str()).map(|name| name.strip_suffix(".zone").unwrap_or(name));
    let origin = stem.and_then(|stem| stem.parse().ok());
    text::read(&text, origin.as_ref()).map_err(|wrong| Error::Zone { path: path.to_owned(), wrong })
}
