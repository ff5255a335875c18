//! Pure: how much a space may have, and how much one may add in a day.
//!
//! *The quota rule*: a message is judged before its changes are taken. What would be over a quota is left out, and its sender
//! is told which quota, how much of it is used, and what helps; everything else goes on, and what is stored stays. What is
//! under way at the same time may go beyond a quota by as much.
//!
//! What tokens have added today the store remembers, because a restart is no new day. Addresses are not written to the disk.
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytesize::ByteSize;

use crate::{
    config::Config,
    rate::Whose,
    refused::Refused,
    store::{Added, day},
    wire::DocumentId,
};

/// Tallies that are kept; beyond that those of addresses without a connection go, whatever they say.
const MOST: usize = 1 << 16;

/// What one added today, over all its connections.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Today>);

#[derive(Clone, Copy, Debug, Default)]
struct Today {
    day: u64,
    bytes: u64,
}

impl Tally {
    fn add(&self, bytes: u64, now: u64) {
        let mut today = lock(&self.0);
        *today = Today { day: day(now), bytes: today.at(now) + bytes };
    }

    fn at(&self, now: u64) -> u64 {
        lock(&self.0).at(now)
    }
}

impl Today {
    fn at(self, now: u64) -> u64 {
        if self.day == day(now) { self.bytes } else { 0 }
    }
}

/// The tallies of all who are connected, or added something today.
#[derive(Default)]
pub(crate) struct Tallies(Mutex<Book>);

#[derive(Default)]
struct Book {
    all: HashMap<Whose, Arc<Tally>>,
    /// How many there may be before those go that are nobody's and say nothing.
    enough: usize,
}

impl Tallies {
    /// Goes on with what the store remembers of tokens.
    pub(crate) fn new(added: Vec<Added>) -> Self {
        let tally = |Added { token, day, bytes }| (Whose::Token(token), Arc::new(Tally(Today { day, bytes }.into())));
        Self(Mutex::new(Book { all: added.into_iter().map(tally).collect(), enough: 0 }))
    }

    /// The tally that is this one's, whatever connections it has.
    pub(crate) fn of(&self, whose: Whose, now: u64) -> Arc<Tally> {
        let mut book = lock(&self.0);
        if book.all.len() >= book.enough {
            let is_held = |tally: &Arc<Tally>| Arc::strong_count(tally) > 1;
            book.all.retain(|_, tally| is_held(tally) || tally.at(now) > 0);
            if book.all.len() >= MOST {
                book.all.retain(|whose, tally| is_held(tally) || matches!(whose, Whose::Token(_)));
            }
            book.enough = (64 + 2 * book.all.len()).min(MOST).max(64 + book.all.len());
        }
        Arc::clone(book.all.entry(whose).or_default())
    }
}

/// Whose quotas the changes of a connection count towards.
#[derive(Default)]
pub(crate) struct Account {
    space: Arc<str>,
    /// Its token and its address, if they count.
    tallies: Vec<(Whose, Arc<Tally>)>,
}

impl Account {
    /// An account for a space, a token and an address.
    pub(crate) fn new(space: Arc<str>, tallies: Vec<(Whose, Arc<Tally>)>) -> Self {
        Self { space, tallies }
    }

    /// The space.
    pub(crate) fn space(&self) -> &Arc<str> {
        &self.space
    }

    /// Why `len` bytes for a document are not taken now, in milliseconds since 1970, if they are not; `used` says what a space has.
    pub(crate) fn refuses(
        &self,
        config: &Config,
        document: DocumentId,
        len: u64,
        used: impl FnOnce(&str) -> u64,
        now: u64,
    ) -> Option<Refused> {
        let is_over = |quota: ByteSize, used: u64| quota.as_u64() > 0 && used.saturating_add(len) > quota.as_u64();
        let (quota, space) = (config.space_quota, &self.space);
        let used = if quota.as_u64() > 0 { used(space) } else { 0 };
        if is_over(quota, used) {
            let (used, len) = (ByteSize(used), ByteSize(len));
            let text = format!(
                "document {document}: the space {space:?} has {used} of the {quota} that it may have (`space_quota`), and \
                 changes of {len} made here are not taken until there is room. Whoever runs this KUBE makes room by \
                 `kube docs delete`, or raises `space_quota` in [echo]"
            );
            return Some(Refused::new("space_quota", text));
        }
        self.tallies.iter().find_map(|(whose, tally)| {
            let (quota, option, words) = match whose {
                Whose::Token(_) => (config.token_quota, "token_quota", "with this token"),
                Whose::Address(_) => (config.address_quota, "address_quota", "from this address"),
                Whose::Space(_) => return None,
            };
            let added = if quota.as_u64() > 0 { tally.at(now) } else { 0 };
            is_over(quota, added).then(|| {
                let (added, len) = (ByteSize(added), ByteSize(len));
                let text = format!(
                    "document {document}: {words} {added} of the {quota} that may be added in a day came today \
                     (`{option}`), and changes of {len} made here are not taken before 00:00 UTC. Whoever runs this KUBE \
                     can raise `{option}` in [echo]"
                );
                Refused::new(option, text)
            })
        })
    }

