//! Pure: document chunks: sizes, rows and the graph of changes, without decoding operations.
use automerge::ActorId;
use bytes::Bytes;

use super::{
    Budget, Document, Error, MAX_COUNTER, MAX_DEPENDENCIES,
    change::spec,
    chunk,
    columns::{Booleans, DEFLATED, Delta, Layout, Rle, Run},
    input::Input,
    spend,
};

/// The columns of operations that only documents have.
const ID_ACTOR: u32 = 0x21;
const ID_COUNTER: u32 = 0x23;
const SUCCESSORS: u32 = 0x80;
const SUCCESSOR_ACTOR: u32 = 0x81;
const SUCCESSOR_COUNTER: u32 = 0x83;

/// The columns of changes.
const ACTOR: u32 = 0x01;
const SEQ: u32 = 0x03;
const MAX_OP: u32 = 0x13;
const TIME: u32 = 0x23;
const MESSAGE: u32 = 0x35;
const DEPENDENCIES: u32 = 0x40;
const DEPENDENCY: u32 = 0x43;
const EXTRA_META: u32 = 0x56;
const EXTRA: u32 = 0x57;

pub(super) fn read(content: &[u8], chunk: &[u8], budget: &mut Budget) -> Result<Document, Error> {
    let mut input = Input(content);
    let actors = input.actors()?;
    let heads = input.hashes(budget.hashes)?;
    let layouts = (Layout::read(&mut input)?, Layout::read(&mut input)?);
    let before = budget.inflated;
    let changes = inflate(layouts.0.take(&mut input)?, budget)?;
    let operations = inflate(layouts.1.take(&mut input)?, budget)?;
    // Old clients leave out where the heads are among the changes.
    let mut head_indexes = Vec::new();
    if !input.is_empty() {
        head_indexes = (0..heads.len()).map(|_| input.unsigned()).collect::<Result<_, _>>()?;
    }
    input.done("a document")?;

    let changes = read_changes(&Columns(&changes), &actors, budget)?;
    let operations = read_operations(&Columns(&operations), actors.len() as u64, budget)?;
    if head_indexes.iter().any(|index| *index >= changes) {
        return Err(Error::Reference("a head"));
    }
    let inflated = content.len() + (before - budget.inflated);
    Ok(Document { heads, actors, changes, operations, inflated, chunk: Bytes::copy_from_slice(chunk) })
}

/// The data of a column, inflated if it was deflated.
type Column<'a> = (u32, std::borrow::Cow<'a, [u8]>);

fn inflate<'a>(columns: Vec<(u32, &'a [u8])>, budget: &mut Budget) -> Result<Vec<Column<'a>>, Error> {
    let inflate = |(spec, data): (u32, &'a [u8])| match spec & DEFLATED {
        0 => Ok((spec, data.into())),
        _ => Ok((spec & !DEFLATED, chunk::inflate(data, &mut budget.inflated)?.into())),
    };
    columns.into_iter().map(inflate).collect()
}

struct Columns<'a>(&'a [Column<'a>]);

impl Columns<'_> {
    fn get(&self, spec: u32) -> &[u8] {
        self.0.iter().find(|(known, _)| *known == spec).map_or(&[], |(_, data)| data)
    }

    fn rle<'a, V: super::columns::Value<'a>>(&'a self, spec: u32) -> Rle<'a, V> {
        Rle::new(spec, self.get(spec))
    }

    fn delta(&self, spec: u32) -> Delta<'_> {
        Delta::new(spec, self.get(spec))
    }
}

/// Reads the table of changes: each follows the one before of its actor, and comes after what it depends on.
fn read_changes(columns: &Columns<'_>, actors: &[ActorId], budget: &mut Budget) -> Result<u64, Error> {
    let mut actor = columns.rle::<u64>(ACTOR);
    let (mut seq, mut max_op) = (columns.delta(SEQ), columns.delta(MAX_OP));
    let (mut time, mut message) = (columns.delta(TIME), columns.rle::<&str>(MESSAGE));
    let (mut dependencies, mut dependency) = (columns.rle::<u64>(DEPENDENCIES), columns.delta(DEPENDENCY));
    let (mut extra_meta, mut extra) = (columns.rle::<u64>(EXTRA_META), Input(columns.get(EXTRA)));

    let mut last = vec![(0, 0); actors.len()];
    let mut max_ops = Vec::new();
    while !actor.is_done() {
        spend(&mut budget.changes, 1, "changes")?;
        let (actor, seq, max_op) = (actor.need()?, seq.need()?, max_op.need()?);
        time.next()?;
        message.next()?;
        extra.take(extra_meta.next()?.unwrap_or(0) >> 4)?;

        let index = usize::try_from(actor).ok().filter(|index| *index < last.len());
        let (last_seq, last_op) = last.get_mut(index.ok_or(Error::Reference("an actor"))?).ok_or(Error::Truncated)?;
        if seq != *last_seq + 1 {
            return Err(Error::Order("sequence number"));
        }
        if max_op > MAX_COUNTER {
            return Err(Error::Counter);
        }
        let mut before = *last_op;
        let count = dependencies.next()?.unwrap_or(0);
        if count > MAX_DEPENDENCIES as u64 {
            return Err(Error::TooMany("hashes"));
        }
        spend(&mut budget.dependencies, count, "dependencies")?;
        for _ in 0..count {
            let index = dependency.need()?;
            let of_it = usize::try_from(index).ok().and_then(|index| max_ops.get(index).copied());
            before = before.max(of_it.ok_or(Error::Reference("a dependency"))?);
        }
        // A change without operations ends where it begins.
        if max_op < before {
            return Err(Error::Order("last counter"));
        }
        (*last_seq, *last_op) = (seq, max_op);
        max_ops.push(max_op);
    }
    seq.done()?;
    max_op.done()?;
    time.done()?;
    message.done()?;
    dependencies.done()?;
    dependency.done()?;
    extra_meta.done()?;
    extra.done("the footers of changes")?;
    Ok(max_ops.len() as u64)
}

