//! Name servers, each with one thread or process that answers, on the core of the server; KUBE on both, too.
use std::path::Path;

use anyhow::Result;
use kube_dns_compare::servers::{self, Files, Server};

use super::{Named, kube};

pub(crate) const NSD: &str = "/usr/sbin/nsd";
pub(crate) const KNOT: &str = "/usr/sbin/knotd";

/// A name server: how it is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameServer {
    name: &'static str,
    /// Starts it with these files; or, if it signs them itself, signed.
    program: fn(&Files, bool, &[&str]) -> Result<Server>,
    /// Whether it signs a zone itself; another is given the signed one.
    pub(crate) signs: bool,
    /// Whether it answers on as many cores as it is given.
    pub(crate) spreads: bool,
    /// Whether its zone is another than it should be.
    pub(crate) is_wrong: bool,
}

impl Named for NameServer {
    fn name(&self) -> &'static str {
        self.name
    }
}

impl NameServer {
    /// Starts it on some cores, and waits until it has the zone.
    pub(crate) fn start(&self, files: &Files, is_signed: bool, cores: &str) -> Result<Server> {
        (self.program)(files, is_signed, &["taskset", "-c", cores])
    }
}

/// Has KUBE sign zones, and writes them into `folder` as files that others load.
pub(crate) fn signed(files: &Files, folder: &Path) -> Result<Files> {
    let signer = servers::kube(kube::PROGRAM.as_ref(), files, &format!("{SIGNS}\ntransfer = [\"127.0.0.1\"]"), &[])?;
    let zones: Vec<_> = files.zones.iter().map(|(name, _)| name.clone()).collect();
    Files::transferred(signer.address, &zones, folder)
}

/// The option of a KUBE that signs.
const SIGNS: &str = "dnssec = true";

pub(crate) const NSD_SERVER: NameServer = NameServer {
    name: "NSD",
    program: |files, _, wrap| servers::nsd(files, wrap),
    signs: false,
    spreads: false,
    is_wrong: false,
};
pub(crate) const KNOT_SERVER: NameServer =
    NameServer { name: "Knot", program: |files, _, wrap| servers::knot(files, wrap), ..NSD_SERVER };
pub(crate) const KUBE_SERVER: NameServer = NameServer {
    name: "KUBE",
    program: |files, is_signed, wrap| {
        servers::kube(kube::PROGRAM.as_ref(), files, if is_signed { SIGNS } else { "" }, wrap)
    },
    signs: true,
    spreads: true,
    is_wrong: false,
};
/// A cheat: every name has the same address.
pub(crate) const WRONG: NameServer = NameServer { name: "a name server of one address", is_wrong: true, ..NSD_SERVER };
