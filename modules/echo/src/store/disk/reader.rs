//! What is asked for one document, and what its checksums say of it.
use automerge::ChangeHash;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Fault;
use crate::{
    sealed::Sealed,
    store::{Key, Outgrown, Summary},
    wire::DocumentId,
};

/// Bytes from which on a snapshot is read without the copy that a query makes of it; to open it takes longer.
const LARGE: u64 = 64 << 10;
/// Bytes of a tail that are not worth a compaction.
const SHORT_TAIL: u32 = 512;

/// Reads at one moment.
pub(super) struct Reader<'a>(pub(super) &'a Connection);

impl Reader<'_> {
    /// The number of a document, and what is known of it.
    pub(super) fn document(&self, key: &Key) -> Result<Option<(i64, Summary)>, Fault> {
        let Some((id, summary)) = self.entry(key)? else { return Ok(None) };
        Ok(Some((id, summary.ok_or(Fault::Checksum("the entry of a document"))?)))
    }

    /// The same, but for what was deleted.
    pub(super) fn living(&self, key: &Key) -> Result<Option<(i64, Summary)>, Fault> {
        Ok(self.document(key)?.filter(|(_, summary)| !summary.deleted))
    }

    /// The number of a document, and what is known of it unless that is damaged.
    pub(super) fn entry(&self, key: &Key) -> Result<Option<(i64, Option<Summary>)>, Fault> {
        let mut query = self.0.prepare_cached(
            "SELECT deleted, next, since, snapshot, tail, changes, changed, revived, heads, documents.sum, documents.id FROM documents
             JOIN spaces ON spaces.id = documents.space WHERE name = ? AND document = ?",
        )?;
        let row = |row: &Row<'_>| Ok((row.get(10)?, summary(row)?));
        Ok(query.query_row(params![&*key.space, key.document.0], row).optional()?)
    }

    pub(super) fn outgrown(&self, after: u64, most: usize) -> Result<Vec<Outgrown>, Fault> {
        let mut query = self.0.prepare_cached(
            "SELECT documents.id, name, document, snapshot + tail FROM documents JOIN spaces ON spaces.id = documents.space
             WHERE documents.id > ? AND tail > ? AND tail > snapshot / 4 AND tail > 4 * changes ORDER BY documents.id LIMIT ?",
        )?;
        let row = |row: &Row<'_>| {
            let key = Key { space: row.get::<_, String>(1)?.into(), document: DocumentId(row.get(2)?) };
            Ok(Outgrown {
                place: row.get::<_, i64>(0)?.cast_unsigned(),
                key,
                bytes: row.get::<_, i64>(3)?.cast_unsigned(),
            })
        };
        let rows = query.query_map(params![after.cast_signed(), SHORT_TAIL, most as i64], row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The snapshot of a document, which is about as large as `size`.
    pub(super) fn snapshot(&self, id: i64, size: u64) -> Result<Option<Vec<u8>>, Fault> {
        let found = if size < LARGE {
            let mut query = self.0.prepare_cached("SELECT chunk, sum FROM snapshots WHERE id = ?")?;
            query.query_row([id], checked).optional()?
        } else {
            let mut query = self.0.prepare_cached("SELECT sum FROM snapshots WHERE id = ?")?;
            let Some(sum) = query.query_row([id], |row| row.get::<_, u32>(0)).optional()? else { return Ok(None) };
            let blob = self.0.blob_open("main", "snapshots", "chunk", id, true)?;
            let mut bytes = vec![0; blob.len()];
            blob.read_at_exact(&mut bytes, 0)?;
            Some((crc32fast::hash(&bytes) == sum).then_some(bytes))
        };
        found.map(|chunk| chunk.ok_or(Fault::Checksum("a snapshot"))).transpose()
    }

    pub(super) fn sealed(&self, id: i64) -> Result<Sealed, Fault> {
        let mut query = self.0.prepare_cached("SELECT sealed, sealed_sum FROM snapshots WHERE id = ?")?;
        match query.query_row([id], checked).optional()? {
            Some(row) => Ok(Sealed::decode(&row.ok_or(Fault::Checksum("what is kept beside a snapshot"))?)?),
            None => Ok(Sealed::default()),
        }
    }

    pub(super) fn tail(&self, id: i64) -> Result<Vec<Vec<u8>>, Fault> {
        let mut query = self.0.prepare_cached("SELECT chunk, sum FROM tail WHERE document = ? ORDER BY number")?;
        let rows = query.query_map([id], checked)?;
        rows.map(|row| row?.ok_or(Fault::Checksum("a change"))).collect()
    }

    pub(super) fn aside(&self, id: i64) -> Result<Vec<ChangeHash>, Fault> {
        let mut query = self.0.prepare_cached("SELECT hash FROM aside WHERE document = ?")?;
        let rows = query.query_map([id], |row| Ok(ChangeHash(row.get(0)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// The bytes in the first column, if the second is their checksum.
fn checked(row: &Row<'_>) -> rusqlite::Result<Option<Vec<u8>>> {
    let bytes = row.get_ref(0)?.as_blob()?;
    let matches = crc32fast::hash(bytes) == row.get::<_, u32>(1)?;
    Ok(matches.then(|| bytes.to_vec()))
}

/// What is known of a document, from the columns of its entry: none if their checksum is another.
pub(super) fn summary(row: &Row<'_>) -> rusqlite::Result<Option<Summary>> {
    let number = |column| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)?.cast_unsigned());
    let summary = Summary {
        deleted: number(0)? != 0,
        next: number(1)?,
        since: number(2)?,
        snapshot: number(3)?,
        tail: number(4)?,
        changes: number(5)?,
        changed: number(6)?,
        revived: number(7)?,
        heads: row.get_ref(8)?.as_blob()?.as_chunks::<32>().0.iter().map(|head| ChangeHash(*head)).collect(),
    };
    let matches = row.get::<_, u32>(9)? == summary.sum();
    Ok(matches.then_some(summary))
}

impl Summary {
    /// What its document counts for in its space.
    pub(super) fn bytes(&self) -> i64 {
        (self.snapshot + self.tail).cast_signed()
    }

    /// The checksum of its entry.
    pub(super) fn sum(&self) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        let Self { deleted, next, since, snapshot, tail, changes, changed, revived, heads } = self;
        for number in [u64::from(*deleted), *next, *since, *snapshot, *tail, *changes, *changed, *revived] {
            sum.update(&number.to_le_bytes());
        }
        for head in heads {
            sum.update(&head.0);
        }
        sum.finalize()
    }
}
