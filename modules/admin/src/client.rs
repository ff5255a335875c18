//! The command line's end of the socket.
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};

/// The longest answer that is read.
const LARGEST: usize = 16 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A way to the KUBE at one socket.
pub struct Client {
    path: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no KUBE is running at {0}: start it with `kube run`, or `systemctl start kube`")]
    NotRunning(PathBuf),
    /// The socket is another user's.
    #[error("permission denied at {path}: run as root, or as {owner}")]
    Forbidden {
        /// The socket.
        path: PathBuf,
        /// Whose it is, as far as it is known.
        owner: String,
    },
    /// The connection broke, or the answer makes no sense.
    #[error("asking the KUBE at {path}: {reason}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// There is an answer, and nowhere to put it.
    #[error("cannot write what KUBE answered: {0}")]
    Unwritable(#[source] io::Error),
    /// KUBE answered with an error of its own.
    #[error("{0}")]
    Refused(String),
}

/// The sink took no more.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Unwritten(io::Error);

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Client {
    /// Checks that somebody listens at `path`.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] or [`ClientError::Forbidden`].
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let client = Self { path: path.to_owned() };
        client.stream().await?;
        Ok(client)
    }

    /// Asks for `path`, such as `/v1/status`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Asks KUBE to do something.
    ///
    /// # Errors
    /// Why it did not.
    pub async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::POST, path, Bytes::new()).await
    }

    /// Asks KUBE to make something.
    ///
    /// # Errors
    /// Why it did not.
    pub async fn create<T: DeserializeOwned>(&self, path: &str, order: &impl Serialize) -> Result<T, ClientError> {
        let order = serde_json::to_vec(order).map_err(|error| self.broken(&error))?;
        self.ask(Method::POST, path, order.into()).await
    }

    /// Asks KUBE to remove something.
    ///
    /// # Errors
    /// Why it did not.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::DELETE, path, Bytes::new()).await
    }

    /// Sends KUBE a file.
    ///
    /// # Errors
    /// Why it did not take it.
    pub async fn send<T: DeserializeOwned>(&self, path: &str, file: Bytes) -> Result<T, ClientError> {
        self.ask(Method::POST, path, file).await
    }

    /// Copies an answer of any length into `sink` as it arrives.
    ///
    /// # Errors
    /// Why there is no answer, or none that could be copied whole.
    pub async fn copy(&self, path: &str, sink: &mut (dyn io::Write + Send)) -> Result<(), ClientError> {
        self.exchange(Method::GET, path, Bytes::new(), Some(sink)).await.map(drop)
    }

    /// The same for a request that says more.
    ///
    /// # Errors
    /// Why there is no answer, or none that could be copied whole.
    pub async fn copy_with(
        &self,
        path: &str,
        order: &impl Serialize,
        sink: &mut (dyn io::Write + Send),
    ) -> Result<(), ClientError> {
        let order = serde_json::to_vec(order).map_err(|error| self.broken(&error))?;
        self.exchange(Method::POST, path, order.into(), Some(sink)).await.map(drop)
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, ClientError> {
        let answer = self.exchange(method, path, body, None).await?;
        serde_json::from_slice(&answer).map_err(|error| self.broken(&error))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        sink: Option<&mut (dyn io::Write + Send)>,
    ) -> Result<Bytes, ClientError> {
        let stream = self.stream().await?;
        let (status, body) = match timeout(PATIENCE, exchange(stream, method, path, body, sink)).await {
            Ok(answer) => answer.map_err(|error| match error.downcast::<Unwritten>() {
                Ok(unwritten) => ClientError::Unwritable(unwritten.0),
                Err(error) => self.broken(&*error),
            })?,
            Err(elapsed) => return Err(self.broken(&elapsed)),
        };
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice(&body) {
            Ok(Refusal { error }) => Err(ClientError::Refused(error)),
            Err(_) => Err(ClientError::Broken { path: self.path.clone(), reason: format!("answered {status}") }),
        }
    }

    async fn stream(&self) -> Result<UnixStream, ClientError> {
        UnixStream::connect(&self.path).await.map_err(|error| {
            let path = self.path.clone();
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
                ClientError::NotRunning(path)
            } else if error.kind() == io::ErrorKind::PermissionDenied {
                ClientError::Forbidden { owner: owner(&path), path }
            } else {
                self.broken(&error)
            }
        })
    }

    fn broken(&self, error: &dyn std::error::Error) -> ClientError {
        ClientError::Broken { path: self.path.clone(), reason: error.to_string() }
    }
}

/// Who may use the socket, by name when the system's list of users has one.
fn owner(socket: &Path) -> String {
    // Of a socket in a closed folder only the folder can be seen.
    let Some(uid) = socket.ancestors().find_map(|path| fs::metadata(path).ok()).map(|seen| seen.uid().to_string())
    else {
        return "the user that KUBE runs as".to_owned();
    };
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        fields.next().filter(|_| fields.nth(1) == Some(&uid))
    });
    name.map_or_else(|| format!("user {uid}"), str::to_owned)
}

/// One request and its answer over one connection; the body of a good one goes into `sink`, if there is one.
async fn exchange(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Bytes,
    sink: Option<&mut (dyn io::Write + Send)>,
) -> Result<(hyper::StatusCode, Bytes), kube_contract::BoxError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder().method(method).uri(path).header(HOST, "kube");
    let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(body))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        let Some(sink) = sink.filter(|_| status.is_success()) else {
            return Ok((status, Limited::new(body, LARGEST).collect().await?.to_bytes()));
        };
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                sink.write_all(data).map_err(Unwritten)?;
            }
        }
        Ok((status, Bytes::new()))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // The connection may end first, with the whole answer read.
        _ = &mut connection => answer.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_told_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let name = owner(&folder.path().join("closed/admin.sock"));
        if rustix::process::geteuid().is_root() {
            assert_eq!(name, "root");
        } else {
            assert!(!name.is_empty());
        }
    }
}
