//! Writes the seeds of the fuzz targets: recorded frames, and messages and chunks that automerge made.
use std::{collections::BTreeSet, fs, path::Path};

use automerge::{
    AutoCommit, ObjType, ROOT, ScalarValue,
    marks::{ExpandMark, Mark},
    sync::{State, SyncDoc},
    transaction::Transactable,
};
use kube_echo::{
    sealed::Sealed,
    wire::{self, DocumentId, RemoteHeads},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut kinds = BTreeSet::new();
    for line in
        include_str!("../../modules/echo/tests/vectors/frames.txt").lines().filter(|line| !line.starts_with('#'))
    {
        let [_, kind, hex] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { continue };
        let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16);
        if kinds.insert(kind) {
            write("frame", kind, &(0..hex.len()).step_by(2).map(digits).collect::<Result<Vec<_>, _>>()?)?;
        }
    }

    for (name, frame) in [
        ("kube-join", wire::join("kube-a", "a", 1 << 26)),
        ("kube-peer", wire::peer("kube-b", "kube-a", "b", Some(1 << 26))),
        ("kube-follow", wire::follow("kube-a", "kube-b", Some(7))),
        ("kube-follow-anew", wire::follow("kube-a", "kube-b", None)),
        ("kube-position", wire::position("kube-b", "kube-a", 1 << 40)),
        ("kube-decided", wire::decided("kube-b", "kube-a", DocumentId([7; 16]), true, 1 << 41)),
        ("remote-subscription-change", wire::remote_subscription_change("me", "you", &["one"], &["other"])),
        ("error", wire::error("kube-b", "kube-a", "it is refused")),
    ] {
        write("frame", name, &frame)?;
    }
    let heads = [RemoteHeads { storage_id: "storage", heads: vec!["head", "other"], timestamp: 1 << 41 }];
    write("frame", "remote-heads-changed", &wire::remote_heads_changed("me", "you", DocumentId([7; 16]), &heads))?;

    let mut one = AutoCommit::new().with_actor([1; 16].into());
    let map = one.put_object(ROOT, "map", ObjType::Map)?;
    one.put(&map, "counter", ScalarValue::counter(5))?;
    one.put(&map, "float", 0.5)?;
    let text = one.put_object(ROOT, "text", ObjType::Text)?;
    one.splice_text(&text, 0, 0, "some words to mark")?;
    one.commit();
    let mut other = one.fork().with_actor([2; 16].into());
    one.increment(&map, "counter", -3)?;
    one.mark(&text, Mark::new("bold".to_owned(), true, 0, 4), ExpandMark::Both)?;
    other.splice_text(&text, 2, 3, &"a longer piece of text ".repeat(30))?;
    other.delete(&map, "float")?;
    let list = other.put_object(ROOT, "list", ObjType::List)?;
    other.insert(&list, 0, -1)?;
    let (mut to_one, mut to_other) = (State::new(), State::new());
    for round in 0..6 {
        let (from, to, from_state, to_state, who) = match round % 2 {
            0 => (&mut one, &mut other, &mut to_one, &mut to_other, "one"),
            _ => (&mut other, &mut one, &mut to_other, &mut to_one, "other"),
        };
        if let Some(message) = from.sync().generate_sync_message(from_state) {
            write("sync_message", &format!("{round}-{who}"), &message.clone().encode())?;
            to.sync().receive_sync_message(to_state, message)?;
        }
    }
    write("sealed", "two-authors", &Sealed::of(one.document()).encode())?;
    write("sealed", "nothing", &Sealed::default().encode())?;
    for (n, mut change) in one.get_changes(&[]).into_iter().enumerate() {
        write("change", &format!("change-{n}"), &content(change.raw_bytes()))?;
        write("change", &format!("sent-{n}"), &content(&change.bytes()))?;
    }
    write("change", "document", &content(&one.save_nocompress()))?;
    write("change", "document-deflated", &content(&one.save()))?;
    let fresh = AutoCommit::new().sync().generate_sync_message(&mut State::new());
    let mut state = State::new();
    one.sync().receive_sync_message(&mut state, fresh.ok_or("no message")?)?;
    write("sync_message", "document", &one.sync().generate_sync_message(&mut state).ok_or("no message")?.encode())?;
    Ok(())
}

/// The type of a chunk, and its content.
fn content(chunk: &[u8]) -> Vec<u8> {
    let length = 1 + chunk[9..].iter().take_while(|byte| **byte & 0x80 != 0).count();
    [&chunk[8..9], &chunk[9 + length..]].concat()
}

fn write(target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes)
}
