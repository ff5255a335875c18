//! Pure: zones as people write them: [RFC 1035, section 5](https://www.rfc-editor.org/rfc/rfc1035#section-5), without `$INCLUDE`.
mod kinds;
mod loc;
mod words;

use std::fmt::Write;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use domain::{
    base::{
        Name as TextName, ParseRecordData, ToName,
        iana::{self, Class},
        rdata::ComposeRecordData,
        zonefile_fmt::{DisplayKind, ZonefileFmt},
    },
    dep::octseq::Parser,
    rdata::ZoneRecordData,
    zonefile::inplace::{Entry, Zonefile},
};
use time::OffsetDateTime;

use crate::{
    content::{Content, Record, Unfit},
    name::Name,
    rtype::Rtype,
    zone::{self, Signed},
};

/// Why a text is not a zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// A line that cannot be read.
    #[error("line {0}")]
    Line(String),
    /// It asks for another file.
    #[error("$INCLUDE is not supported: put the records of {0} into this file")]
    Include(String),
    /// Records of another class.
    #[error("{0}: only class IN is served")]
    Class(Name),
    /// Without it nobody knows what the zone is called.
    #[error("there is no SOA record")]
    NoSoa,
    /// A record of the config cannot be read.
    #[error("{name} {rtype}: {wrong}")]
    Entry {
        /// Its name.
        name: String,
        /// Its type.
        rtype: String,
        /// What is wrong with it.
        wrong: Box<Self>,
    },
    /// The records are no zone.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unfit(Vec<Unfit>),
}

/// Reads a zone; relative names are below `origin` until the text says another.
///
/// # Errors
/// What is wrong with the text, with its line where it has one.
pub(crate) fn read(text: &[u8], origin: Option<&Name>) -> Result<Content, Wrong> {
    let records = records(text, origin)?;
    let soa = records.iter().find(|record| record.rtype == Rtype::SOA).ok_or(Wrong::NoSoa)?;
    let mut content = Content::new(soa.owner.clone());
    records.into_iter().for_each(|record| content.add(record));
    let problems = content.problems();
    if problems.is_empty() { Ok(content) } else { Err(Wrong::Unfit(problems)) }
}

/// Reads records; relative names are below `origin` until the text says another.
pub(crate) fn records(text: &[u8], origin: Option<&Name>) -> Result<Vec<Record>, Wrong> {
    // The parser does not look whether it is at the end.
    if let Some(line) = left_open(text) {
        return Err(Wrong::Line(format!("{line}: a parenthesis or a quotation mark is opened here and not closed")));
    }
    let text = words::understood(text, origin)?;
    let mut file = Zonefile::from(&*text);
    // The last line may lack its end.
    file.extend_from_slice(b"\n");
    file.set_default_class(Class::IN);
    if let Some(origin) = origin {
        let octets = Bytes::copy_from_slice(origin.wire());
        file.set_origin(TextName::from_octets(octets).expect("a name"));
    }
    let mut records = Vec::new();
    while let Some(entry) = file.next_entry().map_err(|error| Wrong::Line(located(&error.to_string())))? {
        let record = match entry {
            Entry::Record(record) => record,
            Entry::Include { path, .. } => return Err(Wrong::Include(path.to_string())),
        };
        let owner = Name::read(record.owner().to_vec().as_slice()).expect("a name");
        if record.class() != Class::IN {
            return Err(Wrong::Class(owner));
        }
        let mut data = Vec::new();
        let Ok(()) = record.data().compose_canonical_rdata(&mut data);
        let rtype = Rtype(record.rtype().to_int());
        records.push(Record { owner, rtype, ttl: record.ttl().as_secs(), data: data.into() });
    }
    Ok(records)
}

