//! What a certificate authority is to find in the zone.
use std::{sync::OnceLock, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};

/// How long others may keep such a record.
const TTL: Duration = Duration::from_secs(60);

/// The way to the zones, once there are some: they need certificates themselves.
#[derive(Default)]
pub(super) struct Records(OnceLock<dns::Handle>);

impl Records {
    /// Leads to these zones from now on.
    pub(super) fn lead_to(&self, dns: dns::Handle) {
        // Wired once.
        self.0.set(dns).ok();
    }

    /// Where a name leads, as resolvers see it.
    pub(super) async fn look_up(&self, name: &str) -> Result<tls::Lead, String> {
        let dns = self.0.get().cloned().ok_or_else(|| "nobody can be asked yet".to_owned())?;
        let name: dns::Name = name.parse().map_err(|error: dns::NotAName| error.to_string())?;
        let dns::Found { addresses, here, is_here } = dns.find(&name).await?;
        Ok(tls::Lead { to: addresses, here, is_here })
    }
}

impl tls::Txt for Records {
    fn has<'a>(&'a self, name: &'a str) -> BoxFuture<'a, bool> {
        async move {
            let Some((dns, name)) = self.0.get().zip(name.parse().ok()) else { return false };
            dns.can_say(&name).await
        }
        .boxed()
    }

    fn publish<'a>(&'a self, name: &'a str, texts: &'a [String]) -> BoxFuture<'a, Result<bool, String>> {
        async move {
            let Some(dns) = self.0.get() else { return Ok(false) };
            let name: dns::Name = name.parse().map_err(|error: dns::NotAName| error.to_string())?;
            dns.say_txt(&name, texts, TTL).await.map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn permit<'a>(&'a self, domain: &'a str, issuers: &'a [String]) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let Some(dns) = self.0.get().cloned() else { return Ok(()) };
            let domain: dns::Name = domain.parse().map_err(|error: dns::NotAName| error.to_string())?;
            let issuers = issuers.to_vec();
            let permitted = tokio::task::spawn_blocking(move || dns.permit(&domain, &issuers, TTL)).await;
            permitted.map_err(|fell| fell.to_string())?.map_err(|error| error.to_string())
        }
        .boxed()
    }
}
