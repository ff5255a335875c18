//! Changes as nobody's client would write them, encoded by hand.
use std::io::Write;

use automerge::{ActorId, ChangeHash};
use flate2::{Compression, write::DeflateEncoder};
use sha2::{Digest, Sha256};

/// A change to be encoded: the operations as columns of rows, canonical unless a test replaces one.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) deps: Vec<ChangeHash>,
    pub(crate) actor: ActorId,
    pub(crate) seq: u64,
    pub(crate) start_op: u64,
    pub(crate) others: Vec<ActorId>,
    pub(crate) operations: Vec<Row>,
    /// Columns that take the place of those that the operations would have, or come beside them.
    pub(crate) columns: Vec<(u32, Vec<u8>)>,
    pub(crate) extra: Vec<u8>,
}

/// One operation; ids are an index into the actors and a counter.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) object: Option<(u64, u64)>,
    pub(crate) key: Key,
    pub(crate) insert: bool,
    pub(crate) action: u64,
    pub(crate) value: (u64, Vec<u8>),
    pub(crate) predecessors: Vec<(u64, u64)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Key {
    Text(&'static str),
    Head,
    Element(u64, u64),
}

/// `put(root, key, 1)`.
pub(crate) fn put(key: &'static str) -> Row {
    Row { object: None, key: Key::Text(key), insert: false, action: 1, value: (3, vec![1]), predecessors: Vec::new() }
}

impl Draft {
    pub(crate) fn new(actor: &ActorId, seq: u64, start_op: u64, deps: &[ChangeHash], operations: Vec<Row>) -> Self {
        let (actor, deps) = (actor.clone(), deps.to_vec());
        Self { deps, actor, seq, start_op, others: Vec::new(), operations, columns: Vec::new(), extra: Vec::new() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        chunk(1, &self.content())
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        let mut content = Vec::new();
        unsigned(&mut content, self.deps.len() as u64);
        self.deps.iter().for_each(|dep| content.extend(dep.0));
        prefixed(&mut content, self.actor.to_bytes());
        unsigned(&mut content, self.seq);
        unsigned(&mut content, self.start_op);
        content.extend([0, 0]);
        unsigned(&mut content, self.others.len() as u64);
        self.others.iter().for_each(|actor| prefixed(&mut content, actor.to_bytes()));
        let columns = self.encode_columns();
        unsigned(&mut content, columns.len() as u64);
        for (spec, data) in &columns {
            unsigned(&mut content, u64::from(*spec));
            unsigned(&mut content, data.len() as u64);
        }
        columns.iter().for_each(|(_, data)| content.extend(data));
        content.extend(&self.extra);
        content
    }

    fn encode_columns(&self) -> Vec<(u32, Vec<u8>)> {
        let rows = &self.operations;
        let element =
            |row: &Row| if let Key::Element(actor, counter) = row.key { Some((actor, counter)) } else { None };
        let key_counter = |row: &Row| match row.key {
            Key::Text(_) => None,
            Key::Head => Some(0),
            Key::Element(_, counter) => Some(counter as i64),
        };
        let text = |row: &Row| if let Key::Text(text) = row.key { Some(text.as_bytes().to_vec()) } else { None };
        let predecessors: Vec<_> = rows.iter().flat_map(|row| row.predecessors.clone()).collect();
        let mut inserts = Vec::new();
        let (mut value, mut count) = (false, 0);
        for row in rows {
            if row.insert != value {
                unsigned(&mut inserts, count);
                (value, count) = (row.insert, 0);
            }
            count += 1;
        }
        if count > 0 {
            unsigned(&mut inserts, count);
        }
        let mut columns = vec![
            (0x01, rle(rows.iter().map(|row| row.object.map(|id| number(id.0))))),
            (0x02, rle(rows.iter().map(|row| row.object.map(|id| number(id.1))))),
            (0x11, rle(rows.iter().map(|row| element(row).map(|id| number(id.0))))),
            (0x13, delta(rows.iter().map(key_counter))),
            (
                0x15,
                rle(rows.iter().map(|row| {
                    text(row).map(|text| {
                        let mut out = Vec::new();
                        prefixed(&mut out, &text);
                        out
                    })
                })),
            ),
            (0x34, inserts),
            (0x42, rle(rows.iter().map(|row| Some(number(row.action))))),
            (0x56, rle(rows.iter().map(|row| Some(number((row.value.1.len() as u64) << 4 | row.value.0))))),
            (0x57, rows.iter().flat_map(|row| row.value.1.clone()).collect()),
            (0x70, rle(rows.iter().map(|row| Some(number(row.predecessors.len() as u64))))),
            (0x71, rle(predecessors.iter().map(|id| Some(number(id.0))))),
            (0x73, delta(predecessors.iter().map(|id| Some(id.1 as i64)))),
        ];
        columns.retain(|(spec, data)| !data.is_empty() && self.columns.iter().all(|(other, _)| other != spec));
        columns.extend(self.columns.clone());
        columns.sort_by_key(|(spec, _)| *spec);
        columns
    }
}

pub(crate) fn chunk(kind: u8, content: &[u8]) -> Vec<u8> {
    with_checksum(kind, content, hash(kind, content))
}

/// A change as it is sent when it is long.
pub(crate) fn deflated(content: &[u8]) -> Vec<u8> {
    with_checksum(2, &deflate(content), hash(1, content))
}

pub(crate) fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn hash(kind: u8, content: &[u8]) -> [u8; 32] {
    let mut head = vec![kind];
    unsigned(&mut head, content.len() as u64);
    Sha256::new().chain_update(head).chain_update(content).finalize().into()
}

fn with_checksum(kind: u8, content: &[u8], hash: [u8; 32]) -> Vec<u8> {
    let mut chunk = vec![0x85, 0x6f, 0x4a, 0x83];
    chunk.extend(&hash[..4]);
    chunk.push(kind);
    prefixed(&mut chunk, content);
    chunk
}

/// A sync message of version 1 that brings these chunks.
pub(crate) fn message(chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut message = vec![0x42, 0, 0, 0];
    unsigned(&mut message, chunks.len() as u64);
    chunks.iter().for_each(|chunk| prefixed(&mut message, chunk));
    message
}

pub(crate) fn unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn signed(out: &mut Vec<u8>, mut value: i64) {
    while !(-64..64).contains(&value) {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8 & 0x7f);
}

pub(crate) fn prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    unsigned(out, bytes.len() as u64);
    out.extend(bytes);
}

pub(crate) fn number(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    unsigned(&mut out, value);
    out
}

/// A run of one value, of whatever length.
pub(crate) fn run(length: i64, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    signed(&mut out, length);
    unsigned(&mut out, value);
    out
}

/// Run-length encoding in its one canonical form.
fn rle(values: impl Iterator<Item = Option<Vec<u8>>>) -> Vec<u8> {
    let values: Vec<_> = values.collect();
    let runs: Vec<_> = values.chunk_by(|a, b| a == b).collect();
    let mut out = Vec::new();
    let mut at = 0;
    while at < runs.len() {
        let literals: Vec<_> = runs[at..]
            .iter()
            .take_while(|run| run.len() == 1 && run[0].is_some())
            .map(|run| run[0].as_ref().unwrap())
            .collect();
        match (&runs[at][0], literals.len()) {
            (None, _) => {
                out.push(0);
                unsigned(&mut out, runs[at].len() as u64);
                at += 1;
            }
            (Some(value), 0) => {
                signed(&mut out, runs[at].len() as i64);
                out.extend(value);
                at += 1;
            }
            (Some(_), length) => {
                signed(&mut out, -(length as i64));
                literals.into_iter().for_each(|value| out.extend(value));
                at += length;
            }
        }
    }
    if values.iter().all(Option::is_none) { Vec::new() } else { out }
}

fn delta(values: impl Iterator<Item = Option<i64>>) -> Vec<u8> {
    let mut last = 0;
    rle(values.map(|value| {
        value.map(|value| {
            let mut out = Vec::new();
            signed(&mut out, value - last);
            last = value;
            out
        })
    }))
}
