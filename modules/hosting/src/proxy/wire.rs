//! Pure: what a program says over HTTP/1.1: heads of answers, and where their bodies end.
//!
//! It is stricter than it has to be ([RFC 9112](https://www.rfc-editor.org/rfc/rfc9112)): what two readers could understand in two
//! ways is no answer.
use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
};

/// Most bytes of a head, and most fields.
pub(crate) const HEAD: usize = 64 * 1024;
const FIELDS: usize = 100;
/// Most bytes of the line before a chunk, and of the trailers behind the last.
const LINE: usize = 256;
const TRAILERS: usize = 8 * 1024;

/// Why something is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub(crate) &'static str);

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub framing: Framing,
    /// Whether the connection may serve another request.
    pub keeps: bool,
}

/// Where a body ends ([section 6.3](https://www.rfc-editor.org/rfc/rfc9112#section-6.3)).
#[derive(Debug)]
pub(crate) enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// Behind the last chunk.
    Chunked(Chunks),
    /// With the connection.
    Close,
}

/// What comes next of a body.
#[derive(Debug)]
pub(crate) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
    /// It has not arrived.
    More,
}

/// Takes the head of an answer from what has arrived, once all of it has. `seen`: how much was looked at before. `is_bare`: it answers
/// HEAD, and has no body whatever it says.
pub(crate) fn head(buffer: &mut BytesMut, seen: &mut usize, is_bare: bool) -> Result<Option<Head>, Broken> {
    if buffer.first().is_some_and(|first| *first != b'H') {
        return Err(Broken("it is not HTTP/1"));
    }
    let Some(size) = end_of_fields(buffer, seen) else {
        return if buffer.len() > HEAD { Err(Broken("the head of its answer is too large")) } else { Ok(None) };
    };
    if size > HEAD {
        return Err(Broken("the head of its answer is too large"));
    }
    *seen = 0;
    let bytes = buffer.split_to(size).freeze();
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, &bytes, &mut fields) {
        Ok(httparse::Status::Complete(count)) if count == size => {}
        Ok(_) => return Err(Broken("the head of its answer is malformed")),
        Err(httparse::Error::TooManyHeaders) => return Err(Broken("its answer has too many fields")),
        Err(_) => return Err(Broken("the head of its answer is malformed")),
    }
    let is_new = parsed.version == Some(1);
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Broken("its answer has no status that there is"))?;
    let headers = map(&bytes, parsed.headers)?;
    let (framing, is_framed) = framing(status, &headers, is_new, is_bare)?;
    let mut options = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let closes = options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
    Ok(Some(Head { status, headers, framing, keeps: is_new && is_framed && !closes }))
}

/// How many bytes there are to the empty line, with it.
fn end_of_fields(buffer: &[u8], seen: &mut usize) -> Option<usize> {
    let from = seen.saturating_sub(3);
    *seen = buffer.len();
    let rest = buffer.get(from..)?;
    let mut at = 0;
    while let Some(line) = memchr::memchr(b'\n', &rest[at..]) {
        at += line + 1;
        if rest[at..].starts_with(b"\r\n") {
            return Some(from + at + 2);
        }
        if rest[at..].starts_with(b"\n") {
            return Some(from + at + 1);
        }
    }
    None
}

fn map(bytes: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Broken> {
    let mut headers = HeaderMap::with_capacity(fields.len() + 2);
    for field in fields {
        let name =
            HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Broken("its answer has a malformed field"))?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        headers.append(name, value.map_err(|_| Broken("its answer has a malformed field"))?);
    }
    Ok(headers)
}

/// Where the body ends, and whether that shows in the bytes themselves beyond doubt.
fn framing(status: StatusCode, headers: &HeaderMap, is_new: bool, is_bare: bool) -> Result<(Framing, bool), Broken> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next();
    let length = length(headers)?;
    if is_bare || status.is_informational() || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status) {
        return Ok((Framing::Length(0), true));
    }
    match (coding, length) {
        (Some(coding), length) => {
            if !is_new || codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Broken("its answer has a transfer coding that is not understood"));
            }
            // Whoever says both may be lied to by somebody behind: the connection ends with the answer.
            Ok((Framing::Chunked(Chunks::default()), length.is_none()))
        }
        (None, Some(length)) => Ok((Framing::Length(length), true)),
        (None, None) => Ok((Framing::Close, false)),
    }
}

