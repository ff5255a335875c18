//! Name servers of others that take updates from here: [RFC 2136](https://www.rfc-editor.org/rfc/rfc2136), signed with TSIG.
use std::{io, net::SocketAddr, time::Duration};

use domain::base::iana::OptRcode;
use tokio::time::sleep;

use crate::{
    Error,
    ask::{Over, ask_signed, id, send},
    config::Config,
    content::Set,
    name::Name,
    proving::Unsaid,
    response::{Question, Response},
    rtype::Rtype,
    tsig::{Key, asker::Untrusted},
    update::request,
};

/// The pauses after which an update is sent again that nobody has refused.
const PAUSES: [Duration; 3] = [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(3)];

/// A name server that takes updates signed with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) server: SocketAddr,
    key: Key,
    /// The zone that it has; none if that is to be found.
    pub(crate) zone: Option<Name>,
}

impl Remote {
    /// Those that `config` names.
    ///
    /// # Errors
    /// One of them is to be written to with a key that there is not.
    pub(crate) fn of(config: &Config, keys: &[Key]) -> Result<Vec<Self>, Error> {
        let one = |remote: &crate::config::Remote| {
            let key = keys.iter().find(|key| key.name == remote.key).cloned();
            let none = || Error::NoRemoteKey { server: remote.server.0, key: remote.key.clone() };
            Ok(Self { server: remote.server.0, key: key.ok_or_else(none)?, zone: remote.zone.clone() })
        };
        config.remote.iter().map(one).collect()
    }

    /// Asks it what it has: signed too, because it may tell nobody else.
    ///
    /// # Errors
    /// It does not answer in time, or what it answers cannot be read or believed.
    pub(crate) async fn ask(&self, name: &Name, rtype: Rtype) -> io::Result<Response> {
        let question = Question { name: name.clone(), rtype, is_recursive: false };
        ask_signed(self.server, &question, Over::Tcp, &self.key).await
    }

    /// Puts `set` in place of all TXT records of a name of its zone; an empty one takes them away.
    ///
    /// # Errors
    /// It does not do that, or does not answer, tried a few times.
    pub(crate) async fn replace(&self, zone: &Name, owner: &Name, set: &Set) -> Result<(), Unsaid> {
        let mut pauses = PAUSES.into_iter();
        let reason = loop {
            let sent = self.update(zone, owner, set).await;
            let Some((reason, is_passing)) = reason(zone, owner, &sent) else { return Ok(()) };
            match pauses.next().filter(|_| is_passing) {
                // To do it twice is to do it once.
                Some(pause) => sleep(pause).await,
                None => break reason,
            }
        };
        Err(Unsaid::Remote { server: self.server, key: self.key.name.clone(), reason })
    }

    async fn update(&self, zone: &Name, owner: &Name, set: &Set) -> io::Result<OptRcode> {
        let id = id()?;
        let answer = send(self.server, request::replace(id, zone, owner, set), Some(&self.key)).await?;
        request::read(id, &answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// Why an update was not done, and whether the same may be done a moment later; none if it was.
fn reason(zone: &Name, owner: &Name, sent: &io::Result<OptRcode>) -> Option<(String, bool)> {
    let error = match sent {
        Ok(OptRcode::NOERROR) => return None,
        Ok(rcode @ OptRcode::SERVFAIL) => return Some((format!("it answers {rcode}"), true)),
        Ok(rcode @ OptRcode::REFUSED) => {
            let advice = "let the key do that there (`update-policy` of BIND, `acl` of Knot)";
            return Some((format!("it does not let it change TXT records of {owner} ({rcode}): {advice}"), false));
        }
        Ok(rcode @ OptRcode::NOTAUTH) => {
            return Some((format!("it is not the primary server of {zone} ({rcode})"), false));
        }
        Ok(rcode) => return Some((format!("it answers {rcode} to an update of {owner}"), false)),
        Err(error) => error,
    };
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Untrusted>()) {
        Some(untrusted) => Some((untrusted.to_string(), false)),
        None => Some((format!("it does not answer over TCP ({error})"), true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_can_change_is_said_and_only_what_may_pass_is_tried_again() {
        let (zone, owner) = ("example.test".parse().unwrap(), "_acme-challenge.example.test".parse().unwrap());
        let of = |sent: io::Result<OptRcode>| reason(&zone, &owner, &sent);
        assert_eq!(of(Ok(OptRcode::NOERROR)), None);
        for (sent, says, is_passing) in [
            (Ok(OptRcode::REFUSED), "change TXT records of _acme-challenge.example.test. (REFUSED)", false),
            (Ok(OptRcode::NOTAUTH), "not the primary server of example.test.", false),
            (Ok(OptRcode::FORMERR), "FORMERR", false),
            (Ok(OptRcode::SERVFAIL), "SERVFAIL", true),
            (Err(io::ErrorKind::ConnectionRefused.into()), "does not answer over TCP", true),
            (Err(io::Error::other(Untrusted::OtherSecret)), "another secret by the name of the key", false),
        ] {
            let (said, passing) = of(sent).unwrap();
            assert!(said.contains(says) && passing == is_passing, "{said}");
        }
    }
}
