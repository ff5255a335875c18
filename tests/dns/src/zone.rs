//! Pure: a zone with everything that a zone may have, drawn from a seed; and a small one below it.
use std::fmt::{Display, Write as _};

use kube_peer::dice::Dice;

use crate::name::Name;

/// The name of the large zone.
pub const APEX: &str = "bed.example";
/// The name of the small one, which the large one delegates.
pub const CHILD: &str = "child.bed.example";
/// The time for which others may remember that something is not there, as the SOA record of both says.
const MINIMUM: u32 = 900;

/// A zone: its text, and what one may ask about.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Its name.
    pub apex: Name,
    /// The zone file.
    pub text: String,
    /// All names with records, in the order in which they were written.
    pub owners: Vec<Name>,
    /// Names right above a wildcard.
    pub wildcards: Vec<Name>,
    /// Names where another zone begins.
    pub cuts: Vec<Name>,
    /// Names whose descendants are elsewhere: DNAME.
    pub moved: Vec<Name>,
    /// Names with an alias, or with one at the wildcard.
    pub aliases: Vec<Name>,
    /// Names with an answer near or above what fits into a datagram.
    pub large: Vec<Name>,
}

impl Zone {
    fn new(apex: &str) -> Self {
        let none = Vec::new;
        let mut zone = Self {
            apex: Name::of(apex),
            text: String::new(),
            owners: none(),
            wildcards: none(),
            cuts: none(),
            moved: none(),
            aliases: none(),
            large: none(),
        };
        let soa = format!("ns1.{APEX}. hostmaster.{APEX}. 2026010100 7200 3600 1209600 {MINIMUM}");
        zone.add("", 3600, "SOA", soa);
        zone
    }

    /// Draws the large zone, of about so many names.
    pub fn generate(dice: &mut Dice, names: usize) -> Self {
        let mut zone = Self::new(APEX);
        for number in 1..=3 {
            zone.add("", 86400, "NS", format!("ns{number}.{APEX}."));
            zone.add(&format!("ns{number}"), 86400, "A", format!("192.0.2.{number}"));
            zone.add(&format!("ns{number}"), 86400, "AAAA", format!("2001:db8::{number}"));
        }
        zone.add("", 0, "A", "192.0.2.80");
        zone.add("", 300, "CAA", "0 issue \"ca.example; accounturi=https://ca.example/1\"");
        zone.add("", 300, "CAA", "128 iodef \"mailto:security@example\"");
        zone.add("", 300, "HTTPS", "1 . alpn=h2,h3 port=8443 ipv4hint=192.0.2.80 ipv6hint=2001:db8::80");
        zone.add("", 300, "MX", format!("10 Mail.{APEX}."));
        zone.add("", 300, "TXT", "\"v=spf1 -all\" \"\"");
        zone.kinds();
        zone.wildcards(dice);
        zone.delegations();
        zone.aliases();
        zone.moves();
        zone.sizes();
        zone.odd();
        zone.hosts(dice, names);
        zone
    }

    /// The small zone, with a wildcard at its apex.
    pub fn child() -> Self {
        let mut zone = Self::new(CHILD);
        zone.add("", 3600, "NS", format!("ns1.{CHILD}."));
        zone.add("ns1", 3600, "A", "192.0.2.21");
        zone.add_wildcard("", 60, "A", "192.0.2.22");
        zone.add_wildcard("", 60, "TXT", "any");
        zone.add("a.b.c", 60, "A", "192.0.2.23");
        zone.add_alias("up", 60, "CNAME", format!("host1.{APEX}."));
        zone
    }

    /// The name of `text` in this zone.
    fn name(&self, text: &str) -> Name {
        Name::of(text).below(&self.apex)
    }

    fn add(&mut self, owner: &str, ttl: u32, rtype: &str, data: impl Display) {
        self.put(self.name(owner), ttl, rtype, data);
    }

    fn put(&mut self, owner: Name, ttl: u32, rtype: &str, data: impl Display) {
        debug_assert!(owner.is_valid(), "{owner}");
        writeln!(self.text, "{owner} {ttl} IN {rtype} {data}").ok();
        if self.owners.last() != Some(&owner) {
            self.owners.push(owner);
        }
    }

