//! Name servers, each with one thread or process that answers, on the core of the server.
use anyhow::Result;
use kube_dns_compare::servers::{self, Files, Server};

use super::{Core, Named, kube};

pub(crate) const NSD: &str = "/usr/sbin/nsd";
pub(crate) const KNOT: &str = "/usr/sbin/knotd";

/// A name server: how it is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameServer {
    name: &'static str,
    program: fn(&Files, &[&str]) -> Result<Server>,
    /// Whether its zone is another than it should be.
    pub(crate) is_wrong: bool,
}

impl Named for NameServer {
    fn name(&self) -> &'static str {
        self.name
    }
}

impl NameServer {
    /// Starts it, and waits until it has the zone.
    pub(crate) fn start(&self, files: &Files) -> Result<Server> {
        (self.program)(files, &["taskset", "-c", Core::Server.number()])
    }
}

pub(crate) const NSD_SERVER: NameServer = NameServer { name: "NSD", program: servers::nsd, is_wrong: false };
pub(crate) const KNOT_SERVER: NameServer = NameServer { name: "Knot", program: servers::knot, is_wrong: false };
pub(crate) const KUBE_SERVER: NameServer = NameServer {
    name: "KUBE",
    program: |files, wrap| servers::kube(kube::PROGRAM.as_ref(), files, "", wrap),
    is_wrong: false,
};
/// A cheat: every name has the same address.
pub(crate) const WRONG: NameServer = NameServer { name: "a name server of one address", is_wrong: true, ..NSD_SERVER };
