//! Pure: change chunks, decoded operation by operation.
use std::cmp::Ordering;

use automerge::ChangeHash;
use bytes::Bytes;

use super::{
    Budget, Change, Error, Kind, MAX_COUNTER, MAX_DEPENDENCIES, Reference,
    columns::{Booleans, Delta, Layout, Rle},
    input::Input,
    spend,
};

/// The columns of operations, in their order: an id, shifted by four bits, and a type.
pub(super) mod spec {
    pub(in crate::reader) const OBJECT_ACTOR: u32 = 0x01;
    pub(in crate::reader) const OBJECT_COUNTER: u32 = 0x02;
    pub(in crate::reader) const KEY_ACTOR: u32 = 0x11;
    pub(in crate::reader) const KEY_COUNTER: u32 = 0x13;
    pub(in crate::reader) const KEY_TEXT: u32 = 0x15;
    pub(in crate::reader) const INSERT: u32 = 0x34;
    pub(in crate::reader) const ACTION: u32 = 0x42;
    pub(in crate::reader) const VALUE_META: u32 = 0x56;
    pub(in crate::reader) const VALUE: u32 = 0x57;
    pub(super) const PREDECESSORS: u32 = 0x70;
    pub(super) const PREDECESSOR_ACTOR: u32 = 0x71;
    pub(super) const PREDECESSOR_COUNTER: u32 = 0x73;
    pub(in crate::reader) const EXPAND: u32 = 0x94;
    pub(in crate::reader) const MARK_NAME: u32 = 0xa5;
    pub(super) const ALL: [u32; 14] = [
        OBJECT_ACTOR,
        OBJECT_COUNTER,
        KEY_ACTOR,
        KEY_COUNTER,
        KEY_TEXT,
        INSERT,
        ACTION,
        VALUE_META,
        VALUE,
        PREDECESSORS,
        PREDECESSOR_ACTOR,
        PREDECESSOR_COUNTER,
        EXPAND,
        MARK_NAME,
    ];
}

/// What operations do.
mod action {
    pub(super) const MAKE_MAP: u64 = 0;
    pub(super) const MAKE_LIST: u64 = 2;
    pub(super) const MAKE_TEXT: u64 = 4;
    pub(super) const INCREMENT: u64 = 5;
    pub(super) const MAKE_TABLE: u64 = 6;
    pub(super) const MARK: u64 = 7;
}

/// The first byte after the columns of a change that names its author.
const AUTHOR: u8 = 1;

pub(super) fn read(content: &[u8], hash: ChangeHash, chunk: Bytes, budget: &mut Budget) -> Result<Change, Error> {
    let mut input = Input(content);
    let deps = input.hashes(budget.hashes.min(MAX_DEPENDENCIES))?;
    let actor = input.actor()?;
    let (seq, start_op) = (input.unsigned()?, input.unsigned()?);
    let _time = input.signed()?;
    let _message = input.text()?;
    let mut actors = input.actors()?;
    let columns = Layout::read(&mut input)?.take(&mut input)?;

    if seq == 0 || start_op == 0 {
        return Err(Error::Number);
    }
    // An actor's author is that of its first change: automerge panics when it is told again.
    if seq > 1 && names_author(input) {
        return Err(Error::Twice("the author of an actor"));
    }
    if has_twice(&deps) {
        return Err(Error::Twice("the list of dependencies"));
    }
    if actors.contains(&actor) {
        return Err(Error::NotCanonical("the list of actors"));
    }
    actors.insert(0, actor);

    let mut change =
        Change { hash, deps, actors, seq, start_op, operations: 0, references: Vec::new(), objects: Vec::new(), chunk };
    Operations::new(&columns)?.read(&mut change, budget)?;
    Ok(change)
}

/// Whether what follows the columns could be taken for an author; `automerge` also reads longer forms of the number.
fn names_author(extra: Input<'_>) -> bool {
    extra.0.first().is_some_and(|byte| byte & 0x7f == AUTHOR)
}

fn has_twice(hashes: &[ChangeHash]) -> bool {
    let mut sorted = hashes.to_vec();
    sorted.sort_unstable();
    !sorted.is_sorted_by(|a, b| a < b)
}

/// The rows of a change's operations.
struct Operations<'a> {
    object_actor: Rle<'a, u64>,
    object_counter: Rle<'a, u64>,
    key_actor: Rle<'a, u64>,
    key_counter: Delta<'a>,
    key_text: Rle<'a, &'a str>,
    insert: Booleans<'a>,
    action: Rle<'a, u64>,
    value: Values<'a>,
    predecessors: Rle<'a, u64>,
    predecessor_actor: Rle<'a, u64>,
    predecessor_counter: Delta<'a>,
    expand: Booleans<'a>,
    mark_name: Rle<'a, &'a str>,
}

/// Which element or key of an object an operation is about.
#[derive(PartialEq)]
enum Key {
    Text,
    Head,
    Element(u64, u64),
}

