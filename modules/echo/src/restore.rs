//! Pure: the change that makes a document as it once was.
//!
//! *The revert rule*: history stays, and the change builds on all of it. Objects that were there then and are there now stay
//! the same objects, so that what others do to them meanwhile is merged with it.
use std::collections::{BTreeMap, HashMap};

use automerge::{
    ActorId, Automerge, AutomergeError, ObjId, ObjType, ROOT, ReadDoc, ScalarValue, Span, Value,
    marks::UpdateSpansConfig,
    transaction::{CommitOptions, Transactable, Transaction},
};

use crate::{
    content::{self, TooDeep},
    history::{self, NoPoint, Point},
};

/// Why a document is not restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRestored {
    #[error(transparent)]
    NoPoint(#[from] NoPoint),
    #[error(transparent)]
    TooDeep(#[from] TooDeep),
    #[error("automerge cannot make it as it was: {0}")]
    Automerge(#[from] AutomergeError),
    #[error("it came out otherwise than it was")]
    Differs,
}

/// The chunk of a change after which `document` holds what it held at `point`; none if it does already.
///
/// # Errors
/// There is no such point, or the document is nested too deep.
pub(crate) fn change(
    mut document: Automerge,
    point: &Point,
    author: ActorId,
    seconds: i64,
) -> Result<Option<Vec<u8>>, NotRestored> {
    let then = document.fork_at(&history::heads(&document, point)?)?;
    let wanted = content::json(&then)?;
    content::json(&document)?;
    document.set_actor(author);
    let mut transaction = document.transaction();
    Restore { then: &then }.object(&mut transaction, &ROOT, &ROOT, ObjType::Map)?;
    if transaction.pending_ops() == 0 {
        return Ok(None);
    }
    let options = CommitOptions::default().with_message(format!("restored as of {point}")).with_time(seconds);
    let (hash, _) = transaction.commit_with(options);
    if content::json(&document)? != wanted {
        return Err(NotRestored::Differs);
    }
    let made = hash.and_then(|hash| document.get_change_by_hash(&hash));
    Ok(made.map(|change| change.raw_bytes().to_vec()))
}

struct Restore<'a> {
    then: &'a Automerge,
}

/// Where something is put.
#[derive(Clone, Copy)]
enum Place<'a> {
    Key(&'a str),
    Before(usize),
}

/// A value, and the operation that made it.
struct Item {
    value: Value<'static>,
    id: ObjId,
}

impl Restore<'_> {
    /// Makes an object of a kind as that of `then` was.
    fn object(
        &self,
        now: &mut Transaction<'_>,
        object: &ObjId,
        then: &ObjId,
        kind: ObjType,
    ) -> Result<(), AutomergeError> {
        match kind {
            ObjType::Map | ObjType::Table => self.map(now, object, then),
            ObjType::List => self.list(now, object, then),
            ObjType::Text => self.text(now, object, then),
        }
    }

    fn map(&self, now: &mut Transaction<'_>, object: &ObjId, then: &ObjId) -> Result<(), AutomergeError> {
        let (before, wanted) = (map(now, object), map(self.then, then));
        for key in before.keys().filter(|key| !wanted.contains_key(*key)) {
            now.delete(object, key.as_str())?;
        }
        for (key, item) in &wanted {
            match before.get(key) {
                Some(old) if old.id == item.id && self.can_stay(now, item) => {
                    self.stay(now, object, key.as_str(), old, item)?;
                }
                Some(old) if old.value.is_scalar() && old.value == item.value => {}
                _ => self.put(now, object, Place::Key(key), item)?,
            }
        }
        Ok(())
    }

    /// Elements never move: those that there are now and were there then are in the same order.
    fn list(&self, now: &mut Transaction<'_>, object: &ObjId, then: &ObjId) -> Result<(), AutomergeError> {
        let (before, wanted) = (list(now, object), list(self.then, then));
        let places: HashMap<_, _> = before.iter().enumerate().map(|(place, item)| (&item.id, place)).collect();
        // Where we are in the list as it was before, and as it is by now.
        let (mut next, mut index) = (0, 0);
        for item in &wanted {
            match places.get(&item.id).copied().filter(|place| *place >= next) {
                Some(place) if self.can_stay(now, item) => {
                    for _ in next..place {
                        now.delete(object, index)?;
                    }
                    self.stay(now, object, index, &before[place], item)?;
                    next = place + 1;
                }
                _ => self.put(now, object, Place::Before(index), item)?,
            }
            index += 1;
        }
        for _ in next..before.len() {
            now.delete(object, index)?;
        }
        Ok(())
    }

    /// Whether something that is there now can be made as it was; a text with marks that differs is made anew, because
    /// marks that grow with what is put beside them would.
    fn can_stay(&self, now: &Transaction<'_>, item: &Item) -> bool {
        if !matches!(item.value, Value::Object(ObjType::Text)) {
            return true;
        }
        let (is, was) = (spans(now, &item.id), spans(self.then, &item.id));
        (is_plain(&is) && is_plain(&was)) || is == was
    }

    /// Makes what is there now as it was then.
    fn stay<P: Into<automerge::Prop>>(
        &self,
        now: &mut Transaction<'_>,
        parent: &ObjId,
        place: P,
        old: &Item,
        item: &Item,
    ) -> Result<(), AutomergeError> {
        match &item.value {
            Value::Object(kind) => self.object(now, &item.id, &item.id, *kind),
            Value::Scalar(_) => match (counter(&old.value), counter(&item.value)) {
                (Some(is), Some(was)) if is != was => now.increment(parent, place, was.wrapping_sub(is)),
                _ => Ok(()),
            },
        }
    }

    /// Makes something anew.
    fn put(
        &self,
        now: &mut Transaction<'_>,
        parent: &ObjId,
        place: Place<'_>,
        item: &Item,
    ) -> Result<(), AutomergeError> {
        match &item.value {
            Value::Object(kind) => {
                let made = match place {
                    Place::Key(key) => now.put_object(parent, key, *kind)?,
                    Place::Before(index) => now.insert_object(parent, index, *kind)?,
                };
                self.object(now, &made, &item.id, *kind)
            }
            Value::Scalar(value) => {
                // A counter begins anew where it stood.
                let value = counter(&item.value).map_or_else(|| value.as_ref().clone(), ScalarValue::counter);
                match place {
                    Place::Key(key) => now.put(parent, key, value),
                    Place::Before(index) => now.insert(parent, index, value),
                }
            }
        }
    }

    fn text(&self, now: &mut Transaction<'_>, object: &ObjId, then: &ObjId) -> Result<(), AutomergeError> {
        let was = spans(self.then, then);
        if !is_plain(&was) {
            let is = spans(now, object);
            return if is == was { Ok(()) } else { now.update_spans(object, UpdateSpansConfig::default(), was) };
        }
        let [is, was] = [now.text(object)?, self.then.text(then)?].map(|text| text.chars().collect::<Vec<_>>());
        let start = is.iter().zip(&was).take_while(|(is, was)| is == was).count();
        let (is, was) = (&is[start..], &was[start..]);
        let end = is.iter().rev().zip(was.iter().rev()).take_while(|(is, was)| is == was).count();
        let (is, was) = (&is[..is.len() - end], &was[..was.len() - end]);
        if is.is_empty() && was.is_empty() {
            return Ok(());
        }
        now.splice_text(object, start, is.len().cast_signed(), &was.iter().collect::<String>())
    }
}