/// The line of a parenthesis or quotation mark that is not closed.
fn left_open(text: &[u8]) -> Option<usize> {
    let (mut line, mut quoted, mut opened) = (1, None, Vec::new());
    let mut octets = text.iter();
    while let Some(octet) = octets.next() {
        match (octet, quoted) {
            (b'\n', _) => line += 1,
            (b'\\', _) => line += usize::from(octets.next() == Some(&b'\n')),
            (b'"', None) => quoted = Some(line),
            (b'"', Some(_)) => quoted = None,
            (_, Some(_)) => {}
            (b';', None) => line += usize::from(octets.any(|octet| *octet == b'\n')),
            (b'(', None) => opened.push(line),
            (b')', None) => drop(opened.pop()),
            (_, None) => {}
        }
    }
    quoted.or(opened.pop())
}

/// A message of the parser, which begins with line and column of where it has read to, with the line that it is about.
fn located(message: &str) -> String {
    let read = || {
        let (line, rest) = message.split_once(':')?;
        let (column, reason) = rest.split_once(": ")?;
        // The last word of a line ends where the next line begins.
        let line = line.parse::<usize>().ok()? - usize::from(column == "1");
        // Types that the parser does not know, NSAP say, can be written all the same.
        let hint = match reason.contains("unknown record type") {
            true => r": write it as RFC 3597 has it, `TYPE22 \# <octets> <hexadecimal>`",
            false => "",
        };
        Some(format!("{line}: {reason}{hint}"))
    };
    read().unwrap_or_else(|| message.to_owned())
}

/// Writes a zone, with what signing adds to it, as [`read`] and other servers read it: one record a line, all names whole.
pub(crate) fn write(content: &Content, signed: Option<&Signed>) -> String {
    let mut out = String::new();
    for Record { owner, rtype, ttl, data } in zone::records(content, signed) {
        let data = presented(rtype, &data).unwrap_or_else(|| generic(&data));
        let Ok(()) = writeln!(out, "{owner} {ttl} IN {rtype} {data}") else {
            unreachable!("a string takes everything")
        };
    }
    out
}

/// Record data as its type has it in text; none if it would not be read as the same.
fn presented(rtype: Rtype, data: &[u8]) -> Option<String> {
    let mut text = match kinds::write(rtype, data) {
        Some(text) => text,
        None => {
            let rtype = iana::Rtype::from_int(rtype.0);
            let read = ZoneRecordData::parse_rdata(rtype, &mut Parser::from_ref(data)).ok()??;
            read.display_zonefile(DisplayKind::Simple).to_string()
        }
    };
    if rtype == Rtype::RRSIG {
        text = dated(&text)?;
    }
    let again = records(format!(". 0 {rtype} {text}").as_bytes(), None).ok()?;
    matches!(&*again, [record] if *record.data == *data).then_some(text)
}

/// The text of an RRSIG record with dates in place of seconds, which NSD does not read:
/// [RFC 4034, section 3.2](https://www.rfc-editor.org/rfc/rfc4034#section-3.2).
fn dated(text: &str) -> Option<String> {
    let mut words: Vec<String> = text.split(' ').map(ToOwned::to_owned).collect();
    for seconds in words.get_mut(4..6)? {
        let at = OffsetDateTime::from_unix_timestamp(seconds.parse().ok()?).ok()?;
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second) = at.to_hms();
        *seconds = format!("{year}{:02}{day:02}{hour:02}{minute:02}{second:02}", u8::from(month));
    }
    Some(words.join(" "))
}

