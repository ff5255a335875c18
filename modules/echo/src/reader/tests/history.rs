//! Random histories of documents, made by `automerge` itself.
use automerge::{
    ActorId, AutoCommit, Automerge, ObjId, ObjType, ROOT, ReadDoc, ScalarValue,
    marks::{ExpandMark, Mark},
    transaction::{CommitOptions, Transactable},
};
use proptest::prelude::*;

/// What one of the authors does next. Numbers choose among what there is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Put(u8, Scalar),
    Make(u8, u8, u8),
    Insert(u8, u8, Scalar),
    Type(u8, u8, u8, String),
    Delete(u8, u8),
    Increment(u8, i8),
    Mark(u8, u8, u8),
    Commit(Option<String>),
    Empty,
    Merge(u8),
}

#[derive(Clone, Debug)]
pub(crate) enum Scalar {
    Text(String),
    Big(u16),
    Bytes(Vec<u8>),
    Int(i64),
    Uint(u64),
    Float(f64),
    Bool(bool),
    Null,
    Counter(i64),
    Timestamp(i64),
}

impl From<Scalar> for ScalarValue {
    fn from(value: Scalar) -> Self {
        match value {
            Scalar::Text(text) => text.into(),
            Scalar::Big(length) => "lorem ipsum ".repeat(usize::from(length)).into(),
            Scalar::Bytes(bytes) => Self::Bytes(bytes),
            Scalar::Int(value) => Self::Int(value),
            Scalar::Uint(value) => Self::Uint(value),
            Scalar::Float(value) => Self::F64(value),
            Scalar::Bool(value) => Self::Boolean(value),
            Scalar::Null => Self::Null,
            Scalar::Counter(value) => Self::counter(value),
            Scalar::Timestamp(value) => Self::Timestamp(value),
        }
    }
}

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        ".{0,12}".prop_map(Scalar::Text),
        (0..400u16).prop_map(Scalar::Big),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Scalar::Bytes),
        any::<i64>().prop_map(Scalar::Int),
        any::<u64>().prop_map(Scalar::Uint),
        any::<f64>().prop_map(Scalar::Float),
        any::<bool>().prop_map(Scalar::Bool),
        Just(Scalar::Null),
        (-1000..1000i64).prop_map(Scalar::Counter),
        any::<i64>().prop_map(Scalar::Timestamp),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<u8>;
    prop_oneof![
        3 => (any(), scalar()).prop_map(|(key, value)| Step::Put(key, value)),
        2 => (any(), any(), any()).prop_map(|(at, key, kind)| Step::Make(at, key, kind)),
        3 => (any(), any(), scalar()).prop_map(|(at, index, value)| Step::Insert(at, index, value)),
        4 => (any(), any(), any(), ".{0,30}").prop_map(|(at, index, delete, text)| Step::Type(at, index, delete, text)),
        2 => (any(), any()).prop_map(|(at, index)| Step::Delete(at, index)),
        2 => (any(), proptest::num::i8::ANY).prop_map(|(key, by)| Step::Increment(key, by)),
        1 => (any(), any(), any()).prop_map(|(at, from, to)| Step::Mark(at, from, to)),
        4 => prop::option::of(".{0,20}").prop_map(Step::Commit),
        1 => Just(Step::Empty),
        2 => any().prop_map(Step::Merge),
    ]
}

/// The documents of up to four authors, after up to `steps` steps of any of them.
pub(crate) fn documents(steps: usize) -> impl Strategy<Value = Vec<Automerge>> {
    (1..5usize, prop::collection::vec((any::<u8>(), step()), 1..steps)).prop_map(|(authors, steps)| {
        // Ids of different lengths, that do not come in the order of their authors.
        let actor = |n: usize| ActorId::from(&vec![0xf0 - n as u8; 16 + n % 2]);
        let mut documents: Vec<_> = (0..authors).map(|n| AutoCommit::new().with_actor(actor(n))).collect();
        for (who, step) in steps {
            let who = usize::from(who) % authors;
            if let Step::Merge(other) = step {
                let other = &mut documents[usize::from(other) % authors];
                // What is open would be committed twice: in the copy, and later in the document.
                other.commit();
                let mut other = other.clone();
                documents[who].merge(&mut other).unwrap();
            } else {
                act(&mut documents[who], step);
            }
        }
        documents.into_iter().map(|mut document| document.document().clone()).collect()
    })
}

