//! Asks what listens on this machine whether it does.
use std::{io, net::SocketAddr, time::Duration};

use http_body_util::Empty;
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1,
    header::{CONNECTION, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};

use super::{Http, Listener};

/// Longest head of an answer, in bytes.
const LONGEST_HEAD: usize = 16 << 10;

/// Checks once: whether there is a connection and, where something is asked, a status of 200 to 399.
///
/// `own_port` is where this instance of the process serves. A body is not read, and no connection is kept.
///
/// # Errors
/// Why that is no health, in a few words.
pub async fn probe(listener: &Listener, own_port: Option<u16>, timeout: Duration) -> Result<(), String> {
    let port = listener.port.or(own_port).ok_or("it has no port")?;
    let asked = async {
        let stream = connect(&listener.addresses(port)).await?;
        match &listener.http {
            None => Ok(()),
            Some(http) => ask(stream, http).await,
        }
    };
    tokio::time::timeout(timeout, asked).await.unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
}

/// Connects to the first address that takes it; if none does, says what the first one said.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut first = None;
    for address in addresses {
        match connect_here(*address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_default())
}

async fn connect_here(address: SocketAddr) -> Result<TcpStream, String> {
    let short = |error: io::Error| error.kind().to_string();
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(short)?;
    // Only what is an address of this machine can be one's own: nothing is asked elsewhere.
    if !address.ip().is_loopback() {
        let elsewhere = |_| format!("{} is no address of this machine", address.ip());
        socket.bind(SocketAddr::new(address.ip(), 0)).map_err(elsewhere)?;
    }
    socket.connect(address).await.map_err(short)
}

async fn ask(stream: TcpStream, http: &Http) -> Result<(), String> {
    let request = Request::get(&http.path)
        .header(HOST, &http.host)
        .header(USER_AGENT, "kube")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let shake = http1::Builder::new().max_buf_size(LONGEST_HEAD).handshake(TokioIo::new(stream));
    let (mut sender, connection) = shake.await.map_err(in_short)?;
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    let answer = tokio::select! {
        answer = &mut answer => answer,
        // Its end may have brought the answer.
        _ = connection => answer.await,
    };
    let status = answer.map_err(in_short)?.status();
    if (200..400).contains(&status.as_u16()) { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` passes")]
fn in_short(error: hyper::Error) -> String {
    if error.is_parse_too_large() {
        format!("the head of its answer is longer than {LONGEST_HEAD} bytes")
    } else if error.is_parse() {
        "its answer is no HTTP/1.1".to_owned()
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "it hung up without an answer".to_owned()
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{config::Health, health::Check};

    const LONG: Duration = Duration::from_secs(30);

    fn listener(http: Option<String>, tcp: Option<u16>) -> Listener {
        match Check::of(&Health { http, tcp, ..Health::default() }) {
            Ok(Check::Listener(listener)) => listener,
            other => panic!("{other:?}"),
        }
    }

    async fn listen() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    /// What a check finds where something reads a request and says `answer`, and the request.
    async fn asked(answer: &[u8]) -> (Result<(), String>, String) {
        let (server, port) = listen().await;
        let serve = async {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.unwrap();
            }
            // It may have been told enough before the end.
            if stream.write_all(answer).await.is_ok() {
                stream.shutdown().await.unwrap_or_default();
            }
            String::from_utf8(request).unwrap()
        };
        let check = listener(Some("/up?x".to_owned()), None);
        tokio::join!(probe(&check, Some(port), LONG), serve)
    }

    #[tokio::test]
    async fn a_status_of_200_to_399_is_health() {
        for status in ["200 OK", "204 No Content", "302 Found", "399 x"] {
            let (found, request) = asked(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await;
            assert_eq!(found, Ok(()), "{status}");
            assert!(
                request.starts_with("GET /up?x HTTP/1.1\r\n") && request.contains("host: localhost\r\n"),
                "{request}"
            );
        }
        for (status, error) in [("400 Bad Request", "status 400"), ("503 x", "status 503"), ("999 x", "status 999")] {
            let (found, _) = asked(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await;
            assert_eq!(found, Err(error.to_owned()));
        }
    }

    #[tokio::test]
    async fn an_answer_may_be_announced_and_its_body_is_not_read() {
        let (found, _) =
            asked(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.0 200 OK\r\ncontent-length: 99999999\r\n\r\nx").await;
        assert_eq!(found, Ok(()));
    }

    #[tokio::test]
    async fn an_answer_that_is_none_is_told() {
        for (answer, error) in [
            (&b""[..], "it hung up without an answer"),
            (b"HTTP/1.1 200", "it hung up without an answer"),
            (b"220 mail.example ESMTP\r\n\r\n", "its answer is no HTTP/1.1"),
        ] {
            assert_eq!(asked(answer).await.0, Err(error.to_owned()));
        }
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(4 * LONGEST_HEAD));
        assert_eq!(
            asked(endless.as_bytes()).await.0,
            Err("the head of its answer is longer than 16384 bytes".to_owned())
        );
    }

    #[tokio::test]
    async fn a_port_that_takes_connections_is_health() {
        let (server, port) = listen().await;
        assert_eq!(probe(&listener(None, Some(port)), None, LONG).await, Ok(()));
        drop(server);
        let refused = Err("connection refused".to_owned());
        assert_eq!(probe(&listener(None, Some(port)), None, LONG).await, refused);
        assert_eq!(probe(&listener(Some("/".to_owned()), None), Some(port), LONG).await, refused);
    }

    #[tokio::test]
    async fn what_listens_on_the_other_localhost_is_found() {
        let Ok(server) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await else { return };
        let port = server.local_addr().unwrap().port();
        assert_eq!(probe(&listener(None, Some(port)), None, LONG).await, Ok(()));
    }

    #[tokio::test]
    async fn silence_ends_with_the_timeout() {
        let (_server, port) = listen().await;
        let check = listener(Some(format!("http://127.0.0.1:{port}/")), None);
        let found = probe(&check, None, Duration::from_millis(20)).await;
        assert_eq!(found, Err("no answer within 20ms".to_owned()));
    }

    #[tokio::test]
    async fn nothing_is_asked_on_another_machine() {
        let check = listener(Some("http://192.0.2.1/".to_owned()), None);
        assert_eq!(probe(&check, None, LONG).await, Err("192.0.2.1 is no address of this machine".to_owned()));
    }
}
