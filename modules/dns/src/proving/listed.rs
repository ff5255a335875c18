//! Waits until the name servers that a zone lists say what they are to say.
use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use domain::base::iana::OptRcode;
use futures_util::future::join_all;
use tokio::time::sleep;

use crate::{
    ask::ask_either,
    name::Name,
    response::{Question, Response},
    rtype::Rtype,
};

/// The first pause between two questions; each further one is twice as long, up to the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// How long a server is waited for that does not answer at all. Authorities go to another one then, and so do they if this one is
/// away for good: that must not keep certificates from being renewed.
const SILENCE: Duration = Duration::from_secs(10);

/// A name server that a zone lists.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) name: Name,
    /// Where it is; none if that is not known.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// How a server came to be after a wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It says all.
    Says,
    /// It says something else, in words.
    Behind(String),
    /// It does not answer, in words.
    Silent(String),
}

impl Listed {
    /// Waits until it says all of `wanted`, data of TXT records, at each of its addresses.
    pub(crate) async fn until(&self, owner: &Name, wanted: &[Box<[u8]>], patience: Duration) -> Outcome {
        let question = Question { name: owner.clone(), rtype: Rtype::TXT, is_recursive: false };
        let outcomes = join_all(self.addresses.iter().map(async |at| {
            let outcome = until(*at, &question, wanted, patience).await;
            match outcome {
                Outcome::Behind(why) => Outcome::Behind(format!("{at}: {why}")),
                Outcome::Silent(why) => Outcome::Silent(format!("{at}: {why}")),
                Outcome::Says => Outcome::Says,
            }
        }));
        sum(outcomes.await)
    }
}

/// What the addresses of a server make of it together: who is elsewhere may go to any that answers.
fn sum(outcomes: Vec<Outcome>) -> Outcome {
    let mut all = Outcome::Silent("it has no address that is known here".to_owned());
    for outcome in outcomes {
        match (&all, &outcome) {
            (_, Outcome::Behind(_)) => return outcome,
            (Outcome::Silent(_), _) => all = outcome,
            (Outcome::Says | Outcome::Behind(_), _) => {}
        }
    }
    all
}

/// Asks at one address again and again.
async fn until(at: SocketAddr, question: &Question, wanted: &[Box<[u8]>], patience: Duration) -> Outcome {
    let (begun, mut pause, mut behind) = (Instant::now(), FIRST, None);
    loop {
        let error = match ask_either(at, question, None).await {
            Ok(response) => match lacks(&response, &question.name, wanted) {
                None => return Outcome::Says,
                Some(why) => {
                    behind = Some(why);
                    None
                }
            },
            Err(error) => Some(error),
        };
        let is_over = begun.elapsed() + pause >= patience;
        match (behind.as_ref(), error) {
            (Some(why), _) if is_over => return Outcome::Behind(why.clone()),
            (None, Some(error)) if is_over || begun.elapsed() >= SILENCE || has_no_way(&error) => {
                return Outcome::Silent(error.to_string());
            }
            _ => sleep(pause).await,
        }
        pause = (pause * 2).min(LONGEST);
    }
}

/// Whether this machine has no way to such addresses.
fn has_no_way(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable)
}

/// Why an authority that gets this answer would not find what it looks for; none if it would.
fn lacks(response: &Response, owner: &Name, wanted: &[Box<[u8]>]) -> Option<String> {
    let said: Vec<_> = response.data(owner, Rtype::TXT).map(|(data, _)| data).collect();
    match response.rcode {
        OptRcode::NOERROR | OptRcode::NXDOMAIN if !response.is_authoritative => {
            Some("it has no authority over the zone".to_owned())
        }
        OptRcode::NOERROR if wanted.iter().all(|data| said.contains(&&**data)) => None,
        OptRcode::NOERROR if !said.is_empty() => Some("it has other TXT records".to_owned()),
        OptRcode::NOERROR | OptRcode::NXDOMAIN => Some("it has no such TXT record".to_owned()),
        rcode => Some(format!("it answers {rcode}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Record;

    #[test]
    fn an_answer_has_every_text_and_authority() {
        let owner: Name = "_acme-challenge.kube.test".parse().unwrap();
        let text = |text: &[u8]| -> Box<[u8]> { [&[text.len() as u8], text].concat().into() };
        let wanted = [text(b"one"), text(b"two")];
        let response = |texts: &[&[u8]], rcode, is_authoritative| {
            let record = |data: &&[u8]| Record { owner: owner.clone(), rtype: Rtype::TXT, ttl: 60, data: text(data) };
            let (authority, additional) = (Vec::new(), Vec::new());
            let answer = texts.iter().map(record).collect();
            Response { rcode, is_authoritative, is_truncated: false, answer, authority, additional }
        };
        let lacks = |texts: &[&[u8]], rcode, is_authoritative| {
            lacks(&response(texts, rcode, is_authoritative), &owner, &wanted).unwrap_or_default()
        };
        assert_eq!(lacks(&[b"two", b"old", b"one"], OptRcode::NOERROR, true), "");
        assert!(lacks(&[b"one"], OptRcode::NOERROR, true).contains("other TXT records"));
        assert!(lacks(&[], OptRcode::NOERROR, true).contains("no such TXT record"));
        assert!(lacks(&[], OptRcode::NXDOMAIN, true).contains("no such TXT record"));
        assert!(lacks(&[b"one", b"two"], OptRcode::NOERROR, false).contains("no authority"));
        assert!(lacks(&[], OptRcode::REFUSED, false).contains("REFUSED"));
    }

    #[test]
    fn a_server_is_what_the_worst_of_its_addresses_says_unless_that_is_silent() {
        let (behind, silent) = (|| Outcome::Behind("old".to_owned()), || Outcome::Silent("away".to_owned()));
        assert_eq!(sum(vec![Outcome::Says, behind(), silent()]), behind());
        assert_eq!(sum(vec![silent(), Outcome::Says]), Outcome::Says);
        assert_eq!(sum(vec![Outcome::Says, silent()]), Outcome::Says);
        assert_eq!(sum(vec![silent()]), silent());
        assert!(matches!(sum(Vec::new()), Outcome::Silent(_)));
    }
}