/// The objects of a document that can be reached, with their kinds.
fn objects(document: &AutoCommit) -> Vec<(ObjId, ObjType)> {
    let mut found = vec![(ROOT, ObjType::Map)];
    let mut at = 0;
    while at < found.len() {
        let (object, _) = found[at].clone();
        found.extend(document.values(&object).filter_map(|(value, id)| value.to_objtype().map(|kind| (id, kind))));
        at += 1;
    }
    found
}

fn act(document: &mut AutoCommit, step: Step) {
    let all = objects(document);
    let choose = |at: u8, wanted: &dyn Fn(ObjType) -> bool| {
        let fitting: Vec<_> = all.iter().filter(|(_, kind)| wanted(*kind)).collect();
        (!fitting.is_empty()).then(|| fitting[usize::from(at) % fitting.len()].0.clone())
    };
    let within = |at: u8, length: usize| usize::from(at) % (length + 1);
    let key = |key: u8| format!("key {}", key % 5);
    match step {
        Step::Put(at, value) => {
            let object = choose(at, &|kind| !kind.is_sequence()).unwrap();
            document.put(&object, key(at), value).unwrap();
        }
        Step::Make(at, name, kind) => {
            let kind = [ObjType::Map, ObjType::List, ObjType::Text][usize::from(kind) % 3];
            let object = choose(at, &|_| true).unwrap();
            match document.object_type(&object).unwrap() {
                ObjType::Map | ObjType::Table => drop(document.put_object(&object, key(name), kind).unwrap()),
                ObjType::List => {
                    let index = within(name, document.length(&object));
                    document.insert_object(&object, index, kind).unwrap();
                }
                ObjType::Text => {}
            }
        }
        Step::Insert(at, index, value) => {
            let Some(list) = choose(at, &|kind| kind == ObjType::List) else { return };
            let index = within(index, document.length(&list));
            document.insert(&list, index, value).unwrap();
        }
        Step::Type(at, index, delete, typed) => {
            let Some(text) = choose(at, &|kind| kind == ObjType::Text) else { return };
            let length = document.length(&text);
            let index = within(index, length);
            let delete = within(delete, length - index);
            document.splice_text(&text, index, delete as isize, &typed).unwrap();
        }
        Step::Delete(at, index) => {
            let object = choose(at, &|_| true).unwrap();
            if document.object_type(&object).unwrap().is_sequence() {
                let length = document.length(&object);
                if length > 0 {
                    document.delete(&object, usize::from(index) % length).unwrap();
                }
            } else if document.get(&object, key(index)).unwrap().is_some() {
                document.delete(&object, key(index)).unwrap();
            }
        }
        Step::Increment(name, by) => {
            if document.get(ROOT, key(name)).unwrap().is_none_or(|(value, _)| !value.is_counter()) {
                document.put(ROOT, key(name), ScalarValue::counter(1)).unwrap();
            }
            document.increment(ROOT, key(name), by.into()).unwrap();
        }
        Step::Mark(at, from, to) => {
            let Some(text) = choose(at, &|kind| kind == ObjType::Text) else { return };
            let length = document.length(&text);
            let from = within(from, length);
            let to = from + within(to, length - from);
            if from < to {
                let expand = [ExpandMark::None, ExpandMark::Both, ExpandMark::After][to % 3];
                document.mark(&text, Mark::new("bold".to_owned(), true, from, to), expand).unwrap();
            }
        }
        Step::Commit(message) => {
            let options = CommitOptions::default().with_time(1_800_000_000);
            document.commit_with(message.into_iter().fold(options, |options, text| options.with_message(text)));
        }
        Step::Empty => {
            document.commit();
            document.empty_change(CommitOptions::default());
        }
        Step::Merge(_) => {}
    }
}
