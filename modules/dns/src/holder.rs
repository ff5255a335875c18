//! Who has an address that cannot be listened on, as far as `/proc` tells: other users' programs hide theirs.
use std::{fmt, fs, net::SocketAddr};

use procfs::{
    net::{TcpState, tcp, tcp6, udp, udp6},
    process::{FDTarget, Process, all_processes},
};

/// Most processes, and open files of all together, that are looked at.
const PROCESSES: usize = 1 << 14;
const FILES: usize = 1 << 18;
/// The longest name that the kernel keeps of a program: `TASK_COMM_LEN` of `linux/sched.h`, without its end.
const COMM: usize = 15;

/// A program that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This one.
    Program {
        /// What it is called.
        name: String,
        /// The number of its process.
        pid: i32,
    },
    /// One of this user.
    Of(String),
}

impl Holder {
    /// Finds who has `address`, or all addresses of its port; `over` is `"UDP"` or `"TCP"`. It reads much: not for where others wait.
    pub fn find(address: SocketAddr, over: &str) -> Option<Self> {
        let (uid, inode) = socket(address, over)?;
        program(inode).or_else(|| user(&fs::read_to_string("/etc/passwd").ok()?, uid).map(Self::Of))
    }

    /// What a person can do so that the address is free.
    pub fn advice(&self) -> String {
        let (name, user) = match self {
            Self::Program { name, .. } => (name.as_str(), ""),
            Self::Of(user) => ("", user.as_str()),
        };
        match (name, user) {
            ("systemd-resolved", _) | (_, "systemd-resolve") => {
                "set DNSStubListener=no in /etc/systemd/resolved.conf, and `systemctl restart systemd-resolved`"
                    .to_owned()
            }
            ("docker-proxy", _) => "it is a published port of a container: publish another".to_owned(),
            ("kube", _) | (_, "kube") => "another KUBE runs: `systemctl stop kube`, or end that process".to_owned(),
            ("", user) => format!("stop what runs as {user}"),
            (name, _) => format!("stop {name}, and keep it from starting with the machine"),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program { name, pid } => write!(f, "{name} (pid {pid})"),
            Self::Of(user) => write!(f, "a program of the user {user}"),
        }
    }
}

/// User and inode of the socket that has an address.
fn socket(address: SocketAddr, over: &str) -> Option<(u32, u64)> {
    // A socket of IPv6 may have an address of IPv4.
    let sockets: Vec<(SocketAddr, u32, u64)> = match over {
        "TCP" => {
            let listening = [tcp(), tcp6()].into_iter().flatten().flatten().filter(|s| s.state == TcpState::Listen);
            listening.map(|socket| (socket.local_address, socket.uid, socket.inode)).collect()
        }
        _ => {
            let all = [udp(), udp6()].into_iter().flatten().flatten();
            all.map(|socket| (socket.local_address, socket.uid, socket.inode)).collect()
        }
    };
    let has = |local: &SocketAddr| {
        let (has, wanted) = (local.ip().to_canonical(), address.ip());
        let is_of_family = local.is_ipv6() || wanted.is_ipv4();
        local.port() == address.port()
            && (has == wanted || is_of_family && (has.is_unspecified() || wanted.is_unspecified()))
    };
    sockets.into_iter().find(|(local, ..)| has(local)).map(|(_, uid, inode)| (uid, inode))
}

/// The process that has a socket open.
fn program(inode: u64) -> Option<Holder> {
    let mut left = FILES;
    let mut has = |process: &Process| {
        let files = process.fd().into_iter().flatten().take(left).flatten();
        files.inspect(|_| left -= 1).any(|file| matches!(file.target, FDTarget::Socket(open) if open == inode))
    };
    let process = all_processes().ok()?.take(PROCESSES).flatten().find(|process| has(process))?;
    let comm = process.stat().ok()?.comm;
    let first = process.cmdline().ok().and_then(|words| words.into_iter().next()).unwrap_or_default();
    Some(Holder::Program { name: name(&comm, &first), pid: process.pid })
}

/// What a program is called: as the kernel has it, which cuts a name short, or whole as it was started; without what some say of
/// their part in it, like `nsd: main`. Whoever named it may mean harm to those who read logs.
fn name(comm: &str, first_word: &str) -> String {
    let file = first_word.rsplit('/').next().unwrap_or_default();
    let is_cut = comm.len() == COMM && file.starts_with(comm);
    let name = if is_cut { file } else { comm };
    let name = name.split_once(": ").map_or(name, |(name, _)| name);
    name.chars().filter(|shown| !shown.is_control()).take(64).collect()
}

/// What a user is called in `/etc/passwd`.
fn user(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn whoever_has_a_port_is_named() {
        let here = |holder: Option<Holder>| match holder {
            Some(Holder::Program { name, pid }) => {
                name.starts_with("kube_dns") && u32::try_from(pid) == Ok(std::process::id())
            }
            Some(Holder::Of(_)) | None => false,
        };
        for bound in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let (tcp, udp) = (TcpListener::bind(bound).unwrap(), UdpSocket::bind(bound).unwrap());
            let is_v6 = bound.starts_with('[');
            for (socket, over) in [(tcp.local_addr().unwrap(), "TCP"), (udp.local_addr().unwrap(), "UDP")] {
                assert!(here(Holder::find(socket, over)), "{socket} {over}");
                let loopback = SocketAddr::new(if is_v6 { "::1" } else { "127.0.0.1" }.parse().unwrap(), socket.port());
                assert!(here(Holder::find(loopback, over)), "{socket} {over}");
            }
        }
        assert_eq!(Holder::find("127.0.0.1:1".parse().unwrap(), "TCP"), None);
    }

    #[test]
    fn a_name_is_whole_and_harmless() {
        assert_eq!(name("systemd-resolve", "/lib/systemd/systemd-resolved"), "systemd-resolved");
        assert_eq!(name("nginx", "nginx: master process"), "nginx");
        assert_eq!(name("nsd: xfrd", "/usr/sbin/nsd"), "nsd");
        assert_eq!(name("evil\x1b[31m\n", ""), "evil[31m");
        assert_eq!(name("long-name-of-15", "python3"), "long-name-of-15");
    }

    #[test]
    fn where_processes_hide_the_user_is_named() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nsystemd-resolve:x:101:102::/:/usr/sbin/nologin\n";
        assert_eq!(user(passwd, 101).as_deref(), Some("systemd-resolve"));
        assert_eq!(user(passwd, 7), None);
        let of = Holder::Of("systemd-resolve".to_owned());
        assert_eq!(of.to_string(), "a program of the user systemd-resolve");
        assert!(of.advice().contains("DNSStubListener=no"));
        let named = Holder::Program { name: "named".to_owned(), pid: 612 };
        assert_eq!((named.to_string().as_str(), named.advice().starts_with("stop named")), ("named (pid 612)", true));
    }
}
