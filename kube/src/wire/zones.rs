//! The zones, for the admin API.
use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use tls::Tls;
use tokio::task::spawn_blocking;

/// Where zones are served.
pub(super) struct Zones {
    pub(super) dns: dns::Handle,
    /// Who knows which public authorities are to make certificates.
    pub(super) tls: Arc<Tls>,
}

impl admin::Zones for Zones {
    fn list(&self) -> Vec<admin::ZoneStatus> {
        let delegations = self.dns.delegations();
        let (mut mirrored, presigned) = (self.dns.mirrored(), self.dns.presigned());
        let of_apps = self.dns.app_zones();
        let mut status = |zone: dns::Content| {
            let delegation = delegations.iter().find(|delegation| delegation.zone == *zone.apex());
            let place = mirrored.iter().position(|mirrored| mirrored.zone == *zone.apex());
            admin::ZoneStatus {
                name: zone.apex().to_string(),
                serial: zone.serial(),
                records: zone.sets().map(|(.., set)| set.data.len() as u64).sum(),
                signing: delegation.map(signing),
                signed_until: presigned
                    .iter()
                    .find(|(presigned, _)| presigned == zone.apex())
                    .and_then(|(_, until)| *until),
                secondary: place.map(|place| secondary(mirrored.remove(place))),
                app: of_apps.contains(zone.apex()),
            }
        };
        let mut zones: Vec<_> = self.dns.zones().into_iter().map(&mut status).collect();
        // Those that are not served have nothing to show but that.
        let away = |mirrored: dns::Mirrored| admin::ZoneStatus {
            name: mirrored.zone.to_string(),
            serial: 0,
            records: 0,
            signing: None,
            signed_until: None,
            secondary: Some(secondary(mirrored)),
            app: false,
        };
        zones.extend(mirrored.into_iter().map(away));
        zones
    }

    fn text(&self, zone: &str, with_signatures: bool) -> Option<String> {
        self.dns.text(&zone.parse().ok()?, with_signatures)
    }

    fn roll(&self, zone: String) -> BoxFuture<'_, Result<admin::ZoneStatus, admin::Refusal>> {
        async move {
            let name: dns::Name = zone.parse().map_err(|error: dns::NotAName| not_found(&error))?;
            let (handle, apex) = (self.dns.clone(), name.clone());
            // The key is written to disk, and the zone is signed with it.
            let rolled = spawn_blocking(move || handle.roll(&apex)).await;
            rolled.map_err(|fell| admin::Refusal::Failed(fell.to_string()))?.map_err(|error| refusal(&error))?;
            let status = self.list().into_iter().find(|status| status.name == name.to_string());
            status.ok_or_else(|| not_found(&dns::NotRolled::Unknown(name)))
        }
        .boxed()
    }

    fn check(
        &self,
        zone: String,
        order: admin::CheckOrder,
    ) -> BoxFuture<'_, Result<Vec<admin::CheckStatus>, admin::Refusal>> {
        async move {
            let name: dns::Name = zone.parse().map_err(|error: dns::NotAName| not_found(&error))?;
            let resolver =
                order.resolver.map(|text| text.parse()).transpose().map_err(admin::Refusal::Unprocessable)?;
            let found = self.dns.check(&name, resolver, self.tls.issuers().into_iter().next()).await;
            let found = found.ok_or_else(|| not_found(&dns::NotRolled::Unknown(name)))?;
            Ok(found.into_iter().map(checked).collect())
        }
        .boxed()
    }

    fn updated(&self, zone: &str) -> Vec<admin::UpdatedStatus> {
        let status = |updated: dns::Updated| admin::UpdatedStatus {
            name: updated.owner.to_string(),
            rtype: updated.rtype.to_string(),
            records: updated.records as u64,
            last: admin::UpdateStatus { key: updated.key.into(), at: updated.time },
        };
        zone.parse().map_or_else(|_| Vec::new(), |zone| self.dns.updated(&zone).into_iter().map(status).collect())
    }

    fn forget(&self, zone: &str, order: &admin::ForgetOrder) -> Result<Vec<String>, String> {
        let name = |text: &str| text.parse::<dns::Name>().map_err(|error| error.to_string());
        let rtype = order.rtype.as_deref().map(str::parse).transpose()?;
        let forgotten = self.dns.forget(&name(zone)?, &name(&order.name)?, rtype).map_err(|error| error.to_string())?;
        Ok(forgotten.iter().map(ToString::to_string).collect())
    }
}

fn secondary(mirrored: dns::Mirrored) -> admin::SecondaryStatus {
    admin::SecondaryStatus {
        primaries: mirrored.primaries.iter().map(ToString::to_string).collect(),
        from: mirrored.from.map(|from| from.to_string()),
        checked: mirrored.checked,
        expires: mirrored.expires,
        served: mirrored.is_served,
        signed: mirrored.is_signed,
        trouble: mirrored.trouble,
    }
}

fn checked(finding: dns::Finding) -> admin::CheckStatus {
    let verdict = match finding.verdict {
        dns::Verdict::Ok => admin::Verdict::Ok,
        dns::Verdict::Wrong => admin::Verdict::Wrong,
        dns::Verdict::Unknown => admin::Verdict::Unknown,
    };
    admin::CheckStatus { about: finding.about, verdict, says: finding.says }
}

fn not_found(error: &impl ToString) -> admin::Refusal {
    admin::Refusal::NotFound(error.to_string())
}

fn refusal(error: &dns::Error) -> admin::Refusal {
    if let dns::Error::NotRolled(refused) = error {
        return match refused {
            dns::NotRolled::Unknown(_) => not_found(refused),
            dns::NotRolled::Unsigned(_)
            | dns::NotRolled::Elsewhere(_)
            | dns::NotRolled::Presigned(_)
            | dns::NotRolled::Refused(_) => admin::Refusal::Unprocessable(refused.to_string()),
        };
    }
    admin::Refusal::Failed(error.to_string())
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
