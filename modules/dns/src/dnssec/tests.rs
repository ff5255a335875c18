//! What is signed is what a validator accepts.
mod answers;
mod chain;
mod disk;
mod rolls;
mod signatures;
mod stages;
mod tools;
mod validator;

use std::sync::Arc;

use crate::{
    content::{Content, Record, Set},
    dnssec::{
        key::Key,
        rollover::{Keyset, Served},
        sign::{Signing, sign},
    },
    name::Name,
    rtype::Rtype,
    text,
};

/// The 1st of January 2027.
const NOW: u32 = 1_798_761_600;
const DAY: u32 = 24 * 60 * 60;
const LIFETIME: u32 = 14 * DAY;

const ZONE: &str = r#"
$ORIGIN example.
$TTL 3600
@       SOA   ns1 admin 7 7200 1800 1209600 300
        NS    ns1
        NS    ns2.example.net.
        MX    10 mail
        TXT   "one" "two"
ns1     A     192.0.2.1
        AAAA  2001:db8::1
mail    A     192.0.2.2
        A     192.0.2.3
*.wild  A     192.0.2.4
        MX    20 mail
x.wild  A     192.0.2.5
a.b.ent TXT   "deep"
alias   CNAME mail
away    CNAME www.example.net.
loose   CNAME any.wild
dead    CNAME nobody
old     DNAME new
x.new   A     192.0.2.6
hid.old A     192.0.2.7
signed  NS    ns.signed
        DS    12345 13 2 aa00000000000000000000000000000000000000000000000000000000000000
ns.signed A   192.0.2.8
plain   NS    plain
plain   A     192.0.2.9
odd     TYPE65280 \# 3 010203
https   HTTPS 1 . alpn=h2,h3
"#;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn content() -> Content {
    text::read(ZONE.as_bytes(), None).unwrap()
}

fn key() -> Arc<Key> {
    Arc::new(Key::generate(&[]).unwrap())
}

/// `content` with a new key, prepared but not signed.
fn prepared(mut content: Content) -> (Content, Keyset) {
    let mut keyset = Keyset::new(content.apex().clone());
    let served = Served { ttl: content.longest_ttl(), delay: 60 };
    keyset.roll(key(), served, NOW).unwrap();
    keyset.prepare(&mut content);
    (content, keyset)
}

/// `content` signed with a new key.
fn signed(content: Content) -> Signing {
    let (content, keyset) = prepared(content);
    sign(content, keyset.signing(), LIFETIME, None, NOW).unwrap()
}

fn a(owner: &str, last: u8) -> Record {
    Record { owner: name(owner), rtype: Rtype::A, ttl: 3600, data: [192, 0, 2, last].into() }
}
