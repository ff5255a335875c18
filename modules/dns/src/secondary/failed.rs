//! Why a primary is of no use now.
use std::io;

use domain::base::iana::OptRcode;

use crate::{
    secondary::{replica::Unusable, stream::Broken},
    tsig::asker::Untrusted,
};

/// Why, for people: it follows the address of the primary.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("it does not answer: {0}")]
    Silent(io::Error),
    #[error("it answers {rcode}{advice}", rcode = .0, advice = advice(*.0))]
    Refuses(OptRcode),
    #[error("it has no authority over the zone: is it one of its name servers?")]
    Lame,
    #[error("it answers without the SOA record of the zone")]
    NoSoa,
    #[error("{0}")]
    Untrusted(Untrusted),
    #[error("{0}")]
    Broken(#[from] Broken),
    #[error("{0}")]
    Unusable(#[from] Unusable),
    #[error("it has serial number {theirs}, which is older than {ours} here: raise it there")]
    Older { theirs: u32, ours: u32 },
    #[error("the zone could not be taken in: {0}")]
    Fell(String),
}

impl Failed {
    /// Whether time may heal it without a person.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Silent(_) | Self::Refuses(OptRcode::SERVFAIL))
    }

    /// Whether the other kind of transfer may do.
    pub(crate) fn is_of_changes(&self) -> bool {
        match self {
            Self::Refuses(_) | Self::Broken(_) | Self::NoSoa | Self::Unusable(_) => true,
            Self::Silent(error) => error.kind() == io::ErrorKind::InvalidData,
            Self::Lame | Self::Untrusted(_) | Self::Older { .. } | Self::Fell(_) => false,
        }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(untrusted) => Self::Untrusted(*untrusted),
            None => Self::Silent(error),
        }
    }
}

fn advice(rcode: OptRcode) -> &'static str {
    match rcode {
        OptRcode::REFUSED | OptRcode::NOTAUTH => {
            ": let this machine, or the key that it signs with, have the zone there"
        }
        _ => "",
    }
}
