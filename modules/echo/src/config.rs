//! The `[echo]` table.
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::{Address, Origin, Rate, store::OPEN_SPACE};

/// Who may sync, from where, and how much of everything one of them may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who is let in.
    pub access: Access,
    /// Whether the DXOS EDGE wire is offered; it is not in this version, so nothing follows from it yet.
    pub edge: bool,
    /// Web origins that may connect besides the domain's own and its subdomains'.
    pub origins: Vec<Origin>,
    /// Longest message that is read; a document that is sent whole must fit.
    pub max_message: ByteSize,
    /// Most connections at once.
    pub connections: usize,
    /// Most connections at once from one address.
    pub connections_per_address: usize,
    /// Most documents that one connection may have open.
    pub documents_per_connection: usize,
    /// How much may wait to be sent to one connection before it is given nothing more until it has read some.
    pub send_queue: ByteSize,
    /// How often a silent connection is asked whether it lives; it is closed when it does not answer twice.
    #[serde(with = "humantime_serde")]
    pub keep_alive: Duration,
    /// How long a peer may take to read a message, and as long again for each 2 MiB of it, before it is closed.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// How long a request waits for a document that another connected peer announced, before it is unavailable; one that
    /// nobody announced it waits for 300 ms at most.
    #[serde(with = "humantime_serde")]
    pub ask: Duration,
    /// How long the changes of a document without traffic stay in memory.
    #[serde(with = "humantime_serde")]
    pub idle: Duration,
    /// How much of changes that lack others is kept for one connection until those arrive.
    pub waiting: ByteSize,
    /// How fast messages with one token may come; faster ones wait.
    pub token_rate: Rate,
    /// How fast they may come from one IPv4 address or IPv6 /64.
    pub address_rate: Rate,
    /// How fast they may come into one space.
    pub space_rate: Rate,
    /// For how long such a rate counts: who was quiet may send as much at once as comes in this time.
    #[serde(with = "humantime_serde")]
    pub burst: Duration,
    /// How much the documents of one space may have on disk; 0 is no limit.
    pub space_quota: ByteSize,
    /// How much may be added in a day (UTC) with one token; 0 is no limit.
    pub token_quota: ByteSize,
    /// How much may be added in a day from one IPv4 address or IPv6 /64; 0 is no limit.
    pub address_quota: ByteSize,
    /// How much of the database is kept in memory.
    pub cache: ByteSize,
    /// Other KUBEs, by names for the log, that hold the same documents.
    pub peers: BTreeMap<String, Mirror>,
    /// Derived: the domain; web pages of it and of its subdomains may connect.
    #[serde(skip)]
    pub domain: String,
    /// Derived: host names of apps outside of the domain; web pages of one may connect to that very host.
    #[serde(skip)]
    pub domains: BTreeSet<String>,
    /// Derived: hosts whose pages sync without a token, and the space of each.
    #[serde(skip)]
    pub pages: BTreeMap<String, String>,
    /// Derived: the folder of `documents.db`.
    #[serde(skip)]
    pub data: PathBuf,
}

/// Another KUBE that holds the same documents of one space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// Where it syncs.
    pub url: Address,
    /// The file of the token that it lets this one in with, made there by `kube token create sync --mirror`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Certificates, in PEM, of authorities that its own may come from, besides those that the system knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Where pages may sync with it, when they cannot with this one; they are told that, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<Address>,
    /// The space here; the token names the space there.
    #[serde(default = "open_space")]
    pub space: String,
}

fn open_space() -> String {
    OPEN_SPACE.to_owned()
}

/// Who is let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Everyone, into the space `default`; who has a token, into that of the token.
    #[default]
    Open,
    /// Those who have a token.
    Token,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            access: Access::Open,
            edge: true,
            origins: Vec::new(),
            max_message: ByteSize::mib(64),
            connections: 10_000,
            connections_per_address: 1_000,
            documents_per_connection: 50_000,
            send_queue: ByteSize::mib(4),
            keep_alive: Duration::from_secs(20),
            write_timeout: Duration::from_secs(30),
            ask: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            waiting: ByteSize::mib(1),
            token_rate: Rate { messages: 10_000, bytes: ByteSize::mib(64) },
            address_rate: Rate { messages: 50_000, bytes: ByteSize::mib(256) },
            space_rate: Rate { messages: 100_000, bytes: ByteSize::mib(512) },
            burst: Duration::from_secs(10),
            space_quota: ByteSize(0),
            token_quota: ByteSize(0),
            address_quota: ByteSize(0),
            cache: ByteSize::mib(32),
            peers: BTreeMap::new(),
            domain: "localhost".to_owned(),
            domains: BTreeSet::new(),
            pages: BTreeMap::new(),
            data: PathBuf::new(),
        }
    }
}
