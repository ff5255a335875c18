//! Pure: what a document holds, as JSON.
//!
//! As `JSON.stringify` would have it in a client, but for bytes, which are lists of numbers: a counter is a number, a time is a
//! text, and what no JSON number can say is null.
use std::time::{Duration, UNIX_EPOCH};

use automerge::{ObjId, ObjType, ROOT, ReadDoc, ScalarValue, Value};
use humantime_serde::re::humantime;

/// The deepest nesting that is followed: whoever made a document may have nested it as deep as the stack goes, and deeper.
pub(crate) const MAX_DEPTH: usize = 128;
/// The last millisecond of the year 9999, in milliseconds since 1970: later times have no text.
pub(crate) const LAST: i64 = 253_402_300_799_999;

/// A document is nested deeper than [`MAX_DEPTH`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is nested more than {MAX_DEPTH} deep")]
pub(crate) struct TooDeep;

/// All that a document holds now.
pub(crate) fn json(document: &impl ReadDoc) -> Result<serde_json::Value, TooDeep> {
    object(document, &ROOT, ObjType::Map, 0)
}

fn object<R: ReadDoc>(document: &R, id: &ObjId, kind: ObjType, depth: usize) -> Result<serde_json::Value, TooDeep> {
    if depth > MAX_DEPTH {
        return Err(TooDeep);
    }
    match kind {
        ObjType::Map | ObjType::Table => {
            let mut map = serde_json::Map::new();
            for (key, value, id) in entries(document, id) {
                map.insert(key, self::value(document, &value, &id, depth)?);
            }
            Ok(map.into())
        }
        ObjType::List => {
            let mut list = Vec::new();
            for (value, id) in elements(document, id) {
                list.push(self::value(document, &value, &id, depth)?);
            }
            Ok(list.into())
        }
        ObjType::Text => Ok(document.text(id).unwrap_or_default().into()),
    }
}

fn value<R: ReadDoc>(document: &R, value: &Value<'_>, id: &ObjId, depth: usize) -> Result<serde_json::Value, TooDeep> {
    match value {
        Value::Object(kind) => object(document, id, *kind, depth + 1),
        Value::Scalar(value) => Ok(scalar(value)),
    }
}

/// The entries of a map: key, value, and the operation that made it.
pub(crate) fn entries(document: &impl ReadDoc, map: &ObjId) -> Vec<(String, Value<'static>, ObjId)> {
    let items = document.map_range(map, ..);
    items.map(|item| (item.key.to_string(), item.value.clone().into_value(), item.id())).collect()
}

/// The elements of a list: value, and the operation that made it.
pub(crate) fn elements(document: &impl ReadDoc, list: &ObjId) -> Vec<(Value<'static>, ObjId)> {
    document.list_range(list, ..).map(|item| (item.value.clone().into_value(), item.id())).collect()
}

fn scalar(value: &ScalarValue) -> serde_json::Value {
    match value {
        ScalarValue::Bytes(bytes) | ScalarValue::Unknown { bytes, .. } => bytes.as_slice().into(),
        ScalarValue::Str(text) => text.as_str().into(),
        ScalarValue::Int(value) => (*value).into(),
        ScalarValue::Uint(value) => (*value).into(),
        ScalarValue::F64(value) => (*value).into(),
        ScalarValue::Counter(counter) => i64::from(counter).into(),
        ScalarValue::Timestamp(time) => timestamp(*time),
        ScalarValue::Boolean(value) => (*value).into(),
        ScalarValue::Null => serde_json::Value::Null,
    }
}

/// The time of that many milliseconds since 1970.
fn timestamp(milliseconds: i64) -> serde_json::Value {
    match u64::try_from(milliseconds) {
        Ok(since) if milliseconds <= LAST => {
            humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(since)).to_string().into()
        }
        Ok(_) | Err(_) => milliseconds.into(),
    }
}

#[cfg(test)]
mod tests {
    use automerge::{AutoCommit, transaction::Transactable};
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_that_a_document_can_hold_is_json() {
        let mut document = AutoCommit::new();
        let list = document.put_object(ROOT, "list", ObjType::List).unwrap();
        let scalars: [ScalarValue; 10] = [
            vec![0, 255].into(),
            "text".into(),
            (-1).into(),
            u64::MAX.into(),
            0.5.into(),
            f64::NAN.into(),
            ScalarValue::counter(7),
            ScalarValue::Timestamp(1_500),
            true.into(),
            ().into(),
        ];
        for (index, scalar) in scalars.into_iter().enumerate() {
            document.insert(&list, index, scalar).unwrap();
        }
        document.increment(&list, 6, 2).unwrap();
        let text = document.put_object(ROOT, "text", ObjType::Text).unwrap();
        document.splice_text(&text, 0, 0, "a b").unwrap();
        let map = document.put_object(ROOT, "map", ObjType::Map).unwrap();
        document.put(&map, "late", ScalarValue::Timestamp(i64::MAX)).unwrap();
        document.put(&map, "early", ScalarValue::Timestamp(-1)).unwrap();
        let expected = json!({
            "list": [[0, 255], "text", -1, u64::MAX, 0.5, null, 9, "1970-01-01T00:00:01.500Z", true, null],
            "text": "a b",
            "map": {"late": i64::MAX, "early": -1},
        });
        assert_eq!(json(&document), Ok(expected));
    }

    #[test]
    fn what_is_nested_too_deep_for_the_stack_is_refused() {
        let mut document = AutoCommit::new();
        let mut map = ROOT;
        for depth in 0..=MAX_DEPTH {
            assert!(json(&document).is_ok(), "{depth}");
            map = document.put_object(&map, "in", ObjType::Map).unwrap();
        }
        assert_eq!(json(&document), Err(TooDeep));
    }
}