/// Record data of any type: [RFC 3597, section 5](https://www.rfc-editor.org/rfc/rfc3597#section-5).
fn generic(data: &[u8]) -> String {
    format!("\\# {} {}", data.len(), HEXLOWER.encode(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let zone = "$ORIGIN kube.test.\n@ 60 SOA ns ops 1 1 1 1 1\n@ 60 NS ns\n";
        for (line, message) in [
            ("a 60 A 192.0.2.300", "line 4: expected IPv4 address"),
            ("a 60 A 192.0.2.300\nb 60 A 192.0.2.1", "line 4: expected IPv4 address"),
            ("a 60 TXT (\n\"b ; c\" ; )\n", "line 4: a parenthesis or a quotation mark is opened here"),
            ("a 60 TXT \"b\nc", "line 4: a parenthesis or a quotation mark is opened here"),
            ("$INCLUDE other.zone", "$INCLUDE is not supported: put the records of other.zone into this file"),
            ("a 60 CH A 192.0.2.1", "line 4: "),
            ("a 60 NSAP 0x47.0005.80.005a00", "line 4: "),
            (
                "a 60 LOC 1 N 1 E",
                "line 4: the altitude is missing, like \"-24m\"; LOC is like `52 22 23 N 4 53 32 E -2m`",
            ),
            ("a 60 TXT (\n\n)\nb 60 AFSDB 1 b\nb 60 URI 1 1 \"a", "line 8: a parenthesis or a quotation mark"),
            ("a 60 TXT ( a\n\n)\nb 60 AFSDB 1", "line 7: too short; AFSDB is like"),
            ("a.example. 60 A 192.0.2.1", "a.example. A: the name is not in the zone kube.test."),
            ("a 60 CNAME b\na 60 A 192.0.2.1", "a.kube.test.: a name with a CNAME has no other records"),
        ] {
            let wrong = read(format!("{zone}{line}").as_bytes(), None).unwrap_err().to_string();
            assert!(wrong.starts_with(message), "{line}: {wrong}");
        }
        let wrong = read(format!("{zone}a 60 NSAP 0x47").as_bytes(), None).unwrap_err().to_string();
        assert!(wrong.contains(r"`TYPE22 \# <octets> <hexadecimal>`"), "{wrong}");
        assert_eq!(read(b"", None), Err(Wrong::NoSoa));
    }

    #[test]
    fn types_that_the_parser_does_not_know_are_written_as_they_are_read() {
        const RECORDS: [&str; 12] = [
            r"AFSDB 1 afs.kube.test.",
            r"CERT 3 0 0 mQENBF8=",
            r"DHCID AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=",
            r"EUI48 00-00-5e-00-53-2a",
            r"EUI64 00-00-5e-ef-10-00-00-2a",
            r"KX 10 kx.kube.test.",
            r"LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000.00m 10.00m",
            r"RT 10 relay.kube.test.",
            r"SMIMEA 3 1 1 d2abde240d7cd3ee",
            "SPF \"v=spf1 \\\"-all\\\"\" \"\\195\\169\"",
            "URI 10 1 \"https://kube.test/?a=\\\\;\"",
            // Nothing that words could say.
            r"LOC \# 2 01 00",
        ];
        let zone = "kube.test. 60 IN SOA ns.kube.test. ops.kube.test. 1 1 1 1 1\nkube.test. 60 IN NS ns.kube.test.\n";
        let text = RECORDS.iter().fold(zone.to_owned(), |text, record| text + "a.kube.test. 60 IN " + record + "\n");
        let content = read(text.as_bytes(), None).unwrap();
        let written = write(&content, None);
        for record in RECORDS {
            assert!(written.contains(&format!("a.kube.test. 60 IN {record}\n")), "{record}: {written}");
        }
        assert_eq!(read(written.as_bytes(), None), Ok(content));
    }

    proptest::proptest! {
        #[test]
        fn any_data_is_read_as_it_was_written(rtype: u8, data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)) {
            let owner: Name = "kube.test.".parse().unwrap();
            let rtype = Rtype(if rtype == 0 { 256 } else { rtype.into() });
            let data = data.into_boxed_slice();
            if let Some(text) = presented(rtype, &data) {
                let again = records(format!("kube.test. 0 IN {rtype} {text}").as_bytes(), None);
                proptest::prop_assert_eq!(again, Ok(vec![Record { owner, rtype, ttl: 0, data }]));
            }
        }
    }
}
