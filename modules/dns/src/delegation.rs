//! Asks the parents of the signed zones which DS records they have.
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    LOOK,
    address::Address,
    ask::{Over, ask},
    catalog::Catalog,
    dnssec::rollover::Parent,
    name::Name,
    parent::{self, NoAnswer, Unclear},
    resolve::{PORT, Resolvers, Server},
    response::{Question, Response},
    rtype::Rtype,
    serve::Shared,
};

/// How long all of it may take for one zone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks whenever it is time for a zone, and tells `catalog`. Never ends.
pub(crate) async fn follow(catalog: &Arc<Catalog>, shared: &Shared) {
    loop {
        sleep(LOOK).await;
        let to_ask = Arc::clone(catalog);
        // What follows may be written to disk and signed.
        for zone in spawn_blocking(move || to_ask.to_ask()).await.unwrap_or_default() {
            let said = parent_of(&zone, &shared.resolvers.load_full()).await;
            let (catalog, heard) = (Arc::clone(catalog), zone.clone());
            match spawn_blocking(move || catalog.hear(&heard, said)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%zone, %error, "what the parent says changes nothing"),
                Err(fell) => tracing::error!(%zone, %fell, "what the parent says changes nothing"),
            }
        }
    }
}

/// Which DS records the parent of `zone` has.
async fn parent_of(zone: &Name, resolvers: &[Address]) -> Result<Parent, Unclear> {
    if parent::is_private(zone) && resolvers.is_empty() {
        return Err(Unclear::Private);
    }
    let asked = async {
        let resolvers = Resolvers::of(resolvers).map_err(|error| Unclear::NoServers(error.to_string()))?;
        let (above, servers) = resolvers.parent(zone).await.map_err(Unclear::NoServers)?;
        let question = Question { name: zone.clone(), rtype: Rtype::DS, is_recursive: false };
        let answers = all(&servers, &question).await;
        let read = |said: Result<Response, NoAnswer>| said.and_then(|response| parent::read(&response, zone, &above));
        let answers: Vec<Vec<_>> =
            answers.into_iter().map(|answers| answers.into_iter().map(|(_, said)| read(said)).collect()).collect();
        parent::add_up(&above, &answers)
    };
    let late = |_| Err(Unclear::NoServers(format!("it takes longer than {PATIENCE:?}")));
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(late)
}

/// Asks every server at each of its addresses over TCP, all at once; what each answers, in the order of `servers`.
pub(crate) async fn all(servers: &[Server], question: &Question) -> Vec<Vec<(IpAddr, Result<Response, NoAnswer>)>> {
    let of_server = servers.iter().map(|server| {
        join_all(server.addresses.iter().map(async |address| {
            let response = ask(SocketAddr::new(*address, PORT), question, Over::Tcp).await;
            (*address, response.map_err(|error| NoAnswer(format!("{address} does not answer: {error}"))))
        }))
    });
    join_all(of_server).await
}
