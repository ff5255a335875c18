//! Pure: which ephemeral messages of a document are new.
use std::collections::HashMap;

/// Sessions that are remembered for one document: beyond them the one that was silent longest is forgotten.
const SESSIONS: usize = 1024;

/// The newest message of each session.
#[derive(Default)]
pub(crate) struct Sessions {
    newest: HashMap<(String, String), Seen>,
    messages: u64,
}

#[derive(Clone, Copy)]
struct Seen {
    count: u64,
    at: u64,
}

impl Sessions {
    /// Whether a message is newer than all of its session before it; remembers it if so.
    ///
    /// Clients pass on what they receive, so the same message comes by many ways.
    pub(crate) fn is_new(&mut self, sender: &str, session: &str, count: u64) -> bool {
        self.messages += 1;
        let seen = Seen { count, at: self.messages };
        let key = (sender.to_owned(), session.to_owned());
        if let Some(newest) = self.newest.get_mut(&key) {
            let is_new = count > newest.count;
            if is_new {
                *newest = seen;
            }
            return is_new;
        }
        if self.newest.len() >= SESSIONS {
            // The older half at once, so that it is not searched for each new session.
            let mut times: Vec<u64> = self.newest.values().map(|seen| seen.at).collect();
            let (_, median, _) = times.select_nth_unstable(SESSIONS / 2);
            let median = *median;
            self.newest.retain(|_, seen| seen.at > median);
        }
        self.newest.insert(key, seen);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_newer_in_its_session_is_new() {
        let mut sessions = Sessions::default();
        for (sender, session, count, is_new) in [
            ("alice", "s", 1, true),
            ("alice", "s", 1, false),
            ("alice", "s", 3, true),
            ("alice", "s", 2, false),
            ("alice", "t", 1, true),
            ("bob", "s", 1, true),
        ] {
            assert_eq!(sessions.is_new(sender, session, count), is_new, "{sender} {session} {count}");
        }
    }

    #[test]
    fn sessions_without_end_are_forgotten_oldest_first() {
        let mut sessions = Sessions::default();
        for number in 0..10 * SESSIONS as u64 {
            assert!(sessions.is_new("alice", &number.to_string(), 1));
            sessions.is_new("bob", "lively", number + 1);
            assert!(sessions.newest.len() <= SESSIONS);
        }
        assert!(!sessions.is_new("bob", "lively", 1));
    }
}