fn map(document: &impl ReadDoc, object: &ObjId) -> BTreeMap<String, Item> {
    content::entries(document, object).into_iter().map(|(key, value, id)| (key, Item { value, id })).collect()
}

fn list(document: &impl ReadDoc, object: &ObjId) -> Vec<Item> {
    content::elements(document, object).into_iter().map(|(value, id)| Item { value, id }).collect()
}

fn spans(document: &impl ReadDoc, text: &ObjId) -> Vec<Span> {
    document.spans(text).map(Iterator::collect).unwrap_or_default()
}

/// Whether a text has neither marks nor blocks.
fn is_plain(spans: &[Span]) -> bool {
    spans.iter().all(|span| match span {
        Span::Text { marks, .. } => marks.as_ref().is_none_or(|marks| marks.is_empty()),
        Span::Block(_) => false,
    })
}

fn counter(value: &Value<'_>) -> Option<i64> {
    let ScalarValue::Counter(counter) = value.as_scalar()? else { return None };
    Some(counter.into())
}

#[cfg(test)]
mod tests {
    use automerge::AutoCommit;
    use proptest::prelude::*;

    use super::*;
    use crate::reader::{Limits, read_chunks, tests::history::documents};

    proptest! {
        #[test]
        fn whatever_happened_a_document_is_made_as_it_was_by_one_change(
            documents in documents(40),
            point: prop::sample::Index,
        ) {
            for document in &documents {
                let changes = document.get_changes_meta(&[]);
                if changes.is_empty() {
                    continue;
                }
                let head = point.get(&changes).hash;
                let then = document.fork_at(&[head]).unwrap();
                let made = change(document.clone(), &Point::Heads(vec![head.to_string()]), ActorId::from([7; 16]), 5);
                let mut restored = document.clone();
                if let Some(chunk) = made.unwrap() {
                    let (read, _) = read_chunks(&chunk, &Limits::default()).unwrap();
                    prop_assert_eq!(read.len(), 1);
                    prop_assert_eq!(&read[0].deps, &document.get_heads());
                    restored.load_incremental(&chunk).unwrap();
                }
                prop_assert_eq!(content::json(&restored), content::json(&then));
                let again = Automerge::load(&restored.save()).unwrap();
                prop_assert_eq!(again.get_heads(), restored.get_heads());
            }
        }
    }

