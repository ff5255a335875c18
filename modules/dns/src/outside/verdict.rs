//! Pure: what the answers of several servers say together, and when to ask again.
use std::{net::Ipv4Addr, time::Duration};

use crate::interfaces::is_public;

/// How often those who answer are asked: a changed address is everywhere after that and the five minutes of its records.
const CALM: Duration = Duration::from_secs(300);
/// How soon those who do not answer are asked again at first; every time twice as late, until it is as late as [`CALM`].
const SOON: Duration = Duration::from_secs(10);

/// What a round of questions came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All who say a public address say this one.
    Seen(Ipv4Addr),
    /// Nobody answers.
    Silent,
    /// They do not agree, so nobody is believed.
    Differ(Vec<Ipv4Addr>),
    /// Nobody else can come to what they see.
    Private(Ipv4Addr),
}

impl Verdict {
    /// A label.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Seen(_) => "seen",
            Self::Silent => "silent",
            Self::Differ(_) => "differ",
            Self::Private(_) => "private",
        }
    }
}

/// Judges answers, one a server; those who did not answer say nothing.
pub(crate) fn verdict(answers: &[Option<Ipv4Addr>]) -> Verdict {
    let answers = answers.iter().flatten().copied();
    let mut public: Vec<_> = answers.clone().filter(|address| is_public(&(*address).into())).collect();
    public.sort_unstable();
    public.dedup();
    match (&*public, answers.min()) {
        ([address], _) => Verdict::Seen(*address),
        ([], Some(private)) => Verdict::Private(private),
        ([], None) => Verdict::Silent,
        (_, _) => Verdict::Differ(public),
    }
}

/// How long to wait after so many rounds in a row without an address.
pub(crate) fn pause(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => CALM,
        Some(doublings) => SOON.saturating_mul(2_u32.saturating_pow(doublings)).min(CALM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(answers: &[&str]) -> Verdict {
        verdict(&answers.iter().map(|answer| answer.parse().ok()).collect::<Vec<_>>())
    }

    #[test]
    fn an_address_counts_when_it_is_public_and_all_who_answer_agree() {
        let address = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        let (one, other) = ("203.0.112.1", "203.0.112.2");
        assert_eq!(of(&[one, "-"]), Verdict::Seen(address(one)));
        assert_eq!(of(&[one, one, "-"]), Verdict::Seen(address(one)));
        assert_eq!(of(&[one, "10.0.0.1"]), Verdict::Seen(address(one)), "a server beside this machine");
        assert_eq!(of(&[other, one, other]), Verdict::Differ(vec![address(one), address(other)]));
        assert_eq!(of(&["100.64.0.9", "127.0.0.1"]), Verdict::Private(address("100.64.0.9")));
        assert_eq!(of(&["-", "-"]), Verdict::Silent);
        assert_eq!(of(&[]), Verdict::Silent);
    }

    #[test]
    fn who_is_silent_is_asked_again_soon_and_then_less_and_less() {
        assert_eq!([0, 1, 2, 3, 6, u32::MAX].map(pause).map(|pause| pause.as_secs()), [300, 10, 20, 40, 300, 300]);
    }
}
