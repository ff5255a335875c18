//! Asks a server, and takes only answers that are well formed.
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{message::Message, question::Question};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer that any server here sends over UDP: what passes everywhere without fragments,
/// [the resolvers' agreement of 2020](https://www.dnsflagday.net/2020/).
const LARGEST: u16 = 1232;
/// The largest to those who do not say more: [RFC 1035, section 4.2.1](https://www.rfc-editor.org/rfc/rfc1035#section-4.2.1).
const PLAIN: u16 = 512;

/// One who asks a server: a socket for UDP, and a connection that is kept.
#[derive(Debug)]
pub struct Asker {
    address: SocketAddr,
    socket: UdpSocket,
    stream: Option<TcpStream>,
}

impl Asker {
    /// One who will ask the server at `address`.
    ///
    /// # Errors
    /// There is no socket left.
    pub fn new(address: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { address, socket, stream: None })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// There is none, or it is not one to this question as every server gives it.
    pub fn ask(&mut self, question: &Question) -> Result<Message> {
        let wire = if question.over_tcp { self.over_tcp(&question.wire())? } else { self.over_udp(&question.wire())? };
        let answer = Message::read(&wire).with_context(|| format!("{} octets: {}", wire.len(), wire.escape_ascii()))?;
        let sound = is_sound(question, &answer);
        sound.with_context(|| format!("the answer is unsound: {answer}"))?;
        Ok(answer)
    }

    fn over_udp(&mut self, question: &[u8]) -> Result<Vec<u8>> {
        self.socket.send(question)?;
        let mut answer = vec![0; usize::from(u16::MAX)];
        let length = self.socket.recv(&mut answer).context("no answer over UDP")?;
        answer.truncate(length);
        Ok(answer)
    }

    fn over_tcp(&mut self, question: &[u8]) -> Result<Vec<u8>> {
        let kept = self.stream.take();
        // It may have been closed meanwhile.
        let (stream, answer) = match kept.and_then(|mut stream| exchange(&mut stream, question).ok().zip(Some(stream)))
        {
            Some((answer, stream)) => (stream, answer),
            None => {
                let mut stream = TcpStream::connect(self.address).context("no connection over TCP")?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                let answer = exchange(&mut stream, question).context("no answer over TCP")?;
                (stream, answer)
            }
        };
        self.stream = Some(stream);
        Ok(answer)
    }
}

/// [RFC 1035, section 4.2.2](https://www.rfc-editor.org/rfc/rfc1035#section-4.2.2).
fn exchange(stream: &mut TcpStream, question: &[u8]) -> Result<Vec<u8>> {
    stream.write_all(&[&(question.len() as u16).to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// The most octets that an answer to a question may have.
pub(crate) fn limit(question: &Question) -> usize {
    match question.edns {
        _ if question.over_tcp => u16::MAX.into(),
        None => PLAIN.into(),
        Some(size) => size.clamp(PLAIN, LARGEST).into(),
    }
}

/// What is the same for every answer of every server.
fn is_sound(question: &Question, answer: &Message) -> Result<()> {
    ensure!(answer.id == question.id, "another id");
    ensure!(answer.question == question.section(), "another question, or one in another case");
    // QR, opcode 0, RD as it was; RA, Z, AD and CD not.
    let expected = 0x8000 | u16::from(question.wants_recursion) << 8;
    ensure!(answer.flags & !0x060f == expected, "flags {:04x}", answer.flags);
    ensure!(answer.length <= limit(question), "{} octets", answer.length);
    ensure!(!(question.over_tcp && answer.is_truncated()), "truncated over TCP");
    ensure!(answer.edns.is_some() == question.edns.is_some(), "EDNS {:?}", answer.edns);
    if let Some(edns) = &answer.edns {
        ensure!(edns.version == 0 && edns.payload >= PLAIN, "EDNS {edns:?}");
        // RFC 3225, section 3.
        ensure!(edns.flags == if question.wants_dnssec { 0x8000 } else { 0 }, "EDNS {edns:?}");
    }
    for section in [&answer.answer, &answer.authority, &answer.additional] {
        for record in section {
            ensure!(record.class == 1, "class {}: {record}", record.class);
        }
        for pair in section.windows(2) {
            ensure!(pair[0] != pair[1], "twice: {}", pair[0]);
        }
    }
    Ok(())
}
