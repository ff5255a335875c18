use minicbor::data::Tag;
use proptest::prelude::*;

use super::*;

const ID: DocumentId = DocumentId([7; 16]);

/// A map with JavaScript's 16-bit length.
fn map(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0xb9, 0, entries.len() as u8];
    for (key, value) in entries {
        bytes.extend(text(key));
        bytes.extend(*value);
    }
    bytes
}

fn value(write: impl FnOnce(&mut Encoder) -> Encoded) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder).unwrap();
    encoder.into_writer()
}

fn text(text: &str) -> Vec<u8> {
    value(|e| e.str(text)?.ok())
}

fn ephemeral_with(key: &str, replaced: &[u8]) -> Vec<u8> {
    let (kind, id, bytes) = (text("ephemeral"), text(&ID.to_string()), value(|e| e.bytes(b"x")?.ok()));
    let mut entries = [
        ("type", &kind[..]),
        ("documentId", &id[..]),
        ("senderId", b"\x61a"),
        ("sessionId", b"\x61s"),
        ("count", b"\x05"),
        ("data", &bytes[..]),
    ];
    for entry in &mut entries {
        if entry.0 == key {
            entry.1 = replaced;
        }
    }
    map(&entries)
}

fn recorded() -> impl Iterator<Item = (&'static str, &'static str, Vec<u8>)> {
    include_str!("../../tests/vectors/frames.txt").lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (direction, rest) = line.split_once(' ').unwrap();
        let (kind, hex) = rest.split_once(' ').unwrap();
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (direction, kind, (0..hex.len()).step_by(2).map(digits).collect())
    })
}

#[test]
fn every_recorded_frame_is_understood() {
    let mut kinds = Vec::new();
    for (_, kind, frame) in recorded() {
        let read = decode(&frame).unwrap();
        match (kind, &read) {
            ("join", Inbound::Join(join)) => {
                assert!(join.is_supported() && join.ephemeral && join.storage_id.is_none(), "{join:?}");
                assert!(join.sender.starts_with("alice-") || join.sender.starts_with("bob-"), "{join:?}");
            }
            ("sync", Inbound::Sync { data, request: false, .. }) => assert!(data.len() >= 10),
            ("request", Inbound::Sync { data, request: true, .. }) => assert_eq!(data.len(), 10),
            ("doc-unavailable", Inbound::Unavailable { .. }) => {}
            ("peer", Inbound::Peer(answer)) => {
                assert!(answer.storage_id.is_some() && answer.kube.is_none(), "{answer:?}")
            }
            ("ephemeral", Inbound::Ephemeral(message)) => {
                assert_eq!((message.count, message.data.len()), (1, 11));
                assert!(message.sender.starts_with("alice-"), "relayed with its first sender: {message:?}");
            }
            _ => panic!("a frame of type {kind} was read as {read:?}"),
        }
        kinds.push(kind);
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, ["doc-unavailable", "ephemeral", "join", "peer", "request", "sync"]);
}

#[test]
fn a_document_id_is_16_bytes_with_a_checksum() {
    let id: DocumentId = "2ny78WGv5FyLu9pQ2apgnTL8pNta".parse().unwrap();
    assert_eq!(id.to_string(), "2ny78WGv5FyLu9pQ2apgnTL8pNta");
    assert_eq!(DocumentId([0; 16]).to_string().parse(), Ok(DocumentId([0; 16])));
    assert_eq!(DocumentId([255; 16]).to_string().len(), DocumentId::MAX_TEXT);
    for bad in ["", "2ny78WGv5FyLu9pQ2apgnTL8pNtb", "automerge:x", "0OIl", &"1".repeat(1 << 20)] {
        assert_eq!(bad.parse::<DocumentId>(), Err(Error::DocumentId), "{bad:.40}");
    }
    let short = bs58::encode([1; 15]).with_check().into_string();
    assert_eq!(short.parse::<DocumentId>(), Err(Error::DocumentId));
}

#[test]
fn a_sync_message_in_parts_is_the_same_frame() {
    for data in [vec![5; 10], vec![5; 100_000]] {
        let parts = [sync_head("me", "you", ID, data.len()), data.clone().into()].concat();
        assert_eq!(parts, sync("me", "you", ID, &data));
    }
}

#[test]
fn a_sync_message_for_many_is_the_same_frame_for_each() {
    for data in [&b""[..], &[7; 300]] {
        let circular = Circular::new("kube", ID, data);
        for target in ["a".to_owned(), "b".repeat(24), "c".repeat(MAX_ID)] {
            assert_eq!(circular.to(&target), sync("kube", &target, ID, data));
        }
    }
}

