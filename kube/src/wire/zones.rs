//! The zones, for the admin API.

/// Where zones are served.
pub(super) struct Zones(pub(super) dns::Handle);

impl admin::Zones for Zones {
    fn list(&self) -> Vec<admin::ZoneStatus> {
        let delegations = self.0.delegations();
        let mut mirrored: Vec<_> = self.0.mirrored();
        let mut status = |zone: dns::Content| {
            let delegation = delegations.iter().find(|delegation| delegation.zone == *zone.apex());
            let place = mirrored.iter().position(|mirrored| mirrored.zone == *zone.apex());
            admin::ZoneStatus {
                name: zone.apex().to_string(),
                serial: zone.serial(),
                records: zone.sets().map(|(.., set)| set.data.len() as u64).sum(),
                signing: delegation.map(signing),
                secondary: place.map(|place| secondary(mirrored.remove(place))),
            }
        };
        let mut zones: Vec<_> = self.0.zones().into_iter().map(&mut status).collect();
        // Those that are not served have nothing to show but that.
        let away = |mirrored: dns::Mirrored| admin::ZoneStatus {
            name: mirrored.zone.to_string(),
            serial: 0,
            records: 0,
            signing: None,
            secondary: Some(secondary(mirrored)),
        };
        zones.extend(mirrored.into_iter().map(away));
        zones
    }

    fn text(&self, zone: &str, with_signatures: bool) -> Option<String> {
        self.0.text(&zone.parse().ok()?, with_signatures)
    }

    fn updated(&self, zone: &str) -> Vec<admin::UpdatedStatus> {
        let status = |updated: dns::Updated| admin::UpdatedStatus {
            name: updated.owner.to_string(),
            rtype: updated.rtype.to_string(),
            records: updated.records as u64,
            last: admin::UpdateStatus { key: updated.key.into(), at: updated.time },
        };
        zone.parse().map_or_else(|_| Vec::new(), |zone| self.0.updated(&zone).into_iter().map(status).collect())
    }

    fn forget(&self, zone: &str, order: &admin::ForgetOrder) -> Result<Vec<String>, String> {
        let name = |text: &str| text.parse::<dns::Name>().map_err(|error| error.to_string());
        let rtype = order.rtype.as_deref().map(str::parse).transpose()?;
        let forgotten = self.0.forget(&name(zone)?, &name(&order.name)?, rtype).map_err(|error| error.to_string())?;
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
    admin::SigningStatus { ds, next: delegation.next.to_string(), at }
}