    fn add(&self, bytes: u64, now: u64) {
        self.tallies.iter().for_each(|(_, tally)| tally.add(bytes, now));
    }

    /// The token that counts, if one does.
    fn token(&self) -> Option<&Arc<str>> {
        self.tallies.iter().find_map(|(whose, _)| match whose {
            Whose::Token(token) => Some(token),
            Whose::Address(_) | Whose::Space(_) => None,
        })
    }
}

/// Who brought how much of what is to be stored with one write.
#[derive(Default)]
pub(crate) struct Brought(Vec<(Arc<Account>, u64)>);

impl Brought {
    /// Takes note of bytes that came by a connection.
    pub(crate) fn add(&mut self, account: &Arc<Account>, bytes: u64) {
        self.0.push((Arc::clone(account), bytes));
    }

    /// The tokens that came, and how many bytes with each.
    pub(crate) fn tokens(&self) -> Vec<(Arc<str>, u64)> {
        let mut tokens: Vec<(Arc<str>, u64)> = Vec::new();
        for (account, bytes) in &self.0 {
            let Some(token) = account.token() else { continue };
            match tokens.iter_mut().find(|(known, _)| known == token) {
                Some((_, sum)) => *sum += bytes,
                None => tokens.push((Arc::clone(token), *bytes)),
            }
        }
        tokens
    }

    /// Counts it, now that it is stored; what comes next begins anew.
    pub(crate) fn stored(&mut self, now: u64) {
        self.0.drain(..).for_each(|(account, bytes)| account.add(bytes, now));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1000;
    const DOCUMENT: DocumentId = DocumentId([7; 16]);

    fn account(tallies: &Tallies, token: &str, address: u8) -> Account {
        let address = Ipv4Addr::new(10, 0, 0, address).into();
        let whose = [Whose::Token(token.into()), Whose::Address(address)];
        Account::new("team".into(), whose.map(|whose| (whose.clone(), tallies.of(whose, 0))).into())
    }

    fn config(space: u64, token: u64, address: u64) -> Config {
        let [space_quota, token_quota, address_quota] = [space, token, address].map(ByteSize);
        Config { space_quota, token_quota, address_quota, ..Config::default() }
    }

    #[test]
    fn each_quota_is_named_with_what_is_used_of_it_and_zero_is_no_limit() {
        let tallies = Tallies::default();
        let account = account(&tallies, "laptop", 1);
        account.add(900, 0);
        let refusal = |config: &Config, len| account.refuses(config, DOCUMENT, len, |_| 5000, 0);
        assert_eq!(refusal(&config(0, 0, 0), u64::MAX), None);
        for (config, word, used, room) in [
            (config(6000, 0, 0), "space_quota", ByteSize(5000), 1000),
            (config(0, 1000, 0), "token_quota", ByteSize(900), 100),
            (config(0, 0, 1000), "address_quota", ByteSize(900), 100),
        ] {
            assert_eq!(refusal(&config, room), None, "{word}");
            let refused = refusal(&config, room + 1).unwrap();
            assert_eq!(refused.reason, word);
            let named = refused.text.contains(&format!("`{word}`")) && refused.text.contains(&used.to_string());
            assert!(named && refused.text.contains(&DOCUMENT.to_string()), "{}", refused.text);
        }
    }

    #[test]
    fn a_token_counts_from_all_addresses_an_address_for_all_tokens_and_each_day_anew() {
        let tallies = Tallies::new(vec![Added { token: "laptop".into(), day: 0, bytes: 400 }]);
        let (one, other, third) =
            (account(&tallies, "laptop", 1), account(&tallies, "laptop", 2), account(&tallies, "phone", 1));
        one.add(500, 10);
        let config = config(0, 1000, 600);
        let reason = |account: &Account, len, now| {
            account.refuses(&config, DOCUMENT, len, |_| 0, now).map(|refused| refused.reason)
        };
        assert_eq!(reason(&other, 101, 20), Some("token_quota"));
        assert_eq!(reason(&third, 101, 20), Some("address_quota"));
        assert_eq!((reason(&other, 100, 20), reason(&third, 100, 20)), (None, None));
        assert_eq!((reason(&one, 600, DAY), one.token().map(|token| &**token)), (None, Some("laptop")));
        one.add(600, DAY);
        assert_eq!(reason(&other, 401, DAY), Some("token_quota"));
        // What the day before had is gone with it.
        assert_eq!(reason(&other, 600, 3 * DAY), None);
    }

    #[test]
    fn tallies_that_are_nobodys_and_say_nothing_go_and_all_are_bounded() {
        let tallies = Tallies::default();
        let held = account(&tallies, "held", 1);
        let of = |number: u32, now| tallies.of(Whose::Address(Ipv4Addr::from(number).into()), now);
        (1000..3000).for_each(|number| drop(of(number, 0)));
        assert!(tallies.0.lock().unwrap().all.len() < 200);
        (1000..1000 + 2 * MOST as u32).for_each(|number| of(number, 0).add(1, 0));
        let book = tallies.0.lock().unwrap();
        assert!(
            book.all.len() <= MOST + 64 && book.all.contains_key(&Whose::Token("held".into())),
            "{}",
            book.all.len()
        );
        drop((book, held));
    }
}
