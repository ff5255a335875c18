//! The `[hosting]` table.
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// The `[hosting]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where plain HTTP listens. It redirects to HTTPS, except on the domain `localhost` or when `https` is empty.
    pub http: Vec<SocketAddr>,
    /// Where HTTPS listens, HTTP/1.1 and HTTP/2.
    pub https: Vec<SocketAddr>,
    /// Most connections at once; one more is closed as it arrives.
    pub connections: NonZeroUsize,
    /// Most connections at once from one address: an IPv4 address, or an IPv6 /64.
    pub connections_per_address: NonZeroUsize,
    /// How long a TLS handshake may take.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// How long the head of a request may take from its first byte.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// How long a connection may wait without a request.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// How long a peer may take nothing of a response, or give nothing of a request body.
    #[serde(with = "humantime_serde")]
    pub stall_timeout: Duration,
    /// How long a program may take to begin its answer to a request that it has.
    #[serde(with = "humantime_serde")]
    pub proxy_timeout: Duration,
    /// Most bytes in the head of a request.
    pub header_size: ByteSize,
    /// Most header fields in a request.
    pub header_count: NonZeroUsize,
    /// Most requests at once on one HTTP/2 connection.
    pub streams: NonZeroU32,
    /// Most memory for the contents of small files.
    pub cache: ByteSize,
    /// Largest file kept in that memory.
    pub cached_file: ByteSize,
    /// How long browsers come over HTTPS alone once they have seen a certificate that everyone trusts; zero: nobody is told so.
    #[serde(with = "humantime_serde")]
    pub hsts: Duration,
    /// Whether `/.well-known/kube/apps` tells everyone which apps are served.
    pub list_apps: bool,
    /// Derived: the domain whose host names are served.
    #[serde(skip)]
    pub domain: String,
    /// Derived: the addresses at which visitors are led to the domain.
    #[serde(skip)]
    pub addresses: Vec<IpAddr>,
    /// Derived: the app at the apex.
    #[serde(skip)]
    pub home: String,
    /// Derived: where pages may sync too, when this KUBE is away.
    #[serde(skip)]
    pub others: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        let number = |n| NonZeroUsize::new(n).expect("the default is not zero");
        Self {
            http: vec![(Ipv4Addr::LOCALHOST, 8080).into()],
            https: vec![(Ipv4Addr::LOCALHOST, 8443).into()],
            connections: number(16384),
            connections_per_address: number(1024),
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            proxy_timeout: Duration::from_secs(60),
            header_size: ByteSize::kib(32),
            header_count: number(100),
            streams: NonZeroU32::new(100).expect("the default is not zero"),
            cache: ByteSize::mib(16),
            cached_file: ByteSize::kib(256),
            // What humantime calls a year.
            hsts: Duration::from_secs(31_557_600),
            list_apps: true,
            domain: "localhost".to_owned(),
            addresses: Vec::new(),
            home: "welcome".to_owned(),
            others: Vec::new(),
        }
    }
}

impl Config {
    /// The first time-out that is zero, by the name of its option.
    pub(crate) fn zero_timeout(&self) -> Option<&'static str> {
        let timeouts = [
            ("handshake_timeout", self.handshake_timeout),
            ("header_timeout", self.header_timeout),
            ("idle_timeout", self.idle_timeout),
            ("stall_timeout", self.stall_timeout),
            ("proxy_timeout", self.proxy_timeout),
        ];
        timeouts.into_iter().find(|(_, timeout)| timeout.is_zero()).map(|(name, _)| name)
    }
}