#[test]
fn the_document_of_the_frame_before_is_not_taken_for_that_of_the_next() {
    let mut named = Named::default();
    let other = DocumentId([8; 16]);
    for document in [ID, ID, other, ID] {
        let frame = sync("a", "b", document, b"x");
        assert_eq!(decode_next(&frame, &mut named), decode(&frame));
    }
    let broken = ephemeral_with("documentId", &text(&ID.to_string().replace('1', "2")));
    assert_eq!(decode_next(&broken, &mut named), decode(&broken));
    let frame = sync("a", "b", ID, b"x");
    assert_eq!(decode_next(&frame, &mut named), decode(&frame));
}

#[test]
fn what_is_encoded_is_decoded_again() {
    assert_eq!(
        decode(&sync("me", "you", ID, b"data")),
        Ok(Inbound::Sync { document: ID, data: b"data", request: false })
    );
    assert_eq!(
        decode(&request("me", "you", ID, b"data")),
        Ok(Inbound::Sync { document: ID, data: b"data", request: true })
    );
    assert_eq!(decode(&doc_unavailable("me", "you", ID)), Ok(Inbound::Unavailable { document: ID }));
    for count in [0, u64::from(u32::MAX), 1 << 40] {
        let message = Ephemeral { document: ID, sender: "alice", session: "s", count, data: b"hello" };
        assert_eq!(decode(&ephemeral("bob", &message)), Ok(Inbound::Ephemeral(message)));
    }
    let heads = vec![
        RemoteHeads { storage_id: "one", heads: vec!["a", "b"], timestamp: 1_800_000_000_000 },
        RemoteHeads { storage_id: "two", heads: vec![], timestamp: 0 },
    ];
    assert_eq!(
        decode(&remote_heads_changed("me", "you", ID, &heads)),
        Ok(Inbound::RemoteHeadsChanged { document: ID, heads })
    );
    let (add, remove) = (vec!["one", "two"], vec!["three"]);
    assert_eq!(
        decode(&remote_subscription_change("me", "you", &add, &remove)),
        Ok(Inbound::RemoteSubscriptionChange { add, remove })
    );
    for kube in [None, Some(64 << 20), Some(1 << 40)] {
        let answer = Answer { sender: "me", storage_id: Some("storage"), kube };
        assert_eq!(decode(&peer("me", "you", "storage", kube)), Ok(Inbound::Peer(answer)));
    }
    let first =
        Join { sender: "me", storage_id: Some("storage"), ephemeral: false, versions: vec!["1"], kube: Some(9) };
    assert_eq!(decode(&join("me", "storage", 9)), Ok(Inbound::Join(first)));
    for since in [None, Some(0), Some(1 << 40)] {
        assert_eq!(decode(&follow("me", "you", since)), Ok(Inbound::Follow { since }));
    }
    assert_eq!(decode(&position("me", "you", 7)), Ok(Inbound::Position { position: 7 }));
    for deleted in [false, true] {
        let at = 1_800_000_000_000;
        assert_eq!(decode(&decided("me", "you", ID, deleted, at)), Ok(Inbound::Decided { document: ID, deleted, at }));
    }
    assert_eq!(decode(&error("me", "you", "no")), Ok(Inbound::Error("no")));
}

#[test]
fn a_subscription_lists_storages() {
    let (kind, list) = (text("remote-subscription-change"), value(|e| e.array(2)?.str("one")?.str("two")?.ok()));
    let frame = map(&[("type", &kind), ("add", &list), ("remove", b"\xf7")]);
    assert_eq!(decode(&frame), Ok(Inbound::RemoteSubscriptionChange { add: vec!["one", "two"], remove: Vec::new() }));
}

#[test]
fn a_client_that_names_no_version_speaks_the_first() {
    let join = map(&[("type", &text("join")), ("senderId", &text("a"))]);
    let Ok(Inbound::Join(join)) = decode(&join) else { panic!("not a join") };
    assert!(join.is_supported());
    let other = value(|e| e.array(1)?.str("2")?.ok());
    let join = map(&[("type", &text("join")), ("senderId", &text("a")), ("supportedProtocolVersions", &other)]);
    let Ok(Inbound::Join(join)) = decode(&join) else { panic!("not a join") };
    assert!(!join.is_supported());
}

#[test]
fn maps_of_any_header_and_tagged_byte_strings_are_read() {
    let entries = [
        text("type"),
        text("sync"),
        text("documentId"),
        text(&ID.to_string()),
        text("data"),
        value(|e| e.tag(Tag::new(64))?.bytes(b"x")?.ok()),
    ]
    .concat();
    let headers: [(&[u8], &[u8]); 6] = [
        (b"\xa3", b""),
        (b"\xb8\x03", b""),
        (b"\xb9\0\x03", b""),
        (b"\xba\0\0\0\x03", b""),
        (b"\xbb\0\0\0\0\0\0\0\x03", b""),
        (b"\xbf", b"\xff"),
    ];
    for (head, tail) in headers {
        let frame = [head, &entries, tail].concat();
        assert_eq!(decode(&frame), Ok(Inbound::Sync { document: ID, data: b"x", request: false }), "{head:x?}");
    }
}

