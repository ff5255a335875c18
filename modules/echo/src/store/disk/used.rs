//! How much the spaces have, and what came with the tokens: rows that are written with the commit that changes them.
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use rusqlite::{Connection, params};

use super::{Fault, Reader, Write, Writer};
use crate::store::{Added, day};

/// A space as the writer knows it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Space {
    pub(super) id: i64,
    /// Bytes of the snapshots and tails of its documents; none when they are to be counted anew.
    bytes: Option<i64>,
}

impl Space {
    /// Takes note that there are so many bytes more, or that this cannot be said.
    pub(super) fn grow(&mut self, by: Option<i64>) {
        self.bytes = self.bytes.zip(by).map(|(bytes, by)| bytes + by);
    }

    fn used(self) -> u64 {
        u64::try_from(self.bytes.unwrap_or_default()).unwrap_or_default()
    }
}

/// The spaces by name, and the latest day that something came with a token.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<(BTreeMap<Arc<str>, Space>, i64)> {
    let mut query = connection.prepare("SELECT name, id, bytes FROM spaces")?;
    let space = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, Space { id: row.get(1)?, bytes: row.get(2)? }));
    let spaces = query.query_map((), space)?.collect::<Result<_, _>>()?;
    let day = connection.query_row("SELECT coalesce(max(day), 0) FROM added", (), |row| row.get(0))?;
    Ok((spaces, day))
}

/// What one commit counts.
pub(super) struct Counted {
    /// The spaces that are written to.
    spaces: BTreeMap<Arc<str>, Space>,
    /// What came with tokens, and on which day.
    tokens: BTreeMap<Arc<str>, (i64, u64)>,
    day: i64,
}

impl Counted {
    /// Nothing yet, on a day or later.
    pub(super) fn new(day: i64) -> Self {
        Self { spaces: BTreeMap::new(), tokens: BTreeMap::new(), day }
    }

    /// The space of this name, which is made if it is not among those that are known.
    pub(super) fn space(
        &mut self,
        transaction: &Connection,
        known: &BTreeMap<Arc<str>, Space>,
        name: &Arc<str>,
    ) -> Result<&mut Space, Fault> {
        let place = match self.spaces.entry(Arc::clone(name)) {
            Entry::Occupied(space) => return Ok(space.into_mut()),
            Entry::Vacant(place) => place,
        };
        if let Some(space) = known.get(name) {
            return Ok(place.insert(*space));
        }
        transaction.execute("INSERT INTO spaces (name) VALUES (?)", [&**name])?;
        Ok(place.insert(Space { id: transaction.last_insert_rowid(), bytes: Some(0) }))
    }

    /// Counts what came with tokens.
    pub(super) fn add(&mut self, write: &Write) {
        let Write::Append { by, at, .. } = write else { return };
        let today = day(*at).cast_signed();
        for (token, bytes) in by {
            let (day, added) = self.tokens.entry(Arc::clone(token)).or_insert((today, 0));
            *added = if *day == today { *added + bytes } else { *bytes };
            *day = today;
        }
    }

    /// Puts what was counted into its rows.
    pub(super) fn write(&mut self, transaction: &Connection) -> Result<(), Fault> {
        for space in self.spaces.values_mut() {
            if space.bytes.is_none() {
                let count = "SELECT coalesce(sum(snapshot + tail), 0) FROM documents WHERE space = ?";
                space.bytes = transaction.query_row(count, [space.id], |row| row.get(0))?;
            }
            let mut update = transaction.prepare_cached("UPDATE spaces SET bytes = ? WHERE id = ?")?;
            update.execute(params![space.bytes, space.id])?;
        }
        for (token, (day, bytes)) in &self.tokens {
            if *day > self.day {
                self.day = *day;
                transaction.execute("DELETE FROM added WHERE day < ?", [day])?;
            }
            let mut insert = transaction.prepare_cached(
                "INSERT INTO added VALUES (?, ?, ?) ON CONFLICT (token) DO UPDATE SET
                 bytes = excluded.bytes + iif(day = excluded.day, bytes, 0), day = excluded.day",
            )?;
            insert.execute(params![token, day, bytes.cast_signed()])?;
        }
        Ok(())
    }
}

impl Writer {
    /// What each space has.
    pub(super) fn used(&self) -> impl Iterator<Item = (Arc<str>, u64)> {
        self.spaces.iter().map(|(name, space)| (Arc::clone(name), space.used()))
    }

    /// Believes what a commit counted, now that it is on disk; returns what the spaces have that it wrote to.
    pub(super) fn count(&mut self, counted: Counted) -> Vec<(Arc<str>, u64)> {
        self.day = counted.day;
        let used = counted.spaces.iter().map(|(name, space)| (Arc::clone(name), space.used())).collect();
        self.spaces.extend(counted.spaces);
        used
    }
}

impl Reader<'_> {
    pub(super) fn added(&self) -> Result<Vec<Added>, Fault> {
        let mut query = self.0.prepare_cached("SELECT token, day, bytes FROM added")?;
        let rows = query.query_map((), |row| {
            let (day, bytes) = (row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
            Ok(Added { token: row.get(0)?, day: day.cast_unsigned(), bytes: bytes.cast_unsigned() })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
