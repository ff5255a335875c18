//! What goes wrong outside of queries.
use std::{io, net::SocketAddr, path::PathBuf};

use crate::{holder::Holder, text};

/// Why DNS cannot start, or cannot take a new config.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, privileged, or not this machine's.
    #[error("cannot listen on {address} ({over}): {}", told(reason, holder.as_ref()))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// UDP or TCP.
        over: &'static str,
        /// The system's reason, part of what is said.
        reason: io::Error,
        /// Who has it, if that can be told.
        holder: Option<Holder>,
    },
    /// A socket that was open does not work any more.
    #[error("the socket on {address} does not work: {source}")]
    Socket {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A thread cannot be started, or has ended.
    #[error("a thread that answers queries: {0}")]
    Thread(io::Error),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file that should have a secret has none.
    #[error("{path}: not a secret in base 64, like `openssl rand -base64 32` makes", path = path.display())]
    Secret {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file that the module keeps is not what it wrote.
    #[error("{path} is damaged ({reason}): move it away, and every zone begins with a new serial number", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What updates left is not what was written.
    #[error("{path} is damaged ({reason}): put it back from a backup; or move it away, and what updates changed is forgotten", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A zone file is not a zone.
    #[error("{path}: {wrong}", path = path.display())]
    Zone {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        wrong: text::Wrong,
    },
    /// A zone file is signed, and cannot be served as it is.
    #[error("{path}: {reason}; or set `dnssec = true` under [dns], and zones are signed here", path = path.display())]
    Unservable {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The records of the own zone do not fit together.
    #[error("dns.records: {0}")]
    Records(text::Wrong),
    /// Two zones have one name.
    #[error("{path}: the zone {apex} is served already", path = path.display())]
    Twice {
        /// The file of the second.
        path: PathBuf,
        /// The name.
        apex: crate::Name,
    },
    /// A zone of another name server is one of this one.
    #[error("dns.secondary: the zone {apex} is served already: take it out of there, or out of `dns.zones`")]
    Ours {
        /// The name.
        apex: crate::Name,
    },
    /// A zone of another name server is to be asked for with a key that there is not.
    #[error("dns.secondary: the zone {zone} is to be asked for with the key {key}, which is none of the [dns.keys]")]
    NoKey {
        /// The zone.
        zone: crate::Name,
        /// The name of the key.
        key: crate::Name,
    },
    /// Updates are to be signed with a key that there is not.
    #[error("dns.remote: {server} is to be written to with the key {key}, which is none of the [dns.keys]")]
    NoRemoteKey {
        /// The server.
        server: SocketAddr,
        /// The name of the key.
        key: crate::Name,
    },
    /// The keys of a zone cannot be read or written.
    #[error(transparent)]
    Keys(#[from] crate::dnssec::keys::Error),
    /// A key cannot be made.
    #[error("cannot make a key for {zone}: {source}")]
    Key {
        /// The zone.
        zone: crate::Name,
        /// Why not.
        source: hickory_proto::dnssec::DnsSecError,
    },
    /// A key cannot be replaced.
    #[error(transparent)]
    NotRolled(#[from] crate::signing::NotRolled),
    /// A zone cannot be signed.
    #[error(transparent)]
    Sign(#[from] crate::dnssec::sign::Failed),
    /// The addresses of the machine are not known.
    #[error("cannot list the addresses of this machine: {0}")]
    Interfaces(io::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The metrics are taken.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// Why an address cannot be listened on, and what a person can do about it.
fn told(error: &io::Error, holder: Option<&Holder>) -> String {
    const ADVICE: [(io::ErrorKind, &str); 3] = [
        (io::ErrorKind::AddrInUse, " (another name server? see README, DNS)"),
        (io::ErrorKind::PermissionDenied, " (ports below 1024 need CAP_NET_BIND_SERVICE)"),
        (io::ErrorKind::AddrNotAvailable, " (not an address of this machine; set `dns.listen`)"),
    ];
    if let Some(holder) = holder {
        return format!("address in use by {holder}: {}; or set `dns.listen` to other addresses", holder.advice());
    }
    let advice = ADVICE.iter().find(|(kind, _)| *kind == error.kind()).map_or("", |(_, advice)| advice);
    format!("{error}{advice}")
}
