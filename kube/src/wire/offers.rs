//! What hosting serves, for the zone.
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::sync::watch;

/// Where hosting tells what HTTPS offers.
pub(super) struct Offers(pub(super) watch::Receiver<Option<hosting::Offer>>);

impl dns::Https for Offers {
    fn offer(&self) -> Option<dns::Offer> {
        let offer = self.0.borrow().clone()?;
        Some(dns::Offer { port: offer.port, protocols: offer.protocols.iter().map(ToString::to_string).collect() })
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        let mut offers = self.0.clone();
        offers.mark_unchanged();
        async move {
            if offers.changed().await.is_err() {
                // Hosting is gone, and with it whatever it might tell.
                std::future::pending().await
            }
        }
        .boxed()
    }
}