#[test]
fn what_is_not_known_is_skipped() {
    let odd = value(|e| {
        e.begin_array()?.map(1)?.u8(1)?.begin_map()?.end()?.f64(0.5)?.tag(Tag::new(9))?.null()?.begin_bytes()?.end()?;
        e.array(0)?.map(0)?.array(2)?.begin_array()?.u8(1)?.end()?.i64(-5)?.simple(99)?.end()?.ok()
    });
    let frame = map(&[("extra", &odd), ("type", &text("leave")), ("extra", b"\xf9\x3c\x00")]);
    assert_eq!(decode(&frame), Ok(Inbound::Leave));
    let keyed_by_number = [&b"\xa2\x05"[..], &odd, &text("type"), &text("leave")].concat();
    assert_eq!(decode(&keyed_by_number), Ok(Inbound::Leave));
    assert_eq!(decode(&map(&[("type", &text("tomorrow"))])), Ok(Inbound::Unknown("tomorrow")));
}

#[test]
fn what_is_wrong_with_a_frame_is_named() {
    let cases: [(Error, Vec<u8>); 18] = [
        (Error::NotAMap, vec![]),
        (Error::NotAMap, vec![0x80]),
        (Error::NotAMap, text("type")),
        (Error::Malformed, b"\xb9\xff\xff\x64type".to_vec()),
        (Error::Malformed, [map(&[("type", &text("leave"))]), vec![0]].concat()),
        (Error::Missing("type"), map(&[])),
        (Error::Missing("type"), map(&[("type", b"\xf7")])),
        (Error::WrongType("type"), map(&[("type", b"\x05")])),
        (Error::Duplicate("type"), map(&[("type", &text("leave")), ("type", &text("leave"))])),
        (Error::Missing("senderId"), map(&[("type", &text("join"))])),
        (Error::IdLength("senderId"), ephemeral_with("senderId", &text(""))),
        (Error::IdLength("senderId"), ephemeral_with("senderId", &text(&"x".repeat(MAX_ID + 1)))),
        (Error::IdLength("sessionId"), ephemeral_with("sessionId", &text(&"x".repeat(MAX_ID + 1)))),
        (Error::DocumentId, ephemeral_with("documentId", &text("nonsense"))),
        (Error::WrongType("count"), ephemeral_with("count", &value(|e| e.f64(0.5)?.ok()))),
        (Error::WrongType("count"), ephemeral_with("count", &value(|e| e.f64(f64::NAN)?.ok()))),
        (Error::WrongType("data"), ephemeral_with("data", &text("x"))),
        (Error::WrongType("data"), ephemeral_with("data", &value(|e| e.tag(Tag::new(65))?.bytes(b"x")?.ok()))),
    ];
    for (expected, frame) in cases {
        assert_eq!(decode(&frame), Err(expected), "{frame:x?}");
    }
    let many = value(|e| {
        e.array(MAX_LIST as u64 + 1)?;
        (0..=MAX_LIST).try_for_each(|_| e.str("1")?.ok())
    });
    let join = map(&[("type", &text("join")), ("senderId", b"\x61a"), ("supportedProtocolVersions", &many)]);
    assert_eq!(decode(&join), Err(Error::ListLength("supportedProtocolVersions")));
}

#[test]
fn bombs_cost_no_more_than_their_size() {
    let huge_lengths: [&[u8]; 5] = [
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x7b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff\x00",
    ];
    for bomb in huge_lengths {
        assert_eq!(decode(&map(&[("extra", bomb)])), Err(Error::Malformed), "{bomb:x?}");
        assert!(decode(&map(&[("type", &text("join")), ("senderId", b"\x61a"), ("add", bomb)])).is_err());
    }
    for opening in [0x81, 0x82, 0x9f, 0xa1, 0xbf] {
        let deep = vec![opening; 1 << 20];
        assert_eq!(decode(&map(&[("extra", &deep)])), Err(Error::TooDeep), "{opening:x}");
    }
    // Tags nest without end, but open nothing.
    assert_eq!(decode(&map(&[("extra", &vec![0xc1; 1 << 20])])), Err(Error::Malformed));
    let nested = [vec![0x81; MAX_DEPTH], vec![0]].concat();
    assert_eq!(decode(&map(&[("extra", &nested), ("type", &text("leave"))])), Ok(Inbound::Leave));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(decode(&bytes));
    }

    #[test]
    fn recorded_frames_with_bytes_changed_are_read_or_refused(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let frames: Vec<_> = recorded().collect();
        let mut frame = which.get(&frames).2.clone();
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        drop(decode(&frame));
    }

    #[test]
    fn any_document_id_survives_its_text(bytes in any::<[u8; 16]>()) {
        prop_assert_eq!(DocumentId(bytes).to_string().parse(), Ok(DocumentId(bytes)));
    }
}
