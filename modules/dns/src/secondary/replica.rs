//! Pure: a zone as somebody else made it, a primary or the signer of a zone file, ready to be served.
use std::sync::Arc;

use crate::{
    content::{Content, Record, Soa, Unfit},
    name::Name,
    presigned::{self, Unservable},
    secondary::schedule::Timers,
    zone::{self, Signed, Zone},
};

/// A zone of somebody else's, with their signatures.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub(crate) content: Content,
    pub(crate) signed: Option<Signed>,
    pub(crate) zone: Arc<Zone>,
    /// When the first signature expires, in seconds since 1970.
    pub(crate) signatures_expire: Option<u32>,
    pub(crate) soa: Soa,
}

/// Why records are not a zone that can be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("what it sends is not the zone: {}", shown(.0))]
    Unfit(Vec<Unfit>),
    #[error("the zone that it sends cannot be served: {0}")]
    Unservable(#[from] Unservable),
}

impl Unusable {
    /// What is wrong with the zone, whoever it is from.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Unfit(problems) => shown(problems),
            Self::Unservable(reason) => reason.to_string(),
        }
    }
}

/// The first few problems: there may be as many as records.
fn shown(problems: &[Unfit]) -> String {
    const FEW: usize = 3;
    let mut shown: Vec<_> = problems.iter().take(FEW).map(ToString::to_string).collect();
    if let Some(more) = problems.len().checked_sub(FEW).filter(|more| *more > 0) {
        shown.push(format!("and {more} more"));
    }
    shown.join("; ")
}

impl Replica {
    /// Whether nothing is different, signatures included.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.content == other.content && self.signed == other.signed
    }

    /// The zone of these records.
    ///
    /// # Errors
    /// They are none, or it is signed in a way that cannot be served.
    pub(crate) fn new(zone: &Name, records: Vec<Record>) -> Result<Self, Unusable> {
        Self::of(Content::from_records(zone.clone(), records))
    }

    /// The zone of this content, in which signatures are records like others.
    ///
    /// # Errors
    /// It is no zone, or is signed in a way that cannot be served.
    pub(crate) fn of(content: Content) -> Result<Self, Unusable> {
        let (content, signed) = match presigned::split(&content)? {
            Some((content, signed)) => (content, Some(signed)),
            None => (content, None),
        };
        let problems = content.problems();
        let Some(soa) = content.soa().filter(|_| problems.is_empty()) else { return Err(Unusable::Unfit(problems)) };
        let zone = Arc::new(Zone::new(&content, signed.as_ref()));
        let signatures_expire = signed.as_ref().and_then(presigned::expires);
        Ok(Self { content, signed, zone, signatures_expire, soa })
    }

    /// Everything that came, the SOA record first.
    pub(crate) fn records(&self) -> Vec<Record> {
        zone::records(&self.content, self.signed.as_ref())
    }

    pub(crate) fn timers(&self) -> Timers {
        Timers::of(&self.soa)
    }
}
