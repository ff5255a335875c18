//! The name server from outside: beside NSD, asked by dig and kdig, and treated badly.
use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    process::Command,
};

use kube_dns_compare::{
    asking::Asker,
    compare::Pair,
    message::Message,
    name::Name,
    question::Question,
    rtype::Rtype,
    servers::{self, Files},
    zone::{APEX, Zone},
};
use kube_peer::dice::Dice;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::{
    journal::{PATIENCE, eventually},
    kube::{Home, Kube, LISTEN, Ran},
};

/// What zones, questions and junk are drawn from.
const SEED: u64 = 6;

/// A home with the zone that has everything, and the one below it.
fn home(zones: &[&Zone], options: &str) -> (Home, Files) {
    let home = Home::new();
    let files = Files::write(zones, &home.path("")).unwrap();
    let paths: Vec<_> = files.zones.iter().map(|(_, path)| path).collect();
    let config = fs::read_to_string(home.config()).unwrap();
    home.configure(&format!("{config}\n[dns]\nlisten = [\"127.0.0.1:0\"]\nzones = {paths:?}\n{options}\n"));
    (home, files)
}

/// The zone that has everything, with few names more.
fn zone() -> Zone {
    Zone::generate(&mut Dice::new(SEED), 500)
}

fn address(kube: &Kube<'_>) -> SocketAddr {
    kube.address("dns", "dns")
}

fn question(name: &str, rtype: Rtype) -> Question {
    let name = Name::of(name);
    Question { id: 1, name, rtype, edns: None, wants_dnssec: false, wants_recursion: false, over_tcp: false }
}

/// A question with a known answer.
fn host() -> Question {
    question(&format!("Host1.{APEX}"), Rtype::A)
}

/// Asks what has a known answer, over UDP and TCP.
fn is_served(asker: &mut Asker) {
    for question in [host(), host().over_tcp()] {
        let answer = asker.ask(&question).unwrap();
        assert!(answer.rcode == 0 && answer.answer.len() == 1, "{answer}");
    }
}