    /// Adds a record to the wildcard below `parent`.
    fn add_wildcard(&mut self, parent: &str, ttl: u32, rtype: &str, data: impl Display) {
        self.add(&format!("*.{parent}"), ttl, rtype, data);
        let parent = self.name(parent);
        if self.wildcards.last() != Some(&parent) {
            self.wildcards.push(parent);
        }
    }

    fn add_alias(&mut self, owner: &str, ttl: u32, rtype: &str, data: impl Display) {
        self.add(owner, ttl, rtype, data);
        self.aliases.push(self.name(owner));
    }

    /// One name of every kind of record.
    fn kinds(&mut self) {
        self.add("Mail", 3600, "A", "192.0.2.25");
        self.add("mail", 3600, "TLSA", "3 1 1 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
        self.add("www", 60, "HTTPS", "1 . alpn=h2,h3 ech=AAAA ipv4hint=192.0.2.1,192.0.2.2");
        self.add("www", 60, "HTTPS", format!("2 Svc.{APEX}. port=8443 mandatory=port"));
        self.add("www", 60, "A", "192.0.2.81");
        self.add("alias-form", 60, "HTTPS", format!("0 WWW.{APEX}."));
        self.add("_dns.svc", 60, "SVCB", "1 dns.elsewhere.example. alpn=dot port=853 key65333=abc");
        self.add("_sip._tcp", 60, "SRV", format!("10 60 5060 Host1.{APEX}."));
        self.add("_sip._tcp", 60, "SRV", "20 0 5060 sip.elsewhere.example.");
        self.add("_none._udp", 60, "SRV", "0 0 0 .");
        self.add("nomail", 60, "MX", "0 .");
        self.add("mixed", 60, "MX", format!("10 MAIL.{}.", APEX.to_ascii_uppercase()));
        self.add("mixed", 60, "MX", "20 Mail.Elsewhere.Example.");
        self.add("rev", 60, "PTR", format!("Host1.{APEX}."));
        self.add("naptr", 60, "NAPTR", "100 10 \"u\" \"E2U+sip\" \"!^.*$!sip:info@example!\" .");
        self.add("loc", 60, "LOC", "\\# 16 00001610 8b3b2a18 810c5d30 009895b8");
        self.add("loc", 60, "LOC", "42 21 54 N 71 06 18.5 W -24m 30m");
        self.add("loc", 60, "LOC", "0 S 180 E 8848.86m 90000000m 0.05m 12.34m");
        self.add("cell", 60, "AFSDB", format!("1 afs.{APEX}."));
        self.add("relay", 60, "RT", format!("10 host1.{APEX}."));
        self.add("exchange", 60, "KX", "0 kx.elsewhere.example.");
        self.add("cert", 60, "CERT", "PGP 0 RSASHA256 mQENBF8=");
        self.add("cert", 60, "CERT", "65280 65535 0 ( AAEC\n  AwQF ) ; in two words");
        self.add("lease", 60, "DHCID", "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=");
        self.add("smime", 60, "SMIMEA", "3 1 1 9f86d081884c7d659a2feaa0c55ad015 a3bf4f1b2b0b822cd15d6c15b0f00a08");
        self.add("sender", 60, "SPF", "\"v=spf1 \\\"-all\\\"\" \\195\\169");
        self.add("card", 60, "EUI48", "00-00-5e-00-53-2a");
        self.add("card", 60, "EUI64", "00-00-5E-EF-10-00-00-2A");
        self.add("key", 60, "SSHFP", "4 2 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
        self.add("info", 60, "HINFO", "\"RISC\" \"OS\"");
        self.add("person", 60, "RP", format!("Admin.{APEX}. txt.{APEX}."));
        self.add("uri", 60, "URI", "\\# 20 000a0001 68747470733a2f2f6578616d706c652f");
        self.add("uri", 60, "URI", "10 2 \"https://example/?a=\\\"b;(c)\\\"\"");
        self.add("unknown", 60, "TYPE65280", "\\# 4 C0000201");
        self.add("unknown", 60, "TYPE65281", "\\# 0");
        self.add("unknown", 60, "A", "192.0.2.82");
        self.add("longest-ttl", 2_147_483_647, "A", "192.0.2.83");
    }

    fn wildcards(&mut self, dice: &mut Dice) {
        for number in 0..20 {
            let parent = format!("wild{number}");
            self.add_wildcard(&parent, 60, "A", format!("198.51.100.{number}"));
            self.add_wildcard(&parent, 120, "MX", format!("10 Mail.{APEX}."));
            self.add_wildcard(&format!("a.b.{parent}"), 60, "TXT", format!("\"{number}\""));
            // What is there keeps the wildcard off, even if it is empty: RFC 4592, section 4.2.
            self.add(&format!("x.y.there.{parent}"), 60, "A", "198.51.100.99");
            if dice.one_in(2) {
                self.add(&parent, 60, "A", "198.51.100.100");
            }
        }
        // As in RFC 4592, section 2.2.1.
        self.add_wildcard("rfc", 3600, "TXT", "\"this is a wildcard\"");
        self.add_wildcard("rfc", 3600, "MX", "10 host1.elsewhere.example.");
        self.add("sub.*.rfc", 3600, "TXT", "\"this is not a wildcard\"");
        self.add("host1.rfc", 3600, "A", "192.0.2.1");
        self.add("_ssh._tcp.host1.rfc", 3600, "SRV", "0 0 22 host1.elsewhere.example.");
        self.add("subdel.rfc", 3600, "NS", "ns.elsewhere.example.");
        self.cuts.push(self.name("subdel.rfc"));
        // Asterisks where they mean nothing, twice, and at a cut: RFC 4592, section 4.2 leaves that one undefined, so it has none.
        self.add_wildcard("*.twice", 60, "A", "198.51.100.101");
        self.add("star*.label", 60, "A", "198.51.100.102");
        for (parent, target) in [
            ("to-host", format!("host1.{APEX}.")),
            ("to-nowhere", format!("nowhere.{APEX}.")),
            ("to-outside", "www.elsewhere.example.".to_owned()),
            ("to-wild", format!("made-up.wild3.{APEX}.")),
            ("to-itself", format!("made-up.to-itself.{APEX}.")),
            ("to-cut", format!("www.in-zone0.{APEX}.")),
            ("to-moved", format!("host1.moved.{APEX}.")),
        ] {
            self.add_wildcard(parent, 60, "CNAME", target);
            self.aliases.push(self.name(&format!("any.{parent}")));
        }
    }

    fn cut(&mut self, name: &str, servers: &[&str]) {
        for server in servers {
            self.add(name, 3600, "NS", server);
        }
        self.cuts.push(self.name(name));
    }

    fn delegations(&mut self) {
        for number in 0..12 {
            // Servers inside the delegated zone, inside the next one, in this zone, and outside.
            let name = format!("in-zone{number}");
            self.cut(&name, &[&format!("ns1.{name}.{APEX}."), &format!("NS2.{name}.{APEX}.")]);
            self.add(&format!("ns1.{name}"), 3600, "A", format!("203.0.113.{number}"));
            self.add(&format!("ns1.{name}"), 3600, "AAAA", format!("2001:db8:1::{number}"));
            self.add(&format!("ns2.{name}"), 1800, "A", format!("203.0.113.{}", number + 100));
            // What is below a cut is not of this zone.
            self.add(&format!("hidden.{name}"), 60, "A", "203.0.113.250");
            self.add(&format!("*.{name}"), 60, "A", "203.0.113.251");
            let sibling = format!("ns1.in-zone{}.{APEX}.", (number + 1) % 12);
            self.cut(&format!("sibling{number}"), &[&sibling]);
            self.cut(&format!("by-us{number}"), &[&format!("ns1.{APEX}."), "ns.elsewhere.example."]);
            self.cut(&format!("outside{number}"), &["ns1.elsewhere.example.", "ns2.elsewhere.example."]);
            self.cut(&format!("deep.er.cut{number}"), &["ns1.elsewhere.example."]);
        }
        self.cut("secure", &["ns1.elsewhere.example."]);
        let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        self.add("secure", 7200, "DS", format!("12345 13 2 {digest}"));
        // More addresses than fit.
        let servers: Vec<_> = (0..13).map(|number| format!("server-{number}.crowd.{APEX}.")).collect();
        self.cut("crowd", &servers.iter().map(String::as_str).collect::<Vec<_>>());
        for number in 0..13 {
            for last in 0..3 {
                self.add(&format!("server-{number}.crowd"), 3600, "AAAA", format!("2001:db8:2:{number}::{last}"));
                self.add(&format!("server-{number}.crowd"), 3600, "A", format!("203.0.{number}.{last}"));
            }
        }
        let child = CHILD.strip_suffix(APEX).unwrap_or_default().trim_end_matches('.').to_owned();
        self.cut(&child, &[&format!("ns1.{CHILD}.")]);
        self.add(&child, 7200, "DS", format!("54321 13 2 {digest}"));
        self.add(&format!("ns1.{child}"), 3600, "A", "192.0.2.21");
    }

    fn aliases(&mut self) {
        self.add("host1", 300, "A", "192.0.2.101");
        self.add("host1", 300, "AAAA", "2001:db8::101");
        for (name, target) in [
            ("alias", format!("HOST1.{APEX}.")),
            ("to-apex", format!("{APEX}.")),
            ("to-missing", format!("missing.{APEX}.")),
            ("to-empty", format!("y.there.wild0.{APEX}.")),
            ("to-elsewhere", "www.Elsewhere.Example.".to_owned()),
            ("to-wildcard", format!("made.up.wild1.{APEX}.")),
            ("to-wild-alias", format!("made-up.to-host.{APEX}.")),
            ("to-child", format!("any.{CHILD}.")),
            ("to-cut", format!("in-zone1.{APEX}.")),
            ("to-below-cut", format!("www.sibling1.{APEX}.")),
            ("to-renamed", format!("host1.moved.{APEX}.")),
            ("to-large", format!("large.{APEX}.")),
            ("to-root", ".".to_owned()),
            ("circle", format!("circle.{APEX}.")),
            ("circle1", format!("circle2.{APEX}.")),
            ("circle2", format!("Circle1.{APEX}.")),
            ("into-circle", format!("circle1.{APEX}.")),
        ] {
            self.add_alias(name, 60, "CNAME", target);
        }
        for length in [2, 3, 5, 8, 12] {
            for link in 1..=length {
                let target =
                    if link == length { "host1".to_owned() } else { format!("link{}.chain{length}", link + 1) };
                self.add_alias(&format!("link{link}.chain{length}"), 60, "CNAME", format!("{target}.{APEX}."));
            }
        }
        // More links than anyone follows.
        for link in 0..40 {
            self.add(&format!("link{link}.endless"), 60, "CNAME", format!("link{}.endless.{APEX}.", link + 1));
        }
        self.aliases.push(self.name("link0.endless"));
        self.aliases.push(self.name("link20.endless"));
    }

    fn moves(&mut self) {
        let long = format!("{}.{}.{}", "l".repeat(63), "o".repeat(63), "n".repeat(60));
        for (name, target) in [
            ("moved", format!("{APEX}.")),
            ("moved-out", "elsewhere.example.".to_owned()),
            ("moved-twice", format!("moved.{APEX}.")),
            ("moved-wild", format!("wild2.{APEX}.")),
            ("moved-cut", format!("outside1.{APEX}.")),
            ("moved-missing", format!("missing.{APEX}.")),
            ("moved-child", format!("{CHILD}.")),
            ("moved-long", format!("{long}.{APEX}.")),
            ("moved-root", ".".to_owned()),
            ("moved-around", format!("moved-back.{APEX}.")),
            ("moved-back", format!("moved-around.{APEX}.")),
            ("moved-down", format!("a.moved-down.{APEX}.")),
        ] {
            self.add(name, 120, "DNAME", target);
            self.moved.push(self.name(name));
        }
        self.add("moved", 60, "A", "192.0.2.150");
        self.add("moved", 60, "TXT", "\"moved itself is here\"");
    }

    /// RRsets around what fits into 512 octets, 1232, and any datagram.
    fn sizes(&mut self) {
        for count in (26..=30).chain(70..=76) {
            let name = format!("a{count}");
            for number in 0..count {
                self.add(&name, 60, "A", format!("10.0.{count}.{number}"));
            }
            self.large.push(self.name(&name));
        }
        // One record, larger by one octet each: 12 for the header, 6 and the name for the question, 12 for the record.
        for (fits, room) in [(512, 24), (1232, 24)] {
            for over in 0..room {
                let name = format!("t{}", fits + over);
                let around = 12 + self.name(&name).wire().len() + 4 + 12;
                // With an OPT record of 11 octets the edge is at another name: both edges are within the room.
                let mut rest = fits + over - 12 - around;
                let mut strings = Vec::new();
                while rest > 0 {
                    let length = (rest - 1).min(255);
                    strings.push(format!("\"{}\"", "t".repeat(length)));
                    rest -= length + 1;
                }
                self.add(&name, 60, "TXT", strings.join(" "));
                self.large.push(self.name(&name));
            }
        }
        for number in 0..17 {
            self.add("large", 60, "TXT", format!("\"{number}\" \"{}\"", "large ".repeat(41)));
        }
        self.large.push(self.name("large"));
        for number in 0..6 {
            self.add_wildcard("wide", 60, "TXT", format!("\"{number}{}\"", "w".repeat(240)));
        }
        self.large.push(self.name("some.wide"));
    }

    /// Names that few think of.
    fn odd(&mut self) {
        for label in [
            &b"with.dot"[..],
            b"with space",
            b"\x00\x01\xff",
            b"quo\"te",
            b"back\\slash",
            b"@",
            b"semi;colon",
            b"$dollar",
        ] {
            self.put(Name::from_labels(vec![label.to_vec()]).below(&self.apex.clone()), 60, "A", "192.0.2.160");
        }
        let (label, apex) = ("x".repeat(63), self.apex.wire().len());
        // With room for a wildcard below it: NSD 4.6 falls over a signed zone otherwise.
        let last = "y".repeat(253 - apex - 3 * 64 - 1);
        self.add(&format!("{last}.{label}.{label}.{label}"), 60, "A", "192.0.2.161");
        let single = ["z"; 110].join(".");
        self.add(&single, 60, "A", "192.0.2.162");
        self.add(&"q".repeat(63), 60, "TXT", format!("\"{}\"", "q".repeat(255)));
    }

    /// Fills up with hosts, shallow and deep, some written in mixed case.
    fn hosts(&mut self, dice: &mut Dice, names: usize) {
        let mut number = 2;
        while self.owners.len() < names {
            let depth = if dice.one_in(4) { dice.between(2, 9) } else { 1 };
            let mut labels = vec![format!("host{number}")];
            // Few different ones, so that many names share an empty non-terminal.
            labels.extend((1..depth).map(|_| format!("level{}", dice.roll(4))));
            let mut owner = self.name(&labels.join("."));
            if dice.one_in(3) {
                owner = owner.mixed(dice);
            }
            let ttl = *dice.choose(&[0, 60, 300, 3600, 86400]);
            for last in 0..=dice.roll(3) {
                self.put(owner.clone(), ttl, "A", format!("10.{}.{}.{last}", number >> 8, number & 255));
            }
            if dice.one_in(2) {
                self.put(owner.clone(), ttl, "AAAA", format!("2001:db8:3::{number:x}"));
            }
            match dice.roll(8) {
                0 => self.put(owner, 300, "TXT", format!("\"host {number}\"")),
                1 => self.put(owner, 300, "MX", format!("10 Mail.{APEX}.")),
                2 => {
                    self.put(owner, 300, "HTTPS", format!("1 . alpn=h2 ipv4hint=10.{}.{}.0", number >> 8, number & 255))
                }
                3 => self.put(owner, 300, "CAA", "0 issue \";\""),
                _ => {}
            }
            number += 1;
        }
    }
}