impl<'a> Operations<'a> {
    fn new(columns: &[(u32, &'a [u8])]) -> Result<Self, Error> {
        for (spec, data) in columns {
            // A column that automerge does not know or would not write is lost when it encodes the change again.
            if !spec::ALL.contains(spec) || data.is_empty() {
                return Err(Error::Column(*spec));
            }
        }
        let data = |spec| columns.iter().find(|(known, _)| *known == spec).map_or(&[][..], |(_, data)| *data);
        Ok(Self {
            object_actor: Rle::new(spec::OBJECT_ACTOR, data(spec::OBJECT_ACTOR)),
            object_counter: Rle::new(spec::OBJECT_COUNTER, data(spec::OBJECT_COUNTER)),
            key_actor: Rle::new(spec::KEY_ACTOR, data(spec::KEY_ACTOR)),
            key_counter: Delta::new(spec::KEY_COUNTER, data(spec::KEY_COUNTER)),
            key_text: Rle::new(spec::KEY_TEXT, data(spec::KEY_TEXT)),
            insert: Booleans::new(spec::INSERT, data(spec::INSERT)),
            action: Rle::new(spec::ACTION, data(spec::ACTION)),
            value: Values { meta: Rle::new(spec::VALUE_META, data(spec::VALUE_META)), raw: Input(data(spec::VALUE)) },
            predecessors: Rle::new(spec::PREDECESSORS, data(spec::PREDECESSORS)),
            predecessor_actor: Rle::new(spec::PREDECESSOR_ACTOR, data(spec::PREDECESSOR_ACTOR)),
            predecessor_counter: Delta::new(spec::PREDECESSOR_COUNTER, data(spec::PREDECESSOR_COUNTER)),
            expand: Booleans::new(spec::EXPAND, data(spec::EXPAND)),
            mark_name: Rle::new(spec::MARK_NAME, data(spec::MARK_NAME)),
        })
    }

    /// Reads every row, and tells the change how many there are, what they make, and to what they refer.
    fn read(&mut self, change: &mut Change, budget: &mut Budget) -> Result<(), Error> {
        let mut referred = vec![false; change.actors.len()];
        // Whether each operation so far inserted an element.
        let mut inserted = Vec::new();
        // A column that is there at all has a value for every row, so this is never more rows than are paid for.
        while !self.action.is_done() {
            spend(&mut budget.operations, 1, "operations")?;
            let id = change.start_op.saturating_add(change.operations);
            if id > MAX_COUNTER {
                return Err(Error::Counter);
            }
            self.read_row(id, change, &mut inserted, &mut referred, budget)?;
            change.operations += 1;
        }
        if change.start_op > MAX_COUNTER {
            return Err(Error::Counter);
        }
        self.done()?;
        if self.insert.has_data() != (change.operations > 0) {
            return Err(Error::NotCanonical("a column"));
        }
        if referred.iter().skip(1).any(|referred| !referred) {
            return Err(Error::NotCanonical("the list of actors"));
        }
        change.references.sort_unstable();
        change.references.dedup();
        // An operation that is used as an object need not be listed as one that only has to be there.
        change.references.dedup_by(|b, a| {
            let same = a.actor == b.actor && a.counter == b.counter && a.object.is_none();
            if same {
                a.object = b.object;
            }
            same
        });
        Ok(())
    }

    fn read_row(
        &mut self,
        id: u64,
        change: &mut Change,
        inserted: &mut Vec<bool>,
        referred: &mut [bool],
        budget: &mut Budget,
    ) -> Result<(), Error> {
        let object = self.read_object()?;
        let key = self.read_key()?;
        let insert = self.insert.next()?;
        let action = self.action.need()?;
        let value = self.value.next()?;
        self.expand.next()?;
        self.mark_name.next()?;

        if action > action::MARK {
            return Err(Error::Value(spec::ACTION));
        }
        if action == action::INCREMENT && !value.is_integer() {
            return Err(Error::Value(spec::VALUE_META));
        }
        let kind = if key == Key::Text { Kind::Map } else { Kind::Sequence };
        // Keys have no order to insert into, and there is nothing at the head of a sequence to change.
        if (insert && kind == Kind::Map) || (!insert && key == Key::Head) {
            return Err(Error::Value(spec::INSERT));
        }
        match object {
            None if kind == Kind::Map => {}
            // The root is a map.
            None => return Err(Error::Reference("an object")),
            Some((actor, counter)) => {
                let made = |change: &Change| change.objects.binary_search(&(counter, kind)).is_ok();
                refer(change, referred, id, (actor, counter), Some(kind), made, "an object")?;
            }
        }
        if let Key::Element(actor, counter) = key {
            let is_element = |change: &Change| inserted.get((counter - change.start_op) as usize) == Some(&true);
            refer(change, referred, id, (actor, counter), None, is_element, "an element")?;
        }
        let count = self.predecessors.need()?;
        spend(&mut budget.predecessors, count, "predecessors")?;
        let mut last = None;
        for _ in 0..count {
            let predecessor = (self.predecessor_counter.need()?, self.predecessor_actor.need()?);
            refer(change, referred, id, (predecessor.1, predecessor.0), None, |_| true, "a predecessor")?;
            if last.is_some_and(|last| order(change, last, predecessor) != Ordering::Less) {
                return Err(Error::NotCanonical("the list of predecessors"));
            }
            last = Some(predecessor);
        }

        inserted.push(insert);
        match action {
            action::MAKE_MAP | action::MAKE_TABLE => change.objects.push((id, Kind::Map)),
            action::MAKE_LIST | action::MAKE_TEXT => change.objects.push((id, Kind::Sequence)),
            _ => {}
        }
        Ok(())
    }

    fn read_object(&mut self) -> Result<Option<(u64, u64)>, Error> {
        match (self.object_actor.next()?, self.object_counter.next()?) {
            (None, None) => Ok(None),
            (Some(actor), Some(counter)) => Ok(Some((actor, counter))),
            _ => Err(Error::Value(spec::OBJECT_COUNTER)),
        }
    }

    fn read_key(&mut self) -> Result<Key, Error> {
        match (self.key_actor.next()?, self.key_counter.next()?, self.key_text.next()?) {
            (None, None, Some(_)) => Ok(Key::Text),
            (None, Some(0), None) => Ok(Key::Head),
            (Some(actor), Some(counter), None) => u64::try_from(counter)
                .map(|counter| Key::Element(actor, counter))
                .map_err(|_| Error::Value(spec::KEY_COUNTER)),
            _ => Err(Error::Value(spec::KEY_TEXT)),
        }
    }

    fn done(&self) -> Result<(), Error> {
        self.object_actor.done_canonically()?;
        self.object_counter.done_canonically()?;
        self.key_actor.done_canonically()?;
        self.key_counter.done_canonically()?;
        self.key_text.done_canonically()?;
        self.insert.done()?;
        self.action.done_canonically()?;
        self.value.meta.done_canonically()?;
        self.value.raw.done("the values")?;
        self.predecessors.done_canonically()?;
        self.predecessor_actor.done_canonically()?;
        self.predecessor_counter.done_canonically()?;
        self.expand.done()?;
        self.mark_name.done_canonically()?;
        // Where no operation expands, automerge leaves that column out.
        if self.expand.has_data() && !self.expand.has_true() {
            return Err(Error::NotCanonical("a column"));
        }
        Ok(())
    }
}

/// The order of predecessors: by counter, then by actor id.
fn order(change: &Change, a: (u64, u64), b: (u64, u64)) -> Ordering {
    let actor = |id: (u64, u64)| change.actors.get(id.1 as usize);
    a.0.cmp(&b.0).then_with(|| actor(a).cmp(&actor(b)))
}

/// Notes what the operation `id` refers to.
///
/// What the change made itself must come before, and be what it is used as; `fits` says whether it is. What others made is
/// for the gate to judge.
fn refer(
    change: &mut Change,
    referred: &mut [bool],
    id: u64,
    (actor, counter): (u64, u64),
    object: Option<Kind>,
    fits: impl Fn(&Change) -> bool,
    what: &'static str,
) -> Result<(), Error> {
    let index = usize::try_from(actor).ok().filter(|index| *index < referred.len()).ok_or(Error::Reference(what))?;
    referred[index] = true;
    if counter == 0 || counter >= id {
        return Err(Error::Reference(what));
    }
    if index > 0 || counter < change.start_op {
        let reference = Reference { actor: actor as u32, counter, object };
        if change.references.last() != Some(&reference) {
            change.references.push(reference);
        }
    } else if !fits(change) {
        return Err(Error::Reference(what));
    }
    Ok(())
}

/// The values of operations: what they are and how long, and their bytes.
struct Values<'a> {
    meta: Rle<'a, u64>,
    raw: Input<'a>,
}

#[derive(Clone, Copy)]
struct ValueKind(u64);

impl ValueKind {
    const BOOLEAN_TRUE: u64 = 2;
    const UNSIGNED: u64 = 3;
    const SIGNED: u64 = 4;
    const FLOAT: u64 = 5;
    const TEXT: u64 = 6;
    const COUNTER: u64 = 8;
    const TIMESTAMP: u64 = 9;

    fn is_integer(self) -> bool {
        matches!(self.0, Self::UNSIGNED | Self::SIGNED)
    }
}

impl Values<'_> {
    fn next(&mut self) -> Result<ValueKind, Error> {
        let meta = self.meta.need()?;
        let (kind, mut bytes) = (meta & 0xf, Input(self.raw.take(meta >> 4)?));
        match kind {
            0..=ValueKind::BOOLEAN_TRUE => bytes.done("a value")?,
            ValueKind::UNSIGNED => {
                bytes.unsigned()?;
                bytes.done("a value")?;
            }
            ValueKind::SIGNED | ValueKind::COUNTER | ValueKind::TIMESTAMP => {
                bytes.signed()?;
                bytes.done("a value")?;
            }
            ValueKind::FLOAT if bytes.0.len() != 8 => return Err(Error::Value(spec::VALUE)),
            ValueKind::TEXT => drop(std::str::from_utf8(bytes.0).map_err(|_| Error::Utf8)?),
            // Bytes, and types that are not known yet, may be anything.
            _ => {}
        }
        Ok(ValueKind(kind))
    }
}
