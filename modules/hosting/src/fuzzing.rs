//! For fuzzers alone: what programs say.
use bytes::BytesMut;

use crate::proxy::wire::{Broken, Framing, Piece, head};

/// What was made of an answer: status, fields, data and trailers, and how much of the input was left.
type Read = (u16, usize, Vec<u8>, usize, usize);

/// Reads an answer whole and in parts: it means the same, and says nothing that is not in it.
pub fn answer(part: u8, is_bare: bool, bytes: &[u8]) {
    let whole = read(bytes, bytes.len().max(1), is_bare);
    let cut = read(bytes, usize::from(part).max(1), is_bare);
    match (whole, cut) {
        (Ok(whole), Ok(cut)) => {
            assert_eq!(whole, cut);
            if let Some((_, _, data, _, left)) = whole {
                assert!(data.len() + left < bytes.len());
            }
        }
        (Err(_), Err(_)) => {}
        (whole, cut) => panic!("{whole:?} {cut:?}"),
    }
}

fn read(bytes: &[u8], part: usize, is_bare: bool) -> Result<Option<Read>, Broken> {
    let (mut buffer, mut seen) = (BytesMut::new(), 0);
    let mut parts = bytes.chunks(part);
    let mut found = loop {
        if let Some(found) = head(&mut buffer, &mut seen, is_bare)? {
            break found;
        }
        let Some(part) = parts.next() else { return Ok(None) };
        buffer.extend_from_slice(part);
    };
    let (mut data, mut trailers) = (Vec::new(), 0);
    loop {
        match found.framing.next(&mut buffer)? {
            Piece::Data(more) => data.extend_from_slice(&more),
            Piece::Trailers(more) => trailers = more.len(),
            Piece::End => break,
            Piece::More => match parts.next() {
                Some(part) => buffer.extend_from_slice(part),
                None if matches!(found.framing, Framing::Close) => break,
                None => return Ok(None),
            },
        }
    }
    let left = buffer.len() + parts.map(<[u8]>::len).sum::<usize>();
    Ok(Some((found.status.as_u16(), found.headers.len(), data, trailers, left)))
}
