//! What lies between a KUBE and its authority: it sees every request, and harms those that it is told to.
use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use crate::kube::Home;

/// What becomes of one request.
#[derive(Clone)]
pub(crate) enum Harm {
    /// It goes its way.
    None,
    /// It is passed on, and its answer comes when all is well again.
    Hold,
    /// It is not passed on, and nobody answers until all is well again.
    Silence,
    /// The same, of a request that was passed on.
    Swallow,
    /// The connection ends, and it is not passed on.
    Refuse,
    /// It is passed on, and the connection ends.
    Lose,
    /// It is passed on, and half of the answer comes.
    Cut,
    /// This is said instead: status line and headers, and a body.
    Say(&'static str, String),
    /// This is said without end.
    Flood,
    /// In the answer, the first text stands for the second.
    Alter(&'static str, &'static str),
}

/// Says what becomes of a request, by its path and its number.
type Rule = Box<dyn FnMut(&str, usize) -> Harm + Send>;

#[derive(Default)]
struct State {
    rule: Option<Rule>,
    /// How many requests came since it was made.
    came: usize,
    /// How many are kept waiting.
    waiting: usize,
    /// How often all became well.
    heals: usize,
    /// What was passed on: path, and status.
    passed: Vec<(String, u16)>,
    is_over: bool,
}

/// Where a KUBE finds Pebble. Dropping it ends it.
pub(crate) struct Between {
    port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Between {
    /// At a port, before the Pebble of this home, which is at another.
    pub(crate) fn start(home: &Home, port: u16, pebble: u16) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificate = CertificateDer::from_pem_file(home.path("pebble-own.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(home.path("pebble-own.key")).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let server = server.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&fs::read(home.path("pebble.pem")).unwrap()).unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
        let way = Arc::new(Way { server: Arc::new(server), client: Arc::new(client), pebble });

        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let seen = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if seen.0.lock().unwrap().is_over {
                    break;
                }
                let (way, state) = (Arc::clone(&way), Arc::clone(&seen));
                // Whoever breaks a connection off hears of it there.
                thread::spawn(move || way.serve(stream, &state).ok());
            }
        });
        Self { port, state }
    }

    /// Harms requests from now on, counted from 1.
    pub(crate) fn harm(&self, rule: impl FnMut(&str, usize) -> Harm + Send + 'static) {
        let mut state = self.state.0.lock().unwrap();
        state.rule = Some(Box::new(rule));
        state.came = 0;
    }

    /// Harms nothing more, and lets go of what is kept waiting.
    pub(crate) fn heal(&self) {
        let (state, changed) = &*self.state;
        let mut state = state.lock().unwrap();
        state.rule = None;
        state.heals += 1;
        changed.notify_all();
    }

    /// Whether a request is kept waiting.
    pub(crate) fn is_waiting(&self) -> bool {
        self.state.0.lock().unwrap().waiting > 0
    }

    /// How many requests to paths that begin so did at Pebble what they were for.
    pub(crate) fn done(&self, path: &str) -> usize {
        let state = self.state.0.lock().unwrap();
        let is_done = |(passed, status): &&(String, u16)| passed.starts_with(path) && (200..300).contains(status);
        state.passed.iter().filter(is_done).count()
    }

    /// Forgets what was done so far.
    pub(crate) fn forget(&self) {
        self.state.0.lock().unwrap().passed.clear();
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.heal();
        self.state.0.lock().unwrap().is_over = true;
        // It listens no more once it has heard this.
        TcpStream::connect(("127.0.0.1", self.port)).ok();
    }
}

/// From a KUBE to Pebble.
struct Way {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    pebble: u16,
}

impl Way {
    fn serve(&self, stream: TcpStream, (state, changed): &(Mutex<State>, Condvar)) -> io::Result<()> {
        // Nobody here takes that long.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut kube =
            StreamOwned::new(ServerConnection::new(Arc::clone(&self.server)).map_err(io::Error::other)?, stream);
        let request = read_request(&mut kube)?;
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let (harm, heals) = {
            let mut state = state.lock().unwrap();
            state.came += 1;
            let came = state.came;
            let harm = state.rule.as_mut().map_or(Harm::None, |rule| rule(&path, came));
            (harm, state.heals)
        };
        let wait = || {
            let mut state = state.lock().unwrap();
            state.waiting += 1;
            let mut state = changed.wait_while(state, |state| state.heals == heals).unwrap();
            state.waiting -= 1;
        };
        let pass = || -> io::Result<Answer> {
            let answer = self.ask(&request)?;
            state.lock().unwrap().passed.push((path.clone(), answer.status()));
            Ok(answer)
        };
        match harm {
            Harm::None => kube.write_all(&pass()?.bytes())?,
            Harm::Hold => {
                let answer = pass()?;
                wait();
                kube.write_all(&answer.bytes())?;
            }
            Harm::Silence => wait(),
            Harm::Swallow => {
                pass()?;
                wait();
            }
            Harm::Refuse => {}
            Harm::Lose => drop(pass()?),
            Harm::Cut => {
                let answer = pass()?;
                let (bytes, body) = (answer.bytes(), answer.body.len());
                let length = if body == 0 { bytes.len() / 2 } else { bytes.len() - body.div_ceil(2) };
                kube.write_all(&bytes[..length])?;
            }
            Harm::Say(head, body) => {
                kube.write_all(&Answer { head: head.to_owned(), body: body.into_bytes() }.bytes())?
            }
            Harm::Flood => {
                kube.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                (0..1024).try_for_each(|_| kube.write_all(&[b'x'; 64 << 10]))?;
            }
            Harm::Alter(from, to) => {
                let answer = pass()?;
                let body = String::from_utf8_lossy(&answer.body).replace(from, to).into_bytes();
                kube.write_all(&Answer { head: answer.head, body }.bytes())?;
            }
        }
        kube.conn.send_close_notify();
        kube.flush()
    }

    fn ask(&self, request: &str) -> io::Result<Answer> {
        let stream = TcpStream::connect(("127.0.0.1", self.pebble))?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(&self.client), name).map_err(io::Error::other)?;
        let mut pebble = StreamOwned::new(connection, stream);
        // So that the answer ends with the connection, and is in one piece.
        pebble.write_all(request.replacen("HTTP/1.1", "HTTP/1.0", 1).as_bytes())?;
        pebble.flush()?;
        let mut bytes = Vec::new();
        match pebble.read_to_end(&mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let body = bytes.split_off(end + 4);
        let head = String::from_utf8_lossy(&bytes[..end]).replacen("HTTP/1.0", "HTTP/1.1", 1);
        let is_kept =
            |line: &&str| !["content-length:", "connection:"].iter().any(|name| line.to_lowercase().starts_with(name));
        let head = head.split("\r\n").filter(is_kept).collect::<Vec<_>>().join("\r\n");
        Ok(Answer { head, body })
    }
}

/// An answer whose headers say nothing of its length.
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    fn bytes(&self) -> Vec<u8> {
        let Self { head, body } = self;
        let head = format!("{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }
}

/// A request with its body, whose length is said.
fn read_request(from: &mut impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let length = from.read(&mut part)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let said =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        if body.len() >= said.unwrap_or(0) {
            return Ok(text.into_owned());
        }
    }
}
