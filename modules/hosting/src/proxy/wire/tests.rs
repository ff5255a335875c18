use proptest::prelude::*;

use super::*;

/// What a program sends, arriving in parts of this size.
fn arriving(bytes: &[u8], part: usize, is_bare: bool) -> Result<Option<(Head, BytesMut)>, Broken> {
    let (mut buffer, mut seen) = (BytesMut::new(), 0);
    let mut parts = bytes.chunks(part);
    loop {
        if let Some(found) = head(&mut buffer, &mut seen, is_bare)? {
            parts.for_each(|part| buffer.extend_from_slice(part));
            return Ok(Some((found, buffer)));
        }
        let Some(part) = parts.next() else { return Ok(None) };
        buffer.extend_from_slice(part);
    }
}

type Whole = (Vec<u8>, HeaderMap, Vec<u8>);

/// The body of an answer that arrives in parts of this size: its data, its trailers, and what is left behind it. `None`: it has no
/// end yet.
fn body(bytes: &[u8], part: usize) -> Result<Option<Whole>, Broken> {
    let Some((Head { mut framing, .. }, rest)) = arriving(bytes, part, false)? else { return Ok(None) };
    let (mut buffer, mut all, mut trailers) = (BytesMut::new(), Vec::new(), HeaderMap::new());
    let mut parts = rest.chunks(part);
    loop {
        match framing.next(&mut buffer)? {
            Piece::Data(data) => {
                assert!(!data.is_empty());
                all.extend_from_slice(&data);
            }
            Piece::Trailers(found) => trailers = found,
            Piece::End => {
                assert!(framing.is_over());
                let left = [&buffer[..], &parts.collect::<Vec<_>>().concat()].concat();
                return Ok(Some((all, trailers, left)));
            }
            Piece::More => match parts.next() {
                Some(part) => buffer.extend_from_slice(part),
                None if matches!(framing, Framing::Close) => return Ok(Some((all, trailers, Vec::new()))),
                None => return Ok(None),
            },
        }
    }
}

#[test]
fn a_head_is_read_however_it_arrives() {
    let bytes =
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nSet-Cookie: a=1\r\nSet-Cookie: b\xfc\r\nX-Empty:\r\n\r\nabcHTTP";
    for part in 1..bytes.len() {
        let (head, rest) = arriving(bytes, part, false).unwrap().unwrap();
        assert!(head.keeps && head.status == 200 && head.headers.len() == 4 && head.headers["x-empty"].is_empty());
        let cookies: Vec<_> = head.headers.get_all("set-cookie").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!((&cookies[..], &rest[..]), (&[&b"a=1"[..], b"b\xfc"][..], &b"abcHTTP"[..]));
        assert_eq!(head.framing.size(), Some(3));
    }
}

#[test]
fn bodies_end_where_the_standard_says() {
    for (answer, want) in [
        ("200 OK\r\nContent-Length: 2\r\n\r\nokrest", ("ok", "rest")),
        ("200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nokrest", ("ok", "rest")),
        ("200 OK\r\nContent-Length: 0\r\n\r\nrest", ("", "rest")),
        ("204 No Content\r\nContent-Length: 5\r\n\r\nrest", ("", "rest")),
        ("304 Not Modified\r\nContent-Length: 5\r\n\r\nrest", ("", "rest")),
        ("304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\nrest", ("", "rest")),
        ("200 OK\r\n\r\nall", ("all", "")),
        ("200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nrest", ("ok", "rest")),
        ("200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=\"b\"\r\nok\r\n00 ; x\r\n\r\n", ("ok", "")),
        (
            "200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1\r\no\r\n001\r\nk\r\n0\r\n\r\n",
            ("ok", ""),
        ),
        ("200\r\nContent-Length: 2\r\n\r\nok", ("ok", "")),
    ] {
        let answer = format!("HTTP/1.1 {answer}");
        for part in 1..answer.len() {
            let (data, trailers, left) = body(answer.as_bytes(), part).unwrap().unwrap();
            assert_eq!((&data[..], &left[..]), (want.0.as_bytes(), want.1.as_bytes()), "{part} {answer}");
            assert!(trailers.is_empty());
        }
    }
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\nx-b: 8\r\n\r\nrest";
    for part in 1..answer.len() {
        let (data, trailers, left) = body(answer, part).unwrap().unwrap();
        assert_eq!(
            (&data[..], &trailers["x-sum"], &trailers["x-b"], &left[..]),
            (&b"ok"[..], &"7".parse().unwrap(), &"8".parse().unwrap(), &b"rest"[..])
        );
    }
}

#[test]
fn what_could_be_understood_in_two_ways_is_no_answer() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
        "HTTP/1.1 204 No\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: a\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "SSH-2.0-x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r;\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\noko\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n",
    ] {
        for part in [1, 7, answer.len()] {
            assert!(body(answer.as_bytes(), part).is_err(), "{part} {answer:?}");
        }
    }
}

#[test]
fn nothing_grows_without_an_end() {
    let head = |fields: String| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{fields}");
    let chunked = |more: String| head("\r\n".to_owned()) + &more;
    for endless in [
        head("x-long: ".to_owned() + &"x".repeat(2 * HEAD)),
        head("x: y\r\n".repeat(FIELDS)) + "\r\n",
        chunked("2;".to_owned() + &"x".repeat(LINE)),
        chunked("0\r\nx: ".to_owned() + &"x".repeat(2 * TRAILERS)),
    ] {
        assert!(body(endless.as_bytes(), 1000).is_err());
    }
}

#[test]
fn a_connection_is_kept_if_both_sides_know_where_the_answer_ends() {
    for (answer, is_bare, keeps) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n", false, false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", false, false),
        ("HTTP/1.1 200 OK\r\n\r\n", false, false),
        ("HTTP/1.1 200 OK\r\n\r\n", true, true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", true, true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false, false),
    ] {
        let (head, _) = arriving(answer.as_bytes(), 9, is_bare).unwrap().unwrap();
        assert_eq!(head.keeps, keeps, "{answer:?}");
        assert!(!is_bare || head.framing.is_over());
    }
}

proptest! {
    #[test]
    fn any_body_in_chunks_is_itself(chunks in proptest::collection::vec("[ -~\r\n]{1,40}", 0..6), part in 1..60_usize) {
        let mut answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
        for chunk in &chunks {
            answer += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
        }
        answer += "0\r\n\r\n";
        let (data, _, left) = body(answer.as_bytes(), part).unwrap().unwrap();
        prop_assert_eq!((String::from_utf8(data).unwrap(), left), (chunks.concat(), Vec::new()));
        // Without its end it has none.
        let cut = body(&answer.as_bytes()[..answer.len() - 1], part);
        prop_assert!(matches!(cut, Ok(None)));
    }

    #[test]
    fn whatever_arrives_means_the_same_however_it_is_cut(
        bytes in "(HTTP/1\\.[01] [0-9]{3} x\r\n)(Content-Length: [0-9]\r\n|Transfer-Encoding: chunked\r\n|x:[ -~]{0,3}\r\n|\r|\n){0,3}\r\n([0-3a]|\r\n|;|x){0,16}",
        part in 1..30_usize,
    ) {
        let whole = body(bytes.as_bytes(), bytes.len());
        let cut = body(bytes.as_bytes(), part);
        match (whole, cut) {
            (Ok(whole), Ok(cut)) => prop_assert_eq!(whole, cut),
            (Err(_), Err(_)) => {}
            (whole, cut) => prop_assert!(false, "{:?} {:?}", whole, cut),
        }
    }
}