/// The one length that an answer says it has.
fn length(headers: &HeaderMap) -> Result<Option<u64>, Broken> {
    let mut found = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let text = value.as_bytes();
        let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let length = std::str::from_utf8(text).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
        let length: u64 = length.ok_or(Broken("its answer has an invalid length"))?;
        if found.replace(length).is_some_and(|other| other != length) {
            return Err(Broken("its answer has two lengths, which is invalid"));
        }
    }
    Ok(found)
}

impl Framing {
    /// Takes what comes next from what has arrived.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Piece, Broken> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            Self::Length(left) => Ok(take(left, buffer).map_or(Piece::More, Piece::Data)),
            Self::Chunked(chunks) => chunks.next(buffer),
            Self::Close if buffer.is_empty() => Ok(Piece::More),
            Self::Close => Ok(Piece::Data(buffer.split().freeze())),
        }
    }

    /// Whether nothing comes any more, trailers neither.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.state == State::Over && chunks.trailers.is_none(),
            Self::Close => false,
        }
    }

    /// How much comes, where that is known.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::Close => None,
        }
    }
}

/// Takes at most `left` bytes of what there is.
fn take(left: &mut u64, buffer: &mut BytesMut) -> Option<Bytes> {
    let size = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
    *left -= size as u64;
    (size > 0).then(|| buffer.split_to(size).freeze())
}

/// A body in chunks ([section 7.1](https://www.rfc-editor.org/rfc/rfc9112#section-7.1)).
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    state: State,
    trailers: Option<HeaderMap>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// A line with a size comes.
    #[default]
    Size,
    /// So many bytes of a chunk come.
    Data(u64),
    /// The line behind a chunk ends.
    Behind,
    /// Trailers come, or an empty line.
    Trailers,
    Over,
}

impl Chunks {
    fn next(&mut self, buffer: &mut BytesMut) -> Result<Piece, Broken> {
        self.advance(buffer)?;
        if let State::Data(left) = &mut self.state
            && let Some(data) = take(left, buffer)
        {
            if *left == 0 {
                self.state = State::Behind;
                // The end may be here already, and nobody asks once more.
                self.advance(buffer)?;
            }
            return Ok(Piece::Data(data));
        }
        match self.state {
            State::Over => Ok(self.trailers.take().map_or(Piece::End, Piece::Trailers)),
            State::Size | State::Data(_) | State::Behind | State::Trailers => Ok(Piece::More),
        }
    }

    /// Reads what is between the data.
    fn advance(&mut self, buffer: &mut BytesMut) -> Result<(), Broken> {
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = memchr::memchr(b'\n', &buffer[..buffer.len().min(LINE)]) else {
                        return if buffer.len() < LINE { Ok(()) } else { Err(Broken("a chunk has no valid size")) };
                    };
                    let size = size(&buffer[..line]).ok_or(Broken("a chunk has no valid size"))?;
                    buffer.advance(line + 1);
                    self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                }
                State::Behind => {
                    if buffer.len() < 2 {
                        return Ok(());
                    }
                    if !buffer.starts_with(b"\r\n") {
                        return Err(Broken("a chunk does not end where it should"));
                    }
                    buffer.advance(2);
                    self.state = State::Size;
                }
                State::Trailers => {
                    if buffer.starts_with(b"\r\n") {
                        buffer.advance(2);
                        self.state = State::Over;
                        return Ok(());
                    }
                    let Some(size) = end_of_fields(buffer, &mut 0) else {
                        return if buffer.len() < TRAILERS {
                            Ok(())
                        } else {
                            Err(Broken("its trailers are too large"))
                        };
                    };
                    let bytes = buffer.split_to(size).freeze();
                    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
                    match httparse::parse_headers(&bytes, &mut fields) {
                        Ok(httparse::Status::Complete((count, fields))) if count == size => {
                            self.trailers = Some(map(&bytes, fields)?);
                        }
                        Ok(_) | Err(_) => return Err(Broken("its trailers are malformed")),
                    }
                    self.state = State::Over;
                    return Ok(());
                }
                State::Data(_) | State::Over => return Ok(()),
            }
        }
    }
}

/// The size in a line like `1f;name=value` with its carriage return.
fn size(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\r")?;
    let (digits, extensions) =
        line.split_at(line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len()));
    let is_valid = (1..=15).contains(&digits.len())
        && !extensions.contains(&b'\r')
        && extensions.trim_ascii_start().first().is_none_or(|first| *first == b';');
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_valid)?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests;
