//! Documents that are written beforehand, change by change, so that nothing has to be made while a server is measured.
use anyhow::Result;
use automerge::{
    ActorId, Automerge, Change, ChangeHash, ObjType, ROOT, ReadDoc,
    transaction::{CommitOptions, Transactable},
};

/// One change, as it will be sent.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its hash.
    pub hash: ChangeHash,
    /// Its bytes.
    pub chunk: Vec<u8>,
}

/// A document with one author, who adds items to a list: each change is one item, on top of the change before.
#[derive(Clone, Debug)]
pub struct History {
    /// Its name on the wire.
    pub id: String,
    /// Its changes, each on top of the one before.
    pub changes: Vec<Made>,
    /// The list after the last change.
    items: Vec<String>,
}

/// The list of a document is under this key.
const KEY: &str = "items";

impl History {
    /// Writes a document of that many items, of that many characters each.
    ///
    /// # Errors
    /// `automerge` refuses something.
    pub fn write(number: u64, changes: usize, characters: usize) -> Result<Self> {
        // Text that looks different everywhere, and does not compress to nothing.
        let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut character = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b' ' + (state >> 58) as u8)
        };
        // A UUID of version 4: automerge-repo ignores, without a word, what is about any other name.
        let name = (u128::from(number) << 80 | 0x4000_8000_0000_0000_0000).to_be_bytes();
        let mut document = Automerge::new().with_actor(ActorId::from(name));
        let (mut made, mut items, mut list) = (Vec::with_capacity(changes), Vec::new(), None);
        for _ in 0..changes {
            let item: String = (0..characters).map(|_| character()).collect();
            let mut transaction = document.transaction();
            let list = match &list {
                Some(list) => list,
                None => list.insert(transaction.put_object(ROOT, KEY, ObjType::List)?),
            };
            transaction.insert(list, items.len(), &*item)?;
            transaction.commit_with(CommitOptions::default().with_time(0));
            items.push(item);
            if let Some(change) = document.get_last_local_change() {
                made.push(Made { hash: change.hash(), chunk: change.raw_bytes().to_vec() });
            }
        }
        Ok(Self { id: bs58::encode(name).with_check().into_string(), changes: made, items })
    }

    /// The document as it was after its first changes.
    pub fn first(&self, changes: usize) -> Self {
        Self { id: self.id.clone(), changes: self.changes[..changes].to_vec(), items: self.items[..changes].to_vec() }
    }

    /// Writes many documents.
    ///
    /// # Errors
    /// `automerge` refuses something.
    pub fn write_many(documents: usize, changes: usize, characters: usize) -> Result<Vec<Self>> {
        (0..documents as u64).map(|number| Self::write(number, changes, characters)).collect()
    }

    /// The last change, which is the document's one head.
    pub fn head(&self) -> ChangeHash {
        self.changes[self.changes.len() - 1].hash
    }

    /// The document after its first changes.
    ///
    /// # Errors
    /// `automerge` refuses something.
    pub fn after(&self, changes: usize) -> Result<Automerge> {
        let mut document = Automerge::new();
        let changes = self.changes[..changes].iter().map(|made| Change::from_bytes(made.chunk.clone()));
        document.apply_changes(changes.collect::<Result<Vec<_>, _>>()?)?;
        Ok(document)
    }

    /// Whether a document is this one, after the last change.
    pub fn is(&self, document: &Automerge) -> bool {
        let Ok(Some((_, list))) = document.get(ROOT, KEY) else { return false };
        let item = |index| document.get(&list, index).ok()??.0.into_string().ok();
        document.get_heads() == [self.head()]
            && document.length(&list) == self.items.len()
            && self.items.iter().enumerate().all(|(index, expected)| item(index).as_ref() == Some(expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_replayed_is_the_document() {
        let history = History::write(7, 10, 100).unwrap();
        assert_eq!((history.changes.len(), history.items.concat().len()), (10, 1000));
        assert!(history.is(&history.after(10).unwrap()));
        assert!(!history.is(&history.after(9).unwrap()));
        assert!(history.first(9).is(&history.after(9).unwrap()));
    }
}
