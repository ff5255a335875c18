//! The tables of a new database; what they hold is said in [`crate::store`].

pub(super) const SCHEMA: &str = "
    BEGIN;
    CREATE TABLE about (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE spaces (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE documents (
        id INTEGER PRIMARY KEY, space INTEGER NOT NULL, document BLOB NOT NULL, deleted INTEGER NOT NULL,
        next INTEGER NOT NULL, since INTEGER NOT NULL, snapshot INTEGER NOT NULL, tail INTEGER NOT NULL,
        changes INTEGER NOT NULL, changed INTEGER NOT NULL, revived INTEGER NOT NULL, heads BLOB NOT NULL, sum INTEGER NOT NULL,
        position INTEGER NOT NULL DEFAULT 0,
        UNIQUE (space, document)
    ) STRICT;
    CREATE INDEX positions ON documents (space, position);
    CREATE TABLE snapshots (
        id INTEGER PRIMARY KEY,
        sealed_sum INTEGER NOT NULL, sum INTEGER NOT NULL, sealed BLOB NOT NULL, chunk BLOB NOT NULL
    ) STRICT;
    CREATE TABLE tail (
        document INTEGER NOT NULL, number INTEGER NOT NULL, chunk BLOB NOT NULL, sum INTEGER NOT NULL,
        PRIMARY KEY (document, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE aside (
        document INTEGER NOT NULL, hash BLOB NOT NULL, chunk BLOB NOT NULL, sum INTEGER NOT NULL,
        PRIMARY KEY (document, hash)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE mirrors (
        space TEXT NOT NULL, peer TEXT NOT NULL, sent INTEGER NOT NULL, received INTEGER NOT NULL,
        PRIMARY KEY (space, peer)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE added (
        token TEXT PRIMARY KEY, day INTEGER NOT NULL, bytes INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    COMMIT;
";
