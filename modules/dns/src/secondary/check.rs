//! One check of a zone with one of its primaries: what it has, and what is newer there.
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::task::spawn_blocking;

use crate::{
    Error,
    catalog::now,
    name::Name,
    secondary::{
        failed::Failed,
        fetch::{soa, transfer},
        heard::Followed,
        kept,
        replica::Replica,
        stream::{Broken, Sent, apply},
    },
    state::is_after,
};

/// What a primary has.
pub(crate) enum Found {
    /// What is here.
    Same,
    /// Something newer, and how it came.
    New(Box<Replica>, &'static str),
}

/// Asks a primary what it has, and gets what is newer than `held`.
pub(crate) async fn ask(
    followed: &Followed,
    server: SocketAddr,
    held: Option<Arc<Replica>>,
    is_good: bool,
    folder: PathBuf,
) -> Result<Found, Failed> {
    let (zone, key) = (&followed.zone, followed.key.as_ref());
    // One that has expired may have begun anew.
    let least = held.as_ref().filter(|_| is_good).map(|held| held.soa.serial);
    if let Some(held) = held {
        let (ours, theirs) = (held.soa.serial, soa(server, zone, key).await?.serial);
        if ours == theirs {
            let zone = zone.clone();
            keep(move || kept::touch(&folder, &zone, ours, now())).await?;
            return Ok(Found::Same);
        }
        if least.is_some() && !is_after(theirs, ours) {
            return Err(Failed::Older { theirs, ours });
        }
        if is_after(theirs, ours) {
            let changed = match transfer(server, zone, Some(ours), key).await {
                Ok(sent) => take(zone, sent, Some(held), least, folder.clone()).await,
                Err(failed) => Err(failed),
            };
            match changed {
                Err(failed) if failed.is_of_changes() => {
                    tracing::debug!(%zone, %server, error = %failed, "no changes of the zone: all of it is transferred");
                }
                done => return done,
            }
        }
    }
    take(zone, transfer(server, zone, None, key).await?, None, least, folder).await
}

/// Makes a zone of what was sent, and keeps it, where nobody else waits; it has to come after a serial number.
async fn take(
    zone: &Name,
    sent: Sent,
    base: Option<Arc<Replica>>,
    least: Option<u32>,
    folder: PathBuf,
) -> Result<Found, Failed> {
    let zone = zone.clone();
    let work = move || {
        let (records, how) = match (sent, base) {
            (Sent::Whole(records), _) => (records, "whole"),
            (Sent::Changes(changes), Some(base)) => (apply(&zone, base.records(), changes)?, "changes"),
            (Sent::Changes(_), None) | (Sent::Current, _) => return Err(Broken::NoSoa.into()),
        };
        let replica = Replica::new(&zone, records)?;
        let theirs = replica.soa.serial;
        if let Some(ours) = least.filter(|ours| !is_after(theirs, *ours)) {
            return Err(Failed::Older { theirs, ours });
        }
        written(kept::write(&folder, &replica, now()));
        Ok(Found::New(Box::new(replica), how))
    };
    spawn_blocking(work).await.map_err(|fell| Failed::Fell(fell.to_string()))?
}

/// Keeps something where nobody else waits.
async fn keep(work: impl FnOnce() -> Result<(), Error> + Send + 'static) -> Result<(), Failed> {
    spawn_blocking(move || written(work())).await.map_err(|fell| Failed::Fell(fell.to_string()))
}

/// A disk that is full must not keep back what is newer: it is served, and comes again after a restart.
fn written(kept: Result<(), Error>) {
    if let Err(error) = kept {
        tracing::error!(%error, "a zone of another name server is served, but not kept for the next start");
    }
}
