//! Pure: bytes of a stream become lines, and lines become JSON.
use std::{fmt::Display, io::Write as _};

use memchr::memchr;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid().as_bytes();
        let mut from = 0;
        for (at, &byte) in valid.iter().enumerate() {
            if byte >= b' ' && byte != b'"' && byte != b'\\' {
                continue;
            }
            buffer.extend_from_slice(&valid[from..at]);
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
        buffer.extend_from_slice(&valid[from..]);
        if !chunk.invalid().is_empty() {
            buffer.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
}
