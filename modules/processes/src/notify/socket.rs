//! The socket that a process says things to.
use std::{
    fs, io,
    mem::MaybeUninit,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    cmsg_space,
    fs::{Mode, chmod, chown},
    io::IoSliceMut,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags, SocketType,
        bind, recvmsg, socket_with, sockopt::set_socket_passcred,
    },
    process::{Gid, Pid, Uid},
};
use tokio::{
    io::Interest,
    net::UnixDatagram,
    time::{Instant, sleep_until},
};

use super::{LONGEST, NotifyError, Said, parse};

/// The `NOTIFY_SOCKET` of one instance of one process.
///
/// It is a file that only the process's own user may write to, so that a message is from that process, or from one that it
/// started, and does not have to be traced to it after its sender has ended. Where several share a user, the pid that the
/// kernel vouches for tells them apart. One that says too much waits for itself alone, for no other has its queue.
#[derive(Debug)]
pub struct Socket {
    socket: UnixDatagram,
    path: PathBuf,
    /// When the second began in which messages are counted, and how many there were.
    second: (Instant, u32),
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who sent it.
    pub pid: Pid,
    /// Whom that runs as.
    pub uid: Uid,
    /// What it says, if it can be understood.
    pub said: Result<Vec<Said>, NotifyError>,
}

/// Most messages that are read in a second: the sender of more waits.
const MOST: u32 = 100;

const SECOND: Duration = Duration::from_secs(1);

impl Socket {
    /// Opens the socket at `path`, in place of one that is left over there, for `owner`; for KUBE's own user, if none.
    ///
    /// The path is this instance's alone, for it goes with it; it may have 107 bytes (unix(7)). The owner has to be able to
    /// reach its folder, and not to write to it. Inside of a runtime.
    ///
    /// # Errors
    /// It cannot be made, or given to the owner.
    pub fn open(path: &Path, owner: Option<(Uid, Gid)>) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        // Before there is anything to send to: the first message has a sender too.
        set_socket_passcred(&socket, true)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        let opened =
            Self { socket: UnixDatagram::from_std(socket.into())?, path: path.to_owned(), second: (Instant::now(), 0) };
        chmod(path, Mode::RUSR | Mode::WUSR)?;
        if let Some((uid, gid)) = owner {
            chown(path, Some(uid), Some(gid))?;
        }
        Ok(opened)
    }

    /// What `NOTIFY_SOCKET` says.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next message. Nothing is lost where this is dropped before it is there.
    ///
    /// # Errors
    /// The socket is of no use any more.
    pub async fn hear(&mut self) -> io::Result<Heard> {
        let (began, count) = self.second;
        if began.elapsed() >= SECOND {
            self.second = (Instant::now(), 0);
        } else if count >= MOST {
            sleep_until(began + SECOND).await;
            self.second = (Instant::now(), 0);
        }
        let heard = self.socket.async_io(Interest::READABLE, || receive(&self.socket)).await?;
        self.second.1 += 1;
        Ok(heard)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a socket is left over");
        }
    }
}

fn receive(socket: &UnixDatagram) -> io::Result<Heard> {
    // One more than is taken, so that what is longer shows.
    let mut message = [0; LONGEST + 1];
    // There is no room for descriptors, so the kernel closes those that come along: what BARRIER=1 waits for.
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut message)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let sender = control.drain().find_map(|message| {
        if let RecvAncillaryMessage::ScmCredentials(sender) = message { Some(sender) } else { None }
    });
    let sender = sender.ok_or_else(|| io::Error::other("a message without a sender"))?;
    Ok(Heard { pid: sender.pid, uid: sender.uid, said: parse(&message[..received.bytes]) })
}

#[cfg(test)]
mod tests {
    use std::{
        io::{PipeReader, Read, pipe},
        os::{
            fd::AsFd,
            unix::{net::UnixDatagram, process::CommandExt},
        },
        process::{Command, Stdio},
    };

    use rustix::{
        io::IoSlice,
        net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
        process::{getpid, getuid},
    };
    use tempfile::TempDir;

    use super::*;

    fn open() -> (TempDir, Socket) {
        let folder = tempfile::tempdir().unwrap();
        let socket = Socket::open(&folder.path().join("socket"), None).unwrap();
        (folder, socket)
    }

    /// Someone who says things to it.
    fn sender(socket: &Socket) -> UnixDatagram {
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(socket.path()).unwrap();
        sender
    }

    #[tokio::test]
    async fn what_is_said_is_heard_and_who_said_it() {
        let (_folder, mut socket) = open();
        sender(&socket).send(b"READY=1\nSTATUS=up").unwrap();
        let said = Ok(vec![Said::Ready, Said::Status("up".to_owned())]);
        assert_eq!(socket.hear().await.unwrap(), Heard { pid: getpid(), uid: getuid(), said });
    }

