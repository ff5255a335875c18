//! The zones, for the admin API.
use futures_util::{FutureExt, future::BoxFuture};
use tokio::task::spawn_blocking;

/// Where zones are served.
pub(super) struct Zones(pub(super) dns::Handle);

impl admin::Zones for Zones {
    fn list(&self) -> Vec<admin::ZoneStatus> {
        let delegations = self.0.delegations();
        let status = |zone: dns::Content| {
            let delegation = delegations.iter().find(|delegation| delegation.zone == *zone.apex());
            admin::ZoneStatus {
                name: zone.apex().to_string(),
                serial: zone.serial(),
                records: zone.sets().map(|(.., set)| set.data.len() as u64).sum(),
                signing: delegation.map(signing),
            }
        };
        self.0.zones().into_iter().map(status).collect()
    }

    fn text(&self, zone: &str, with_signatures: bool) -> Option<String> {
        self.0.text(&zone.parse().ok()?, with_signatures)
    }

    fn roll(&self, zone: String) -> BoxFuture<'_, Result<admin::ZoneStatus, admin::Refusal>> {
        async move {
            let name: dns::Name = zone.parse().map_err(|error: dns::NotAName| not_found(&error))?;
            let (handle, apex) = (self.0.clone(), name.clone());
            // The key is written to disk, and the zone is signed with it.
            let rolled = spawn_blocking(move || handle.roll(&apex)).await;
            rolled.map_err(|fell| admin::Refusal::Failed(fell.to_string()))?.map_err(|error| refusal(&error))?;
            let status = self.list().into_iter().find(|status| status.name == name.to_string());
            status.ok_or_else(|| not_found(&dns::NotRolled::Unknown(name)))
        }
        .boxed()
    }
}

fn not_found(error: &impl ToString) -> admin::Refusal {
    admin::Refusal::NotFound(error.to_string())
}

fn refusal(error: &dns::Error) -> admin::Refusal {
    match error {
        dns::Error::NotRolled(unknown @ dns::NotRolled::Unknown(_)) => not_found(unknown),
        dns::Error::NotRolled(refused) => admin::Refusal::Unprocessable(refused.to_string()),
        other => admin::Refusal::Failed(other.to_string()),
    }
}

fn signing(delegation: &dns::Delegation) -> admin::SigningStatus {
    let ds = delegation.ds.as_ref().map(|ds| admin::DsStatus {
        key_tag: ds.key_tag,
        algorithm: ds.algorithm,
        digest_type: ds.digest_type,
        digest: ds.digest.clone(),
        flags: ds.flags,
        protocol: ds.protocol,
        public_key: ds.public_key.clone(),
        record: ds.to_string(),
    });
    let at = match delegation.next {
        dns::Next::Time(at) => Some(at),
        dns::Next::Nothing | dns::Next::Ds(_) | dns::Next::NoDs => None,
    };
    let parent = delegation.asked.clone().map(|(asked, said)| admin::ParentStatus { asked, said });
    admin::SigningStatus { ds, next: delegation.next.to_string(), at, parent }
}
