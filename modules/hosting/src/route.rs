//! Pure: from the name of a host to what is served there.
use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use kube_manifest::{Site, Sites};

/// The host names that do not depend on which apps are live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hosts<'a, L> {
    /// The domain, in lower case.
    pub domain: &'a str,
    /// The labels of mounts, in lower case; what they stand for is the caller's.
    pub labels: &'a [L],
    /// The labels that have routes to programs, in lower case.
    pub routed: &'a BTreeSet<String>,
}

/// Where a request for a host name goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place<'a> {
    /// The domain itself.
    Apex,
    /// The mount with this index in the labels.
    Mount(usize),
    /// An app.
    Site(&'a Arc<Site>),
    /// A label that has a route to a program, and no app.
    Routed(&'a str),
    /// A name under the domain that is nobody's.
    Nobody,
    /// A name outside of the domain that is no app's.
    Elsewhere,
}

impl<'a, L: AsRef<str>> Hosts<'a, L> {
    /// Where `name`, a host name without port, goes. Case and one final dot do not matter.
    pub(crate) fn place<'s>(&self, sites: &'s Sites, name: &str) -> Place<'s>
    where
        'a: 's,
    {
        let name = name.strip_suffix('.').unwrap_or(name);
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        };
        let rest = name.strip_suffix(self.domain);
        if rest == Some("") {
            return Place::Apex;
        }
        let Some(label) = rest.and_then(|rest| rest.strip_suffix('.')).filter(|label| !label.is_empty()) else {
            let owner = sites.values().find(|site| site.domains.iter().any(|domain| *domain == name));
            return owner.map_or(Place::Elsewhere, Place::Site);
        };
        if let Some(index) = self.labels.iter().position(|mount| mount.as_ref() == label) {
            return Place::Mount(index);
        }
        if let Some(site) = sites.get(label) {
            return Place::Site(site);
        }
        self.routed.get(label).map_or(Place::Nobody, |label| Place::Routed(label))
    }
}

/// Whether the host `name` is served: the domain itself, the label of a mount or of a route under it, or a live app, by its label or
/// a domain of its own.
///
/// `domain`, `labels` and `routed`, the [hosts that have routes](crate::Routes::hosts), are in lower case; the case of `name` and one
/// final dot do not matter.
pub fn serves(domain: &str, labels: &[&str], routed: &BTreeSet<String>, sites: &Sites, name: &str) -> bool {
    match (Hosts { domain, labels, routed }).place(sites, name) {
        Place::Apex | Place::Mount(_) | Place::Site(_) | Place::Routed(_) => true,
        Place::Nobody | Place::Elsewhere => false,
    }
}

#[cfg(test)]
mod tests;