    #[test]
    fn objects_that_are_still_there_stay_so_that_others_changes_are_merged() {
        let mut document = AutoCommit::new();
        let text = document.put_object(ROOT, "text", ObjType::Text).unwrap();
        document.splice_text(&text, 0, 0, "Dear diary").unwrap();
        let list = document.put_object(ROOT, "list", ObjType::List).unwrap();
        for (index, item) in ["a", "b", "c"].into_iter().enumerate() {
            document.insert(&list, index, item).unwrap();
        }
        document.put(ROOT, "count", ScalarValue::counter(5)).unwrap();
        let then = document.get_heads();
        document.splice_text(&text, 5, 5, "friend").unwrap();
        document.delete(&list, 0).unwrap();
        document.increment(ROOT, "count", 3).unwrap();
        document.put(ROOT, "new", 1).unwrap();
        document.commit();
        let mut other = document.fork();
        other.splice_text(&text, 0, 0, "> ").unwrap();
        other.insert(&list, 2, "d").unwrap();
        other.increment(ROOT, "count", 1).unwrap();

        let now = Automerge::load(&document.save()).unwrap();
        let point = Point::Heads(then.iter().map(ToString::to_string).collect());
        let chunk = change(now, &point, ActorId::from([7; 16]), 5).unwrap().unwrap();
        other.load_incremental(&chunk).unwrap();
        let expected = serde_json::json!({"text": "> Dear diary", "list": ["a", "b", "c", "d"], "count": 6});
        assert_eq!(content::json(&other), Ok(expected));
    }

    #[test]
    fn marks_come_back_too() {
        let mut document = AutoCommit::new();
        let text = document.put_object(ROOT, "text", ObjType::Text).unwrap();
        document.splice_text(&text, 0, 0, "bold and plain").unwrap();
        let mark = automerge::marks::Mark::new("bold".to_owned(), true, 0, 4);
        document.mark(&text, mark, automerge::marks::ExpandMark::Both).unwrap();
        let then = document.get_heads();
        document.splice_text(&text, 0, 14, "gone").unwrap();
        let now = Automerge::load(&document.save()).unwrap();
        let point = Point::Heads(then.iter().map(ToString::to_string).collect());
        let chunk = change(now, &point, ActorId::from([7; 16]), 5).unwrap().unwrap();
        document.load_incremental(&chunk).unwrap();
        let (_, text) = document.get(ROOT, "text").unwrap().unwrap();
        let marks = document.marks(&text).unwrap();
        assert_eq!((document.text(&text).unwrap().as_str(), marks[0].start, marks[0].end), ("bold and plain", 0, 4));
    }

    #[test]
    fn what_is_as_it_was_needs_no_change() {
        let mut document = AutoCommit::new();
        document.put(ROOT, "key", 1).unwrap();
        let point = Point::Heads(vec![document.get_heads()[0].to_string()]);
        let document = Automerge::load(&document.save()).unwrap();
        assert_eq!(change(document, &point, ActorId::from([7; 16]), 5).unwrap(), None);
    }
}
