//! Pure: how documents, changes and points look to people, and how people write them.
use std::time::{Duration, UNIX_EPOCH};

use admin::{At, ChangeStatus, DocumentName, DocumentStatus, Findings};
use humantime_serde::re::humantime;

/// Above the rows of a list.
pub(super) const HEAD: &str =
    "ID                            SPACE                  SIZE  CHANGES  HEADS  PEERS  LAST CHANGE";
/// Above the rows of a history.
pub(super) const HISTORY_HEAD: &str = "HASH              TIME              ACTOR                SEQ    OPS  MESSAGE";
/// The last second of the year 9999: later times have no text.
const LAST: u64 = 253_402_300_799;

pub(super) fn row(document: &DocumentStatus) -> String {
    let DocumentStatus { name: DocumentName { space, id }, bytes, changes, heads, changed, peers, damaged } = document;
    if *damaged {
        return format!("{id:<28}  {space:<16}  damaged: `kube docs verify {id}` says what is wrong");
    }
    let (size, heads, time) = (size(*bytes), heads.len(), minute(changed / 1000));
    format!("{id:<28}  {space:<16}  {size:>8}  {changes:>7}  {heads:>5}  {peers:>5}  {time}")
}

pub(super) fn change(change: &ChangeStatus) -> String {
    let ChangeStatus { hash, actor, seq, time, message, operations } = change;
    let time = time.map_or_else(|| "-".to_owned(), |time| minute(u64::try_from(time).unwrap_or_default()));
    // Whoever made the change may have written anything.
    let message: String = message.iter().flat_map(|message| message.chars()).map(printable).take(200).collect();
    let line = format!("{:<16}  {time:<16}  {:<16}  {seq:>6}  {operations:>5}  {message}", cut(hash), cut(actor));
    line.trim_end().to_owned()
}

fn printable(char: char) -> char {
    if char.is_control() { ' ' } else { char }
}

fn cut(hex: &str) -> &str {
    hex.get(..16).unwrap_or(hex)
}

pub(super) fn findings(name: &DocumentName, found: &Findings) -> String {
    let Findings { problems, aside, repaired } = found;
    let mut text = format!("{} in {}: ", name.id, name.space);
    text += if problems.is_empty() { "sound" } else { "damaged" };
    for problem in problems {
        text += "\n  ";
        text.extend(problem.chars().map(printable));
    }
    if *repaired {
        text += "\n  repaired: what can be served is served";
    }
    if *aside > 0 {
        text += &format!("\n  {aside} {} set aside", if *aside == 1 { "piece of it is" } else { "pieces of it are" });
    }
    text
}

/// Bytes in three digits or four, as `12.3 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1000.0 {
            return if unit == "B" || value >= 100.0 {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// The minute (UTC) of a time in seconds since 1970, as `2026-11-21 09:30`.
pub(crate) fn minute(seconds: u64) -> String {
    let since = Duration::from_secs(seconds.min(LAST));
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string();
    text.get(..16).unwrap_or(&text).replace('T', " ")
}

/// The id of a document, without what may be written around it; anything else would be another path.
pub(super) fn id(text: &str) -> anyhow::Result<&str> {
    let id = text.strip_prefix("automerge:").unwrap_or(text);
    // An address may go on with the heads that it means.
    let id = id.split('#').next().unwrap_or(id);
    let is_plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    anyhow::ensure!(is_plain, "{text:?} is not the id of a document: `kube docs` lists them");
    Ok(id)
}

/// The name of a space.
pub(super) fn space(text: &str) -> anyhow::Result<&str> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte));
    anyhow::ensure!(is_plain && !text.is_empty(), "{text:?} is not the name of a space");
    Ok(text)
}

/// A point in a document's history: hashes, a time, or how long ago; `now` is since 1970.
pub(super) fn point(text: &str, now: Duration) -> Result<At, String> {
    let seconds = |time: Duration| At::Time(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    // `2026` is a year, not the beginning of a hash.
    let hashes: Vec<_> = text.split([',', ' ']).filter(|hash| !hash.is_empty()).map(str::to_owned).collect();
    let is_hash = |hash: &String| (8..=64).contains(&hash.len()) && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hashes.is_empty() && hashes.iter().all(is_hash) {
        return Ok(At::Heads(hashes));
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(seconds(now.saturating_sub(ago)));
    }
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        _ => text.to_owned(),
    };
    match humantime::parse_rfc3339_weak(&whole) {
        Ok(time) => Ok(seconds(time.duration_since(UNIX_EPOCH).unwrap_or_default())),
        Err(_) => {
            Err("give a time (2026-11-21 09:30, UTC), how long ago (2h), or hashes of at least 8 digits".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_a_time_or_how_long_ago_or_hashes() {
        let now = Duration::from_secs(1_000_000);
        let point = |text| point(text, now);
        for (text, seconds) in [
            ("1970-01-02", 86_400),
            ("1970-01-02 00:01", 86_460),
            ("1970-01-02T00:01", 86_460),
            ("1970-01-02 00:01:05", 86_465),
            ("1970-01-02T00:01:05Z", 86_465),
            ("1h 1s", 996_399),
            ("90days", 0),
        ] {
            assert_eq!(point(text), Ok(At::Time(seconds)), "{text}");
        }
        let hash = "0123456789abcdef".repeat(4);
        assert_eq!(point(&hash), Ok(At::Heads(vec![hash.clone()])));
        let two = At::Heads(vec!["01234567".to_owned(), "ABCDEF01".to_owned()]);
        assert_eq!(point("01234567,ABCDEF01"), Ok(two));
        for wrong in ["", "yesterday", "0123", "2026", "2026-13-01", "0123456g"] {
            assert!(point(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_id_is_taken_as_people_copy_it_and_is_never_another_path() {
        for text in ["3fh", "automerge:3fh", "automerge:3fh#heads"] {
            assert_eq!(id(text).unwrap(), "3fh");
        }
        for wrong in ["", "automerge:", "../tokens", "a b", "a?b"] {
            assert!(id(wrong).is_err(), "{wrong}");
        }
        assert!(space("app.shop").is_ok() && space("a/b").is_err() && space("").is_err());
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (1024, "1.0 KiB"), (150 << 20, "150 MiB"), (u64::MAX, "16777216.0 TiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_message_cannot_draw_on_the_terminal() {
        let status = ChangeStatus {
            hash: "ab".repeat(32),
            actor: "cd".repeat(16),
            seq: 1,
            time: Some(0),
            message: Some("\u{1b}[31mred\nline".to_owned()),
            operations: 2,
        };
        let line = change(&status);
        assert!(line.ends_with(" [31mred line") && line.contains("1970-01-01 00:00"), "{line}");
    }
}
