//! What only people who look after the store ask: lists, and rows as they are.
use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::{
    Fault,
    reader::{Reader, summary},
};
use crate::{
    store::{Key, Listed, Row, Rows},
    wire::DocumentId,
};

impl Reader<'_> {
    pub(super) fn list(&self, space: Option<&str>, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>, Fault> {
        let mut listed = Vec::new();
        // From here on, the space itself included.
        let from = space.or(after.map(|after| &*after.space)).unwrap_or_default();
        let mut spaces = self.0.prepare_cached("SELECT id, name FROM spaces WHERE name >= ? ORDER BY name")?;
        let mut spaces = spaces.query([from])?;
        while let Some(row) = spaces.next()? {
            let (id, name) = (row.get::<_, i64>(0)?, row.get::<_, Arc<str>>(1)?);
            let room = limit - listed.len();
            if room == 0 || space.is_some_and(|space| space != &*name) {
                break;
            }
            let after = after.filter(|after| after.space == name).map_or(&[][..], |after| &after.document.0);
            let mut query = self.0.prepare_cached(
                "SELECT deleted, next, since, snapshot, tail, changes, changed, revived, heads, sum, document FROM documents
                 WHERE space = ? AND document > ? AND deleted = 0 ORDER BY document LIMIT ?",
            )?;
            let rows = query.query_map(params![id, after, i64::try_from(room).unwrap_or(i64::MAX)], |row| {
                let document = DocumentId(row.get(10)?);
                Ok(Listed { key: Key { space: Arc::clone(&name), document }, summary: summary(row)? })
            })?;
            for row in rows {
                listed.push(row?);
            }
        }
        Ok(listed)
    }

    pub(super) fn find(&self, document: DocumentId) -> Result<Vec<Listed>, Fault> {
        let mut query = self.0.prepare_cached(
            "SELECT deleted, next, since, snapshot, tail, changes, changed, revived, heads, documents.sum, name FROM spaces
             JOIN documents ON documents.space = spaces.id WHERE document = ? AND deleted = 0 ORDER BY name",
        )?;
        let rows = query.query_map([document.0], |row| {
            Ok(Listed { key: Key { space: row.get(10)?, document }, summary: summary(row)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn rows(&self, key: &Key) -> Result<Option<Rows>, Fault> {
        let Some((id, summary)) = self.entry(key)? else { return Ok(None) };
        if summary.as_ref().is_some_and(|summary| summary.deleted) {
            return Ok(None);
        }
        let one = |query: &str| self.0.prepare_cached(query)?.query_row([id], row).optional();
        let many = |query: &str| self.0.prepare_cached(query)?.query_map([id], row)?.collect::<Result<_, _>>();
        Ok(Some(Rows {
            summary,
            snapshot: one("SELECT chunk, sum FROM snapshots WHERE id = ?")?,
            sealed: one("SELECT sealed, sealed_sum FROM snapshots WHERE id = ?")?,
            tail: many("SELECT chunk, sum FROM tail WHERE document = ? ORDER BY number")?,
            aside: many("SELECT chunk, sum FROM aside WHERE document = ?")?,
        }))
    }
}

/// The bytes in the first column, and whether the second is their checksum.
fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let bytes: Vec<u8> = row.get(0)?;
    let is_sound = crc32fast::hash(&bytes) == row.get::<_, u32>(1)?;
    Ok(Row { bytes, is_sound })
}
