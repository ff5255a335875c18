//! The order in which documents were changed, and how far other KUBEs have followed it.
use rusqlite::{Connection, OptionalExtension, params};

use super::{DocumentId, Fault, Mark, Marks, Reader, Writer};

/// The highest position that was given, as far as it matters: those that were marked count when their documents are gone,
/// because a position that is given again would be passed over.
pub(super) fn position(connection: &Connection) -> rusqlite::Result<i64> {
    let highest = "SELECT max(
        (SELECT coalesce(max(highest), 0) FROM
            (SELECT (SELECT max(position) FROM documents WHERE space = spaces.id) AS highest FROM spaces)),
        (SELECT coalesce(max(sent), 0) FROM mirrors))";
    connection.query_row(highest, (), |row| row.get(0))
}

impl Reader<'_> {
    pub(super) fn after(&self, space: &str, position: u64, most: usize) -> Result<Vec<(u64, DocumentId)>, Fault> {
        let mut query = self.0.prepare_cached(
            "SELECT position, document FROM documents
             WHERE space = (SELECT id FROM spaces WHERE name = ?) AND position > ?
             ORDER BY position LIMIT ?",
        )?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = query.query_map(params![space, position.cast_signed(), most], |row| {
            Ok((row.get::<_, i64>(0)?.cast_unsigned(), DocumentId(row.get(1)?)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn marks(&self, space: &str, peer: &str) -> Result<Marks, Fault> {
        let mut query = self.0.prepare_cached("SELECT sent, received FROM mirrors WHERE space = ? AND peer = ?")?;
        let row =
            query.query_row([space, peer], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).optional()?;
        let (sent, received) = row.unwrap_or_default();
        Ok(Marks { sent: sent.cast_unsigned(), received: received.cast_unsigned() })
    }
}

impl Writer {
    pub(super) fn mark(&mut self, space: &str, peer: &str, mark: Mark) -> Result<(), Fault> {
        let (mark, position) = match mark {
            Mark::Sent(position) => ("sent", position),
            Mark::Received(position) => ("received", position),
        };
        let transaction = self.connection.transaction()?;
        transaction.execute("INSERT OR IGNORE INTO mirrors VALUES (?, ?, 0, 0)", [space, peer])?;
        let update = format!("UPDATE mirrors SET {mark} = ? WHERE space = ? AND peer = ?");
        transaction.execute(&update, params![position.cast_signed(), space, peer])?;
        transaction.commit()?;
        Ok(())
    }
}
