//! Pure: bytes of a stream become lines, and lines become JSON.
use std::{fmt::Display, io::Write as _};

use memchr::memchr;
use serde::Deserialize;

/// The longest line that is kept whole, in bytes; what is longer becomes parts of at most this.
pub(crate) const LONGEST: usize = 16 << 10;
/// The longest line of JSON: every byte may have to be written as six (`\u0000`), or every two as three (U+FFFD).
pub(crate) const LONGEST_WRITTEN: usize = 6 * LONGEST + 1024;
/// What a line of JSON begins with; the time comes next, [`TIME`] bytes long.
pub(crate) const BEGIN: &[u8] = b"{\"time\":\"";
/// The length of a time: RFC 3339 in UTC with microseconds, so that later ones are greater as text too.
pub(crate) const TIME: usize = "2026-11-30T12:00:00.000000Z".len();

/// Cuts a stream into lines, however its bytes arrive.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
}

impl Lines {
    /// Calls `each` with every line that `bytes` bring to an end, and whether it goes on in the next one: it was too long.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8], bool)) {
        if !self.begun.is_empty() {
            let end = memchr(b'\n', bytes);
            self.begun.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            let left = parts(&self.begun, &mut each);
            match end {
                Some(end) => {
                    each(left, false);
                    bytes = &bytes[end + 1..];
                    // A quiet stream keeps nothing.
                    self.begun = Vec::new();
                }
                None => {
                    let done = self.begun.len() - left.len();
                    self.begun.drain(..done);
                    return;
                }
            }
        }
        while let Some(end) = memchr(b'\n', bytes) {
            let left = parts(&bytes[..end], &mut each);
            each(left, false);
            bytes = &bytes[end + 1..];
        }
        self.begun.extend_from_slice(parts(bytes, &mut each));
    }

    /// The stream has ended: calls `each` with a line that has no end, if there is one.
    pub(crate) fn finish(&mut self, each: impl FnOnce(&[u8], bool)) {
        if !self.begun.is_empty() {
            each(&std::mem::take(&mut self.begun), false);
        }
    }
}

/// Cuts parts off a line until it is short enough, between characters.
fn parts<'a>(mut line: &'a [u8], each: &mut impl FnMut(&[u8], bool)) -> &'a [u8] {
    while line.len() > LONGEST {
        let is_inside = |at: &usize| line[*at] & 0b1100_0000 == 0b1000_0000;
        let cut = (LONGEST - 3..=LONGEST).rev().find(|at| !is_inside(at)).unwrap_or(LONGEST);
        each(&line[..cut], true);
        line = &line[cut..];
    }
    line
}

/// Whom a line is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// What a process writes to its standard output.
    Stdout,
    /// What a process writes to its standard error.
    Stderr,
    /// What KUBE says of a process.
    Kube,
}

impl Stream {
    /// Its name in the files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Kube => "kube",
        }
    }
}

/// What is the same for all lines that arrive at once: everything before their text.
pub(crate) fn head(time: impl Display, stream: Stream, pid: Option<u32>) -> Vec<u8> {
    let pid = pid.map(|pid| format!(",\"pid\":{pid}")).unwrap_or_default();
    format!("{{\"time\":\"{time}\",\"stream\":\"{}\"{pid},\"line\":\"", stream.as_str()).into_bytes()
}

/// Writes one line of a stream.
pub(crate) fn write(buffer: &mut Vec<u8>, head: &[u8], line: &[u8], goes_on: bool) {
    buffer.extend_from_slice(head);
    escape(buffer, line);
    buffer.extend_from_slice(if goes_on { b"\",\"part\":true}\n" } else { b"\"}\n" });
}

/// An event of KUBE itself.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// How bad it is: `ERROR`, `WARN`, `INFO`, `DEBUG`, `TRACE`.
    pub level: &'a str,
    /// The part of KUBE.
    pub target: &'a str,
    /// What happened.
    pub line: &'a str,
    /// What else is known of it.
    pub fields: &'a [(&'a str, String)],
}

/// Writes an event of KUBE itself.
pub(crate) fn write_event(buffer: &mut Vec<u8>, time: impl Display, event: &Event<'_>) {
    let Event { level, target, line, fields } = event;
    write!(buffer, "{{\"time\":\"{time}\",\"stream\":\"kube\",\"level\":\"{level}\",\"target\":\"").ok();
    escape(buffer, target.as_bytes());
    buffer.extend_from_slice(b"\",\"line\":\"");
    let mut left = LONGEST;
    escape(buffer, cut(line, &mut left));
    let mut before: &[u8] = b"\",\"fields\":{\"";
    for (name, value) in *fields {
        buffer.extend_from_slice(before);
        escape(buffer, cut(name, &mut left));
        buffer.extend_from_slice(b"\":\"");
        escape(buffer, cut(value, &mut left));
        before = b"\",\"";
    }
    buffer.extend_from_slice(if fields.is_empty() { b"\"}\n" } else { b"\"}}\n" });
}

/// The beginning of a text, as far as there is room.
fn cut<'a>(text: &'a str, left: &mut usize) -> &'a [u8] {
    let text = &text[..text.floor_char_boundary(*left)];
    *left -= text.len();
    text.as_bytes()
}

