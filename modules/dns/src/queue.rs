//! Requests to update names wait here, so that whoever answers queries never waits for the disk.
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex as Lock, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, mpsc},
    task::spawn_blocking,
};

use crate::{
    answer::Identity,
    catalog::Catalog,
    name::Name,
    query::Query,
    reply::{Rcode, Reply},
    rtype::Rtype,
    serve::Shared,
    tsig::{self, Signer},
    update::{self, Asker, Declined, Update},
};

/// Most requests that wait. Each is at most as long as a message.
const WAITING: usize = 64;
/// Most requests whose outcome is remembered: more than come while their signatures hold.
const REMEMBERED: usize = 1024;
/// How long nothing is said of requests that change nothing, after one of which it was: their senders try again and again.
const QUIET: Duration = Duration::from_secs(10);
/// Names that a line of the log has room for.
const SHOWN: usize = 8;

/// Sends an answer.
pub(crate) type Answer = Box<dyn FnOnce(Vec<u8>) + Send>;

/// The requests that wait.
pub(crate) struct Queue {
    end: mpsc::Sender<Request>,
    front: Mutex<mpsc::Receiver<Request>>,
    /// What was answered to the last of them, by their MACs. Over UDP one comes twice if its answer is late, and whoever sees one
    /// could send it again later: nothing is done twice.
    done: Lock<VecDeque<(Vec<u8>, Rcode)>>,
    /// When something was last said of one that changes nothing.
    said: Lock<Option<Instant>>,
}

/// A request, which was signed with a key that may update something when it came.
struct Request {
    message: Vec<u8>,
    /// When it came, in seconds since 1970.
    now: u32,
    answer: Answer,
}

/// What becomes of a message.
pub(crate) enum Taken {
    /// It is answered as every other: it is no update, or of one who may not update anything.
    No,
    /// It is answered later.
    Yes,
    /// Too many wait: this is to be answered.
    Full(Vec<u8>),
}

impl Queue {
    pub(crate) fn new() -> Self {
        let (end, front) = mpsc::channel(WAITING);
        Self { end, front: Mutex::new(front), done: Lock::default(), said: Lock::default() }
    }

    /// What was answered to a request before.
    fn answered(&self, mac: &[u8]) -> Option<Rcode> {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.iter().find_map(|(before, rcode)| (before == mac).then_some(*rcode))
    }

    fn remember(&self, mac: &[u8], rcode: Rcode) {
        // What failed here may be tried again.
        if rcode != Rcode::ServFail {
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            done.truncate(REMEMBERED - 1);
            done.push_front((mac.to_vec(), rcode));
        }
    }

    /// Takes a message in that came at `now`, if it is for those who may update something.
    pub(crate) fn take(
        shared: &Shared,
        identity: &Identity,
        message: &[u8],
        now: u32,
        answer: impl FnOnce() -> Option<Answer>,
    ) -> Taken {
        // All that ordinary queries cost.
        if update::is_wanted(message) { Self::admit(shared, identity, message, now, answer) } else { Taken::No }
    }

    fn admit(
        shared: &Shared,
        identity: &Identity,
        message: &[u8],
        now: u32,
        answer: impl FnOnce() -> Option<Answer>,
    ) -> Taken {
        let Ok(query) = Query::read(message) else {
            shared.metrics.updates.with_label_values(&[Declined::Format.label()]).inc();
            return Taken::No;
        };
        // Strangers get no place in the queue.
        let signed = tsig::check(&identity.keys, message, &query, now);
        let is_plain = query.edns.as_ref().is_none_or(|edns| edns.version == 0);
        let (true, Ok(Some(mut signer))) = (is_plain, signed) else {
            tracing::debug!("an update without a signature that holds is refused");
            shared.metrics.updates.with_label_values(&["unsigned"]).inc();
            return Taken::No;
        };
        if !identity.grants.know(signer.key()) {
            shared.tell(signer.key(), None, &Declined::Unknown);
            return Taken::No;
        }
        let sent = shared.updates.end.try_reserve().ok().zip(answer());
        let Some((place, answer)) = sent else {
            shared.tell(signer.key(), None, &Declined::Busy);
            return Taken::Full(respond(message, &query, Declined::Busy.rcode(), &mut signer, now));
        };
        place.send(Request { message: message.to_vec(), now, answer });
        Taken::Yes
    }
}