    /// A program that says that it is alive, and fails where it may not; none without Python.
    fn another(socket: &Socket) -> Option<Command> {
        let says = "import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \
                    s.sendto(b'WATCHDOG=1', os.environ['NOTIFY_SOCKET'])";
        let mut python = Command::new("python3");
        python.args(["-c", says]).env("NOTIFY_SOCKET", socket.path()).stderr(Stdio::null());
        Command::new("python3").arg("--version").output().is_ok().then_some(python)
    }

    #[tokio::test]
    async fn a_sender_is_known_after_it_has_ended() {
        let (_folder, mut socket) = open();
        let Some(mut program) = another(&socket) else { return };
        let mut child = program.spawn().unwrap();
        assert!(child.wait().unwrap().success());
        let heard = socket.hear().await.unwrap();
        assert_eq!((heard.pid, heard.said), (Pid::from_child(&child), Ok(vec![Said::Alive])));
    }

    #[tokio::test]
    async fn nobody_speaks_for_the_process_of_another_user() {
        let (folder, socket) = open();
        drop(socket);
        if !getuid().is_root() {
            return;
        }
        chmod(folder.path(), Mode::from_raw_mode(0o711)).unwrap();
        let owner = (Uid::from_raw(64_321), Gid::from_raw(64_321));
        let mut socket = Socket::open(&folder.path().join("socket"), Some(owner)).unwrap();
        let Some(mut program) = another(&socket) else { return };
        assert!(!program.uid(64_322).gid(64_321).status().unwrap().success());
        assert!(program.uid(64_321).status().unwrap().success());
        let heard = socket.hear().await.unwrap();
        assert_eq!((heard.uid, heard.said), (owner.0, Ok(vec![Said::Alive])));
    }

    #[tokio::test]
    async fn what_is_no_message_does_not_end_it() {
        let (_folder, mut socket) = open();
        let sender = sender(&socket);
        for message in [&[b'x'; LONGEST + 100][..], b"\xff", b"", b"READY=1"] {
            sender.send(message).unwrap();
        }
        for said in [Err(NotifyError::Long), Err(NotifyError::NotText), Ok(vec![]), Ok(vec![Said::Ready])] {
            assert_eq!(socket.hear().await.unwrap().said, said);
        }
    }

    /// Sends a message with `count` descriptors of the writing end of a pipe; returns the reading end.
    fn send_descriptors(to: &UnixDatagram, message: &[u8], count: usize) -> PipeReader {
        let (reader, writer) = pipe().unwrap();
        let descriptors = vec![writer.as_fd(); count];
        let mut space = vec![MaybeUninit::uninit(); cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(to, &[IoSlice::new(message)], &mut control, SendFlags::empty()).unwrap();
        reader
    }

    #[tokio::test]
    async fn descriptors_are_closed_as_soon_as_their_message_is_heard() {
        let (_folder, mut socket) = open();
        let sender = sender(&socket);
        for (message, count) in [("BARRIER=1", 1), ("FDSTORE=1\nFDNAME=x", 253)] {
            let mut reader = send_descriptors(&sender, message.as_bytes(), count);
            assert_eq!(socket.hear().await.unwrap().said, Ok(vec![]));
            // It ends once nobody has the other end any more.
            assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_says_too_much_waits() {
        let (_folder, mut socket) = open();
        let sender = sender(&socket);
        let began = Instant::now();
        for (count, seconds) in [(MOST, 0), (MOST, 1), (1, 2)] {
            for _ in 0..count {
                sender.send(b"WATCHDOG=1").unwrap();
                socket.hear().await.unwrap();
            }
            assert_eq!(began.elapsed().as_secs(), seconds);
        }
    }

    #[tokio::test]
    async fn a_socket_is_its_owners_and_goes_with_its_process() {
        let (folder, socket) = open();
        let path = socket.path().to_owned();
        let mode = rustix::fs::stat(&path).unwrap().st_mode;
        assert_eq!(Mode::from_raw_mode(mode), Mode::RUSR | Mode::WUSR);
        drop(socket);
        assert!(!path.exists());

        // What a KUBE left that was killed.
        let left = UnixDatagram::bind(&path).unwrap();
        let mut socket = Socket::open(&path, Some((getuid(), rustix::process::getgid()))).unwrap();
        sender(&socket).send(b"READY=1").unwrap();
        assert_eq!(socket.hear().await.unwrap().said, Ok(vec![Said::Ready]));
        drop(left);

        let long = folder.path().join("x".repeat(108));
        assert_eq!(Socket::open(&long, None).unwrap_err().kind(), io::ErrorKind::InvalidFilename);
    }
}
