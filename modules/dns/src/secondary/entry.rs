//! A zone that comes from primaries, and how it fares with them.
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    catalog,
    name::Name,
    secondary::{check::Found, failed::Failed, heard::Followed, replica::Replica, schedule::Schedule},
};

/// A zone that comes from primaries, as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// The zone.
    pub zone: Name,
    /// Where it comes from.
    pub primaries: Vec<SocketAddr>,
    /// The one that last had it.
    pub from: Option<SocketAddr>,
    /// When that was, in seconds since 1970.
    pub checked: Option<u32>,
    /// Until when it is served if no primary has it any more, in seconds since 1970.
    pub expires: Option<u64>,
    /// Whether it is served.
    pub is_served: bool,
    /// Whether it is signed, by somebody else.
    pub is_signed: bool,
    /// What is wrong.
    pub trouble: Option<String>,
}

/// A zone that comes from primaries, and how it fares.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) followed: Arc<Followed>,
    pub(crate) schedule: Schedule,
    /// What came last, even if it does not count any more.
    pub(crate) replica: Option<Arc<Replica>>,
    pub(crate) from: Option<SocketAddr>,
    pub(crate) checked: Option<u32>,
    pub(crate) trouble: Option<Trouble>,
    /// What is wrong with the primaries that were asked, while others may be of use.
    pub(crate) doubt: Option<Trouble>,
}

/// What is wrong with a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    text: String,
    /// Whether time may heal it, as long as the zone is served.
    is_away: bool,
}

/// What came of asking a primary.
pub(crate) struct Asked {
    pub(crate) followed: Arc<Followed>,
    pub(crate) server: SocketAddr,
    pub(crate) result: Result<Found, Failed>,
}

impl Entry {
    pub(crate) fn new(followed: Followed, kept: Option<(Replica, u32)>, instant: Instant, time: u32) -> Self {
        // A clock that was set back makes nothing younger than now.
        let age = |checked: u32| Duration::from_secs(time.saturating_sub(checked).into());
        let held = kept.as_ref().map(|(replica, checked)| (replica.timers(), age(*checked)));
        let (replica, checked) = kept.unzip();
        Self {
            schedule: Schedule::new(followed.primaries.len(), held, instant),
            followed: Arc::new(followed),
            replica: replica.map(Arc::new),
            from: None,
            checked,
            trouble: None,
            doubt: None,
        }
    }

    /// The addresses of the primaries.
    pub(crate) fn primaries(&self) -> String {
        self.followed.primaries.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn shown(&self, now: Instant) -> Mirrored {
        let expire = self.replica.as_ref().map(|replica| replica.timers().expire.as_secs());
        Mirrored {
            zone: self.followed.zone.clone(),
            primaries: self.followed.primaries.clone(),
            from: self.from,
            checked: self.checked,
            expires: self.checked.zip(expire).map(|(checked, expire)| u64::from(checked) + expire),
            is_served: self.replica.is_some() && self.schedule.is_good(now),
            is_signed: self.replica.as_ref().is_some_and(|replica| replica.signed.is_some()),
            trouble: self.trouble.as_ref().map(|trouble| trouble.text.clone()),
        }
    }

    /// What a person should look at.
    pub(crate) fn wrong(&self, now: Instant) -> Option<String> {
        let is_served = self.schedule.is_good(now);
        let Trouble { text, .. } = self.trouble.as_ref().filter(|trouble| !(trouble.is_away && is_served))?;
        let (zone, primaries) = (&self.followed.zone, self.primaries());
        Some(match (is_served, self.checked) {
            (true, _) => {
                format!("the zone {zone} is served as it was, and does not follow its primaries ({primaries}): {text}")
            }
            (false, Some(_)) => {
                format!(
                    "the zone {zone} has expired and is not served, its primaries ({primaries}) did not have it: {text}"
                )
            }
            (false, None) => format!("the zone {zone} did not come yet from its primaries ({primaries}): {text}"),
        })
    }

    /// Takes what came of asking a primary. Says whether something else is to be served, and how to count it.
    pub(crate) fn take(
        &mut self,
        Asked { server, result, .. }: Asked,
        now: Instant,
        jitter: u8,
    ) -> (bool, &'static str) {
        let zone = &self.followed.zone;
        let (replica, how) = match (result, &self.replica) {
            (Ok(Found::New(replica, how)), _) => (Arc::new(*replica), how),
            (Ok(Found::Same), Some(replica)) => (Arc::clone(replica), "current"),
            (Ok(Found::Same), None) => return self.fail(server, &Failed::NoSoa, now, jitter),
            (Err(failed), _) => return self.fail(server, &failed, now, jitter),
        };
        let is_new = how != "current" || !self.schedule.is_good(now);
        if is_new {
            tracing::info!(%zone, %server, serial = replica.soa.serial, how, "the zone of another name server is served");
        } else if self.trouble.is_some() {
            tracing::info!(%zone, %server, "the primary has the zone again");
        }
        self.schedule.succeeded(replica.timers(), now, jitter);
        (self.replica, self.from, self.checked) = (Some(replica), Some(server), Some(catalog::now()));
        (self.trouble, self.doubt) = (None, None);
        (is_new, how)
    }

    fn fail(&mut self, server: SocketAddr, failed: &Failed, now: Instant, jitter: u8) -> (bool, &'static str) {
        let trouble = Trouble { text: format!("{server}: {failed}"), is_away: failed.is_away() };
        let zone = &self.followed.zone;
        // All of them once, and then no more until one of them is of use.
        match self.schedule.is_failing() {
            true => tracing::debug!(%zone, %server, error = %failed, "the primary is of no use still"),
            false => tracing::warn!(%zone, %server, error = %failed, "the primary is of no use: it is asked again"),
        }
        // What a person has to do is more important than what time heals.
        if self.doubt.as_ref().is_none_or(|doubt| doubt.is_away) {
            self.doubt = Some(trouble);
        }
        // Others may have it.
        if self.schedule.failed(now, jitter) {
            self.trouble = self.doubt.take();
        }
        (false, if failed.is_away() { "unanswered" } else { "refused" })
    }
}