/// A socket that talks to `address` only.
fn socket(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn received(socket: &UdpSocket) -> Message {
    let mut answer = [0; 65535];
    let length = socket.recv(&mut answer).unwrap();
    Message::read(&answer[..length]).unwrap()
}

fn connected(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Runs `dig`, or what takes the same arguments.
fn dig(program: &str, address: SocketAddr, args: &[&str]) -> String {
    let port = address.port().to_string();
    let mut command = Command::new(program);
    // Nothing of this machine's own settings.
    command.env("HOME", "/nonexistent").args(["@127.0.0.1", "-p", &port, "+norecurse", "+time=20"]);
    Ran::from(command.args(args)).ok()
}

#[test]
fn its_answers_are_those_of_nsd() {
    let (zone, child) = (Zone::generate(&mut Dice::new(SEED), 2000), Zone::child());
    let (home, files) = home(&[&zone, &child], "rate_limit = 0");
    let (kube, nsd) = (home.start(), servers::nsd(&files, &[]).unwrap());
    let zones = vec![zone.apex.clone(), child.apex.clone()];
    let ours = ("KUBE", Asker::new(address(&kube)).unwrap());
    let mut pair = Pair::new(ours, ("NSD", Asker::new(nsd.address).unwrap()), zones);
    let report = pair.compare(SEED, &zone, &child, 3000);
    assert_eq!(report.differences, 0, "{report}");
    for kind in ["answer", "no such type", "no such name", "alias to no such name", "referral", "refused", "truncated"]
    {
        assert!(report.kinds.get(kind).is_some_and(|times| *times >= 30), "hardly any {kind}: {report}");
    }
    kube.stop();
}

/// With signatures, those of the zone that NSD gets from KUBE.
#[test]
fn its_signed_answers_are_those_of_nsd() {
    let (zone, child) = (Zone::generate(&mut Dice::new(SEED), 1000), Zone::child());
    let (home, _) = home(&[&zone, &child], "rate_limit = 0\ndnssec = true\ntransfer = [\"127.0.0.1\"]");
    let kube = home.start();
    let (address, zones) = (address(&kube), vec![zone.apex.clone(), child.apex.clone()]);
    let nsd = servers::nsd(&Files::transferred(address, &zones, &home.path("")).unwrap(), &[]).unwrap();
    let ours = ("KUBE", Asker::new(address).unwrap());
    let mut pair = Pair::new(ours, ("NSD", Asker::new(nsd.address).unwrap()), zones);
    let report = pair.compare(SEED, &zone, &child, 3000);
    assert_eq!(report.differences, 0, "{report}");
    kube.stop();
}

#[test]
fn dig_and_kdig_get_the_same_over_udp_and_tcp() {
    let (home, _) = home(&[&zone()], "");
    let kube = home.start();
    let address = address(&kube);
    let name = format!("hOsT1.{APEX}");
    // kdig shows all names in lower case.
    for (program, shown) in [("dig", name.clone()), ("kdig", name.to_lowercase())] {
        for how in ["+notcp", "+tcp", "+bufsize=1232", "+noedns", "+dnssec"] {
            let said = dig(program, address, &[how, &name, "A"]);
            let expected = ["status: NOERROR", "192.0.2.101", "lags: qr aa;", &format!("{shown}.")];
            assert!(expected.iter().all(|expected| said.contains(expected)), "{program} {how}: {said}");
        }
        for (args, status) in [
            (["missing.bed.example", "A"], "NXDOMAIN"),
            (["www.elsewhere.example", "A"], "REFUSED"),
            (["version.bind", "TXT"], "REFUSED"),
        ] {
            let said = dig(program, address, &args);
            assert!(said.contains(&format!("status: {status}")), "{program} {args:?}: {said}");
        }
    }
    let said = dig("dig", address, &["CH", "TXT", "version.bind"]);
    assert!(said.contains("status: REFUSED"), "{said}");
    kube.stop();
}

#[test]
fn a_text_of_more_than_four_kilobytes_comes_over_tcp() {
    let (home, _) = home(&[&zone()], "");
    let kube = home.start();
    let name = format!("large.{APEX}");
    let said = dig("dig", address(&kube), &[&name, "TXT"]);
    assert!(said.contains("Truncated, retrying in TCP mode") && said.contains("ANSWER: 17,"), "{said}");
    let said = dig("dig", address(&kube), &["+ignore", &name, "TXT"]);
    assert!(said.contains("flags: qr aa tc;"), "{said}");
    kube.stop();
}

#[test]
fn it_says_which_server_it_is_and_knows_whom_it_gave_a_cookie() {
    let (home, _) = home(&[&zone()], "nsid = \"left-of-two\"\nrate_limit = 1");
    let kube = home.start();
    let address = address(&kube);
    let said = dig("dig", address, &["+nsid", "+cookie", &format!("host1.{APEX}")]);
    assert!(said.contains("(\"left-of-two\")"), "{said}");
    let shown = said.lines().find_map(|line| line.trim_start_matches("; ").strip_prefix("COOKIE: ")).unwrap();
    let cookie = shown.strip_suffix(" (good)").unwrap();
    assert_eq!(cookie.len(), 2 * (8 + 16), "{said}");
    // One answer of a kind in a second is all that others get over UDP.
    for _ in 0..50 {
        let said = dig("dig", address, &["+ignore", &format!("+cookie={cookie}"), &format!("host1.{APEX}")]);
        assert!(said.contains("ANSWER: 1,") && said.contains("(good)"), "{said}");
    }
    kube.stop();
}

/// A message with these header fields and what follows the header; its id is 7.
fn message(flags: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    let mut message = [7, flags, counts[0], counts[1], counts[2], counts[3]].map(u16::to_be_bytes).concat();
    message.extend(rest);
    message
}

#[test]
fn what_is_wrong_with_a_query_is_said_or_nothing_is() {
    const OPT: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let (home, _) = home(&[&zone()], "rate_limit = 0");
    let kube = home.start();
    let section = host().section();
    let with = |more: &[u8]| [&section, more].concat();
    let [mut version_1, mut too_long, mut named] = [OPT.to_vec(), OPT.to_vec(), OPT.to_vec()];
    version_1[6] = 1;
    too_long[10] = 9;
    named.splice(0..1, [1, b'a', 0]);
    let short_option = [&OPT[..9], &[0, 5, 0, 10, 0, 1, 1]].concat();
    let one = [1, 0, 0, 0];
    let (form_error, not_implemented, bad_version, refused) = (1, 4, 16, 5);
    let said = [
        (message(0, [0, 0, 0, 0], &[]), form_error, "no question"),
        (message(0, [2, 0, 0, 0], &[&section[..], &section].concat()), form_error, "two questions"),
        (message(0, one, &section[..section.len() - 1]), form_error, "a question cut short"),
        (message(0, one, &with(b"more")), form_error, "octets after the end"),
        (message(0, one, &[0xc0, 12, 0, 1, 0, 1]), form_error, "a name that points to itself"),
        (message(0, one, &[1, b'a', 0xc0, 12, 0, 1, 0, 1]), form_error, "a name that points to its start"),
        (message(0, one, &[0x41, b'a', 0, 0, 1, 0, 1]), form_error, "a label of a kind that there is not"),
        (message(0, one, &[&[63; 320][..], &[0, 0, 1, 0, 1]].concat()), form_error, "a name of 320 octets"),
        (message(0, [1, 0, 0, 1], &section), form_error, "a record that is not there"),
        (message(0, [1, 0, 0, 2], &with(&[OPT, OPT].concat())), form_error, "two OPT records"),
        (message(0, [1, 0, 0, 1], &with(&named)), form_error, "an OPT record with a name"),
        (message(0, [1, 0, 0, 1], &with(&too_long)), form_error, "an OPT record longer than the message"),
        (message(0, [1, 0, 0, 1], &with(&short_option)), form_error, "an option longer than its record"),
        (message(1 << 11, one, &section), not_implemented, "an inverse query"),
        (message(2 << 11, one, &section), not_implemented, "a question for the status"),
        (message(15 << 11, one, &section), not_implemented, "an opcode that there is not"),
        (message(0, [1, 0, 0, 1], &with(&version_1)), bad_version, "EDNS of version 1"),
        (message(0, one, &question("example", Rtype::SOA).section()), refused, "the zone above"),
        (message(0, one, &[0, 0, 2, 0, 1]), refused, "the root"),
    ];
    let socket = socket(address(&kube));
    for (message, rcode, what) in &said {
        socket.send(message).unwrap();
        let answer = received(&socket);
        assert_eq!((answer.id, answer.rcode, answer.flags >> 15), (7, *rcode, 1), "{what}: {answer}");
        assert!(answer.answer.is_empty() && answer.length <= message.len() + OPT.len(), "{what}: {answer}");
    }
    // The next answer that comes is that to the next question.
    for (message, what) in [
        (vec![], "nothing"),
        (vec![0; 11], "less than a header"),
        (message(0x8000, one, &section), "an answer"),
        (message(0x8000 | 1 << 11, [0, 0, 0, 0], &[]), "an answer to an inverse query"),
    ] {
        socket.send(&message).unwrap();
        socket.send(&Question { id: 8, ..host() }.wire()).unwrap();
        assert_eq!(received(&socket).id, 8, "{what}");
    }
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn junk_datagrams_harm_nobody() {
    let (home, _) = home(&[&zone()], "rate_limit = 0");
    let kube = home.start();
    let mut asker = Asker::new(address(&kube)).unwrap();
    let (mut dice, stranger) = (Dice::new(SEED), socket(address(&kube)));
    stranger.set_nonblocking(true).unwrap();
    for number in 0..2000 {
        let question = Question { edns: Some(4096), ..host() };
        let mut junk = if dice.one_in(2) { question.wire() } else { vec![0; dice.index(1500)] };
        for _ in 0..dice.between(1, 8) {
            if let Some(place) = junk.len().checked_sub(1).map(|last| dice.index(last + 1)) {
                junk[place] = dice.roll(256) as u8;
            }
        }
        junk.truncate(junk.len() - dice.index(junk.len() / 8 + 1));
        // Its own answers may fill up its socket: it does not read them.
        stranger.send(&junk).ok();
        if number % 100 == 0 {
            is_served(&mut asker);
        }
    }
    is_served(&mut asker);
    kube.is_unharmed();
    kube.stop();
}

/// Whoever forges the addresses of a network has it sent less than was sent for it, with the limit that there is by default.
#[test]
fn a_flood_gets_less_out_of_it_than_it_sends() {
    let (home, _) = home(&[&zone()], "");
    let kube = home.start();
    let socket = socket(address(&kube));
    let (mut dice, mut sent, mut got, mut answer) = (Dice::new(SEED), 0, 0, [0; 2048]);
    socket.set_nonblocking(true).unwrap();
    for number in 0..30_000 {
        let name = match number % 3 {
            0 => format!("large.{APEX}"),
            1 => format!("host1.{APEX}"),
            _ => format!("x{}.{APEX}", dice.roll(u64::MAX)),
        };
        let question = Question { edns: Some(1232), wants_dnssec: true, ..question(&name, Rtype::TXT) };
        // What does not fit into its socket was not sent.
        sent += socket.send(&question.wire()).unwrap_or_default();
        while let Ok(length) = socket.recv(&mut answer) {
            got += length;
        }
    }
    assert!(got > 0 && got < sent, "{got} octets for {sent}");
    // Others have their answers meanwhile, and so has this network over TCP.
    assert_eq!(Asker::new(address(&kube)).unwrap().ask(&host().over_tcp()).unwrap().answer.len(), 1);
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn many_questions_over_one_connection_are_all_answered() {
    let (home, _) = home(&[&zone()], "");
    let kube = home.start();
    let mut stream = connected(address(&kube));
    let frame = |id| {
        let wire = Question { id, ..host() }.wire();
        [&(wire.len() as u16).to_be_bytes()[..], &wire].concat()
    };
    stream.write_all(&(0..300).flat_map(frame).collect::<Vec<_>>()).unwrap();
    let mut seen: Vec<u16> = (0..300)
        .map(|_| {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut answer = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut answer).unwrap();
            let answer = Message::read(&answer).unwrap();
            assert_eq!(answer.answer.len(), 1, "{answer}");
            answer.id
        })
        .collect();
    // In any order: RFC 7766, section 6.2.1.1.
    seen.sort_unstable();
    assert_eq!(seen, (0..300).collect::<Vec<_>>());
    kube.stop();
}

#[test]
fn frames_that_come_octet_by_octet_keep_nobody_waiting() {
    let (home, _) = home(&[&zone()], "");
    let kube = home.start();
    let address = address(&kube);
    let mut asker = Asker::new(address).unwrap();
    let mut slow: Vec<_> = (0..20).map(|_| connected(address)).collect();
    let wire = host().wire();
    let frames = [[&[0xff, 0xff][..], &[0; 200]].concat(), [&(wire.len() as u16).to_be_bytes()[..], &wire].concat()];
    for place in 0..100 {
        for (number, stream) in slow.iter_mut().enumerate() {
            if let Some(octet) = frames[number % 2].get(place) {
                stream.write_all(&[*octet]).unwrap();
            }
        }
        is_served(&mut asker);
    }
    // Who was slow, but came to an end, is answered as well.
    for stream in slow.iter_mut().skip(1).step_by(2) {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
    }
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn connections_that_say_nothing_give_way_to_newer_ones() {
    const IDLE: usize = 10_000;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let (home, _) = home(&[&zone()], "");
    let kube = home.start();
    let address = address(&kube);
    let idle: Vec<_> = (0..IDLE).map(|_| connected(address)).collect();
    is_served(&mut Asker::new(address).unwrap());
    // The oldest goes first.
    assert_eq!((&idle[0]).read(&mut [0]).unwrap(), 0);
    let figure = |name: &str| {
        let page = kube.metrics("/metrics").text();
        page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap()
    };
    eventually("fewer connections than there were", || (figure("kube_dns_connections ") <= 1024.0).then_some(()));
    assert!(figure("kube_dns_displaced_total ") >= (IDLE - 1024) as f64);
    drop(idle);
    kube.is_unharmed();
    kube.stop();
}

#[test]
fn whoever_has_the_address_already_is_named_with_what_to_do() {
    let zone = zone();
    let (home, files) = home(&[&zone], "");
    let nsd = servers::nsd(&files, &[]).unwrap();
    let config = fs::read_to_string(home.config()).unwrap();
    home.configure(
        &config.replace("[dns]\nlisten = [\"127.0.0.1:0\"]", &format!("[dns]\nlisten = [\"{}\"]", nsd.address)),
    );
    let ran = home.run(&["run"]);
    let holder = format!("cannot listen on {} (TCP): address in use by nsd (pid ", nsd.address);
    ran.complains(1, &[&holder, "stop nsd, and keep it from starting", "or set `dns.listen`"]);
}

#[test]
fn https_records_say_where_https_is_served() {
    let config = |https: &str| {
        let listen = LISTEN.replace("https = [\"127.0.0.1:0\"]", &format!("https = {https}"));
        format!(
            "domain = \"kube.test\"\naddresses = [\"192.0.2.7\"]\ndata = \"data\"\n{listen}\n[dns]\nlisten = [\"127.0.0.1:0\"]\n"
        )
    };
    let home = Home::of(&config("[\"127.0.0.1:0\"]"));
    let kube = home.start();
    let told = |port: u16| {
        let expected = format!("1 . alpn=\"h2\" port={port}\n");
        let address = address(&kube);
        eventually(&format!("HTTPS at {port}"), || {
            (dig("dig", address, &["+short", "shop.kube.test", "HTTPS"]) == expected).then_some(())
        });
    };
    told(kube.https());
    home.configure(&config("[\"127.0.0.2:0\"]"));
    home.run(&["reload"]).ok();
    told(kube.https());
    kube.stop();
}

/// The records of these types as BIND understands a zone file, one a line.
fn understood_by_bind(home: &Home, file: &str) -> Vec<String> {
    const TYPES: [&str; 11] = ["LOC", "URI", "AFSDB", "RT", "KX", "CERT", "DHCID", "SMIMEA", "SPF", "EUI48", "EUI64"];
    let compiled = home.path("compiled");
    let mut command = Command::new("named-compilezone");
    command
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .args(["-q", "-i", "none", "-k", "ignore", "-r", "ignore", "-o"]);
    Ran::from(command.arg(&compiled).arg(APEX).arg(home.path(file))).ok();
    let text = fs::read_to_string(&compiled).unwrap();
    let is_one = |line: &&str| line.split_whitespace().nth(3).is_some_and(|rtype| TYPES.contains(&rtype));
    // Names come in lower case from KUBE.
    let mut lines: Vec<_> = text.lines().filter(is_one).map(str::to_ascii_lowercase).collect();
    lines.sort();
    assert!(lines.len() > TYPES.len(), "{text}");
    lines
}

#[test]
fn bind_understands_what_is_exported_as_it_understands_the_zone_file() {
    let zone = zone();
    let (home, files) = home(&[&zone], "");
    let kube = home.start();
    fs::write(home.path("exported"), home.run(&["dns", "export", APEX]).ok()).unwrap();
    let written = files.zones[0].1.file_name().unwrap().to_str().unwrap();
    assert_eq!(understood_by_bind(&home, "exported"), understood_by_bind(&home, written));
    // Words, not octets.
    let records = home.run(&["dns", "records", APEX]).ok();
    for said in [
        "42 21 54.000 N 71 6 18.500 W -24.00m 30.00m 10000.00m 10.00m",
        "10 2 \"https://example/?a=",
        "1 afs.bed.example.",
    ] {
        assert!(records.contains(said), "{said}: {records}");
    }
    kube.stop();
}