/// Does what requests ask for, one after the other. Never ends.
pub(crate) async fn work(shared: &Arc<Shared>, catalog: &Arc<Catalog>) {
    let mut front = shared.updates.front.lock().await;
    while let Some(request) = front.recv().await {
        let (shared, catalog) = (Arc::clone(shared), Arc::clone(catalog));
        let worked = spawn_blocking(move || {
            if let Some(answer) = request.work(&shared, &catalog) {
                (request.answer)(answer);
            }
        });
        if let Err(fell) = worked.await {
            tracing::error!(%fell, "a request to update names is not answered");
        }
    }
}

impl Request {
    /// Does it; gives the answer. None, if its key is gone by now.
    fn work(&self, shared: &Shared, catalog: &Catalog) -> Option<Vec<u8>> {
        let identity = shared.identity.load_full();
        let query = Query::read(&self.message).ok()?;
        let mut signer = tsig::check(&identity.keys, &self.message, &query, self.now).ok()??;
        let rcode = match shared.updates.answered(signer.request()) {
            Some(rcode) => {
                shared.metrics.updates.with_label_values(&["repeated"]).inc();
                rcode
            }
            None => {
                let rcode = self.apply(shared, catalog, &identity, &query, signer.key());
                shared.updates.remember(signer.request(), rcode);
                rcode
            }
        };
        shared.metrics.answered(rcode);
        Some(respond(&self.message, &query, rcode, &mut signer, self.now))
    }

    /// Does it for the first time; gives the code of the answer.
    fn apply(&self, shared: &Shared, catalog: &Catalog, identity: &Identity, query: &Query<'_>, key: &Name) -> Rcode {
        let update = Update::read(&self.message, query);
        let zone = update.as_ref().ok().map(|update| update.zone.clone());
        let asker = Asker { key, now: self.now };
        match update.and_then(|update| catalog.update(&update, &identity.grants, asker)) {
            Ok(changed) => {
                shared.applied(key, &changed);
                Rcode::NoError
            }
            Err(declined) => {
                shared.tell(key, zone.as_ref(), &declined);
                declined.rcode()
            }
        }
    }
}

impl Shared {
    /// Counts and logs a request that was done.
    fn applied(&self, key: &Name, changed: &[(Name, Rtype)]) {
        let result = if changed.is_empty() { "unchanged" } else { "changed" };
        self.metrics.updates.with_label_values(&[result]).inc();
        if changed.is_empty() {
            tracing::debug!(%key, "an update asks for what is so already");
            return;
        }
        let shown: Vec<_> = changed.iter().take(SHOWN).map(|(owner, rtype)| format!("{owner} {rtype}")).collect();
        let more = changed.len().saturating_sub(SHOWN);
        tracing::info!(%key, names = shown.join(", "), more, "updated");
    }

    /// Counts and logs a request that changes nothing.
    fn tell(&self, key: &Name, zone: Option<&Name>, declined: &Declined) {
        self.metrics.updates.with_label_values(&[declined.label()]).inc();
        let zone = zone.map(ToString::to_string).unwrap_or_default();
        // What a request wants first is how programs ask what there is.
        let is_asking = matches!(declined, Declined::Prerequisite(..));
        let mut said = self.updates.said.lock().unwrap_or_else(PoisonError::into_inner);
        if is_asking || said.is_some_and(|said| said.elapsed() < QUIET) {
            tracing::debug!(%key, zone, reason = %declined, "an update changes nothing");
        } else {
            *said = Some(Instant::now());
            tracing::warn!(%key, zone, reason = %declined, "an update changes nothing; of others nothing is said for a while");
        }
    }
}

/// The answer to a request: [RFC 2136, section 3.8](https://www.rfc-editor.org/rfc/rfc2136#section-3.8).
fn respond(message: &[u8], query: &Query<'_>, rcode: Rcode, signer: &mut Signer<'_>, now: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let reply = Reply::new(query, message, usize::from(u16::MAX), &mut out);
    reply.finish(rcode, query.edns.as_ref().map(|_| &[][..]));
    signer.sign(&mut out, now);
    out
}