/// Writes text as it is between the quotes of a JSON string ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259#section-7)); what is no
/// UTF-8 becomes U+FFFD.
fn escape(buffer: &mut Vec<u8>, text: &[u8]) {
    if str::from_utf8(text).is_ok() {
        return escape_valid(buffer, text);
    }
    for chunk in text.utf8_chunks() {
        escape_valid(buffer, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            buffer.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
}

fn escape_valid(buffer: &mut Vec<u8>, text: &[u8]) {
    let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // Most lines have none, which is found out for many bytes at once only when the search does not stop.
    if !text.iter().fold(false, |found, byte| found | is_special(*byte)) {
        return buffer.extend_from_slice(text);
    }
    let mut from = 0;
    for (at, &byte) in text.iter().enumerate().filter(|(_, byte)| is_special(**byte)) {
        buffer.extend_from_slice(&text[from..at]);
        from = at + 1;
        match byte {
            b'"' => buffer.extend_from_slice(b"\\\""),
            b'\\' => buffer.extend_from_slice(b"\\\\"),
            b'\t' => buffer.extend_from_slice(b"\\t"),
            b'\r' => buffer.extend_from_slice(b"\\r"),
            b'\n' => buffer.extend_from_slice(b"\\n"),
            _ => {
                let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
                buffer.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    buffer.extend_from_slice(&text[from..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::logs::{Entry, stamp};

    /// What the lines machine says of a stream that comes in pieces.
    fn said(pieces: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let (mut lines, mut said) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.feed(piece, |line, goes_on| said.push((line.to_owned(), goes_on)));
            assert!(lines.begun.len() <= LONGEST);
        }
        lines.finish(|line, goes_on| said.push((line.to_owned(), goes_on)));
        said
    }

    #[test]
    fn a_stream_is_its_lines() {
        assert_eq!(said(&[]), []);
        assert_eq!(
            said(&[b"one\n\ntwo\r\n", b"th", b"ree"]),
            [(b"one".to_vec(), false), (b"".to_vec(), false), (b"two\r".to_vec(), false), (b"three".to_vec(), false)]
        );
    }

    #[test]
    fn a_line_that_is_too_long_becomes_parts_between_characters() {
        assert_eq!(said(&[&[b'x'; LONGEST], b"\n"]), [(vec![b'x'; LONGEST], false)]);
        let line = [&[b'x'; LONGEST - 1], "\u{fc}".as_bytes(), &[b'y'; LONGEST]].concat();
        let said = said(&[&line]);
        assert_eq!(
            said.iter().map(|(line, goes_on)| (line.len(), *goes_on)).collect::<Vec<_>>(),
            [(LONGEST - 1, true), (LONGEST, true), (2, false)]
        );
        assert_eq!(said.into_iter().flat_map(|(line, _)| line).collect::<Vec<_>>(), line);
    }

    #[test]
    fn an_event_is_one_line_of_json_of_a_bounded_length() {
        let mut buffer = Vec::new();
        let fields = [("error", "no \"such\" file".to_owned()), ("x", "\0".repeat(LONGEST))];
        let event = Event { level: "WARN", target: "kube_dns", line: "not\nanswered", fields: &fields };
        write_event(&mut buffer, stamp(std::time::SystemTime::UNIX_EPOCH), &event);
        assert!(buffer.len() <= LONGEST_WRITTEN);
        let text = str::from_utf8(&buffer).unwrap().strip_suffix('\n').unwrap();
        let entry = Entry::read(text).unwrap();
        assert_eq!((&*entry.time, &*entry.line), ("1970-01-01T00:00:00.000000Z", "not\nanswered"));
        assert_eq!((entry.level.as_deref(), entry.target.as_deref()), (Some("WARN"), Some("kube_dns")));
        assert_eq!(entry.fields["error"], "no \"such\" file");
    }

    /// Bytes with many line ends, and now and then a long line.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            8 => proptest::collection::vec(any::<u8>(), 0..40),
            4 => "\\PC{0,20}".prop_map(String::into_bytes),
            1 => (any::<char>(), LONGEST / 4..LONGEST).prop_map(|(c, times)| c.to_string().repeat(times).into_bytes()),
        ];
        let lines = proptest::collection::vec(line, 0..12);
        (lines, any::<bool>()).prop_map(|(lines, ends)| [lines.join(&b'\n'), vec![b'\n'; usize::from(ends)]].concat())
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_arrive(stream in stream(), size in 1..70_000_usize) {
            let pieces: Vec<_> = stream.chunks(size).collect();
            let said = said(&pieces);
            prop_assert_eq!(&said, &self::said(&[&stream]));
            let mut whole: Vec<Vec<u8>> = vec![Vec::new()];
            for (line, goes_on) in said {
                whole.last_mut().unwrap().extend(line);
                if !goes_on {
                    whole.push(Vec::new());
                }
            }
            prop_assert_eq!(whole.pop(), Some(Vec::new()));
            let mut expected: Vec<_> = stream.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(whole, expected);
        }

        #[test]
        fn any_line_is_one_line_of_json(line in proptest::collection::vec(any::<u8>(), 0..200), goes_on: bool, pid: Option<u32>) {
            let mut buffer = Vec::new();
            let head = head(stamp(std::time::SystemTime::UNIX_EPOCH), Stream::Stderr, pid);
            write(&mut buffer, &head, &line, goes_on);
            let text = String::from_utf8(buffer).unwrap();
            prop_assert_eq!(text.find('\n'), Some(text.len() - 1));
            let entry = Entry::read(text.trim_end()).unwrap();
            prop_assert_eq!(&*entry.line, &*String::from_utf8_lossy(&line));
            prop_assert_eq!((entry.stream, entry.pid, entry.part), (Stream::Stderr, pid, goes_on));
        }
    }
}