/// Reads the table of operations run by run: it claims no more rows than are paid for, and the same in all columns.
fn read_operations(columns: &Columns<'_>, actors: u64, budget: &mut Budget) -> Result<u64, Error> {
    let index = |spec| {
        let valid = move |actor: &u64| *actor < actors;
        move |actor: Option<u64>| if actor.is_none_or(|actor| valid(&actor)) { Ok(0) } else { Err(Error::Value(spec)) }
    };
    let anything = |_: Option<u64>| Ok(0);
    let texts = |_: Option<&str>| Ok(0);
    let amount = |value: Option<u64>| Ok(value.unwrap_or(0));
    let counter = MAX_COUNTER as i64;

    let (rows, _) = sum(columns.rle(ID_ACTOR), index(ID_ACTOR))?;
    spend(&mut budget.operations, rows, "operations")?;
    let same = |spec, found: u64| {
        // A column may be left out where it says nothing.
        if found == rows || (columns.get(spec).is_empty() && found == 0) { Ok(()) } else { Err(Error::Rows(spec)) }
    };
    same(ID_COUNTER, columns.delta(ID_COUNTER).count(counter)?)?;
    same(spec::OBJECT_ACTOR, sum(columns.rle(spec::OBJECT_ACTOR), index(spec::OBJECT_ACTOR))?.0)?;
    same(spec::OBJECT_COUNTER, sum(columns.rle(spec::OBJECT_COUNTER), anything)?.0)?;
    same(spec::KEY_ACTOR, sum(columns.rle(spec::KEY_ACTOR), index(spec::KEY_ACTOR))?.0)?;
    same(spec::KEY_COUNTER, columns.delta(spec::KEY_COUNTER).count(counter)?)?;
    same(spec::KEY_TEXT, sum(columns.rle(spec::KEY_TEXT), texts)?.0)?;
    same(spec::INSERT, Booleans::new(spec::INSERT, columns.get(spec::INSERT)).count()?)?;
    same(spec::ACTION, sum(columns.rle(spec::ACTION), anything)?.0)?;
    same(spec::EXPAND, Booleans::new(spec::EXPAND, columns.get(spec::EXPAND)).count()?)?;
    same(spec::MARK_NAME, sum(columns.rle(spec::MARK_NAME), texts)?.0)?;

    let (metas, length) = sum(columns.rle(spec::VALUE_META), |meta: Option<u64>| Ok(meta.unwrap_or(0) >> 4))?;
    same(spec::VALUE_META, metas)?;
    if length != columns.get(spec::VALUE).len() as u64 {
        return Err(Error::Value(spec::VALUE));
    }

    let (groups, successors) = sum(columns.rle(SUCCESSORS), amount)?;
    same(SUCCESSORS, groups)?;
    spend(&mut budget.predecessors, successors, "predecessors")?;
    let (successor_actors, _) = sum(columns.rle(SUCCESSOR_ACTOR), index(SUCCESSOR_ACTOR))?;
    if successor_actors != successors || columns.delta(SUCCESSOR_COUNTER).count(counter)? != successors {
        return Err(Error::Rows(SUCCESSOR_ACTOR));
    }
    Ok(rows)
}

/// The number of rows of a column, and the sum of `weight` over them, without unrolling its runs.
fn sum<'a, V: super::columns::Value<'a>>(
    mut column: Rle<'a, V>,
    weight: impl Fn(Option<V>) -> Result<u64, Error>,
) -> Result<(u64, u64), Error> {
    let (mut rows, mut sum) = (0u64, 0u64);
    while let Some(Run { value, length }) = column.next_run()? {
        let added = weight(value)?.checked_mul(length).and_then(|added| sum.checked_add(added));
        sum = added.ok_or(Error::TooMany("rows"))?;
        rows = rows.checked_add(length).ok_or(Error::TooMany("rows"))?;
    }
    Ok((rows, sum))
}
