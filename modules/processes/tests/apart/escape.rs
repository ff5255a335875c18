//! What an ordinary child that is kept apart cannot do.
use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixListener},
        },
    },
    process::{Command, id},
};

use kube_processes::Sandbox;
use tokio::io::AsyncReadExt;

use crate::{BESIDE, Outcome, Test, world::World};

pub(crate) const TESTS: [Test; 8] = [
    ("what_is_hidden_cannot_be_read", hidden),
    ("only_its_own_folder_and_what_is_listed_can_be_written", writes),
    ("with_a_list_only_that_and_the_system_can_be_read", reads),
    ("kube_and_other_processes_cannot_be_looked_into_or_signalled", others),
    ("it_has_no_capabilities_and_gets_no_new_privileges", privileges),
    ("ports_are_those_that_are_listed", ports),
    ("abstract_sockets_of_others_cannot_be_reached", abstract_sockets),
    ("who_belongs_to_a_process_is_known", owners),
];

fn landlock(world: &World) -> u32 {
    world.launcher.means()[1].strip_prefix("Landlock ").unwrap().parse().unwrap()
}

/// Runs lines of shell, each of which must fail; and then one that must not.
fn must_fail(world: &World, name: &str, lines: &[String], options: &str) {
    let script: String = lines
        .iter()
        .map(|line| format!("( {line} ) 2>/dev/null && echo 'IT WENT: {}'\n", line.replace('\'', "\"")))
        .collect();
    let done = world.run(name, &format!("{script}echo end"), options);
    assert_eq!((&*done.stdout, &*done.stderr), ("end\n", ""));
}

fn hidden(world: &World) -> Outcome {
    world.run("neighbour", "echo secret >$HOME/mine", "");
    let data = world.folder.path().display();
    let paths = ["keys/secret", "logs/other", "kube.toml", "processes/neighbour/mine"];
    let mut lines: Vec<_> = paths.iter().map(|path| format!("cat {data}/{path}")).collect();
    lines.extend(paths.iter().map(|path| format!("echo x >>{data}/{path}")));
    lines.extend(["keys", "logs", "processes", "processes/neighbour", ""].map(|path| format!("ls {data}/{path}")));
    lines.extend(["keys", "logs"].map(|path| format!("mv {data}/{path} {data}/processes/thief/")));
    lines.extend(paths.iter().map(|path| format!("ln {data}/{path} $HOME/link && cat $HOME/link")));
    lines.extend(paths.iter().map(|path| format!("ln -sf {data}/{path} $HOME/soft && cat $HOME/soft")));
    must_fail(world, "thief", &lines, "");
    Outcome::Passed
}

fn writes(world: &World) -> Outcome {
    if landlock(world) == 0 {
        return Outcome::Skipped("this kernel has no Landlock".to_owned());
    }
    let shared = tempfile::tempdir_in(BESIDE).unwrap();
    fs::set_permissions(shared.path(), Permissions::from_mode(0o777)).unwrap();
    // Everybody may write there, so only Landlock keeps it from that.
    let open = tempfile::tempdir_in(BESIDE).unwrap();
    fs::set_permissions(open.path(), Permissions::from_mode(0o777)).unwrap();
    let (shared, open) = (shared.path().display(), open.path().display());
    must_fail(world, "writer", &[format!("touch {open}/x"), "touch /x".to_owned(), "touch /usr/x".to_owned()], "");
    let done = world.run(
        "writer",
        &format!("echo a >$HOME/a && echo b >$TMPDIR/b && echo c >{shared}/c && echo x >/dev/null && echo went"),
        &format!(r#","write":["{shared}"]"#),
    );
    assert_eq!((&*done.stdout, &*done.stderr), ("went\n", ""));
    Outcome::Passed
}

fn reads(world: &World) -> Outcome {
    if landlock(world) == 0 {
        return Outcome::Skipped("this kernel has no Landlock".to_owned());
    }
    let listed = tempfile::tempdir_in(BESIDE).unwrap();
    fs::set_permissions(listed.path(), Permissions::from_mode(0o755)).unwrap();
    fs::write(listed.path().join("file"), "seen\n").unwrap();
    let script = format!(
        "cat {}/file; cat /etc/hostname >/dev/null || test ! -e /etc/hostname; ls /usr >/dev/null && cat /dev/null && echo went",
        listed.path().display()
    );
    let done = world.run("reader", &script, &format!(r#","read":["{}"]"#, listed.path().display()));
    assert_eq!((&*done.stdout, &*done.stderr), ("seen\nwent\n", ""));
    must_fail(
        world,
        "reader",
        &["ls /opt /srv /boot".to_owned(), "ls /".to_owned(), "ls /var".to_owned()],
        r#","read":[]"#,
    );
    let error = world.block_on(world.start("reader", "true", r#","read":["/not/there"]"#)).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "cannot let it use /not/there: no such file or directory");
    Outcome::Passed
}

fn others(world: &World) -> Outcome {
    let ptrace = if cfg!(target_arch = "x86_64") { 101 } else { 117 };
    world.block_on(async {
        let mut other = world.start("victim", "echo up; exec sleep 1000", "").await.unwrap();
        other.stdout.read_exact(&mut [0; 3]).await.unwrap();
        let script: String = [id(), other.pid()]
            .iter()
            .flat_map(|pid| {
                [
                    format!("cat /proc/{pid}/environ"),
                    format!("readlink /proc/{pid}/fd/1"),
                    format!("ls /proc/{pid}/root/"),
                    format!("ls /proc/{pid}/cwd/"),
                    format!("head -c1 /proc/{pid}/mem"),
                    format!("cat /proc/{pid}/maps | grep ."),
                    format!("kill -0 {pid}"),
                    format!("kill -WINCH {pid}"),
                    // PTRACE_SEIZE of ptrace(2).
                    format!("perl -e \"exit(syscall({ptrace}, 16902, {pid}, 0, 0) == 0 ? 0 : 1)\""),
                ]
            })
            .map(|line| format!("( {line} ) >/dev/null 2>&1 && echo '{line}'\n"))
            .collect();
        let done = crate::world::finish(world.start("spy", &script, "").await.unwrap()).await;
        let went: Vec<_> = done.stdout.lines().collect();
        let signals = went.iter().filter(|line| line.starts_with("kill ")).count();
        assert_eq!(went.len(), signals, "{went:?}");
        assert!(signals == 0 || landlock(world) < 6, "{went:?}");
        other.group().kill().await.unwrap();
    });
    Outcome::Passed
}

fn privileges(world: &World) -> Outcome {
    let done =
        world.run("status", "cat /proc/self/status /proc/self/oom_score_adj; ulimit -c; ulimit -n", r#","files":77"#);
    let value = |key: &str| {
        let line = done.stdout.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_start_matches(':').split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let nothing = ["0000000000000000"];
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(value(set), nothing, "{set}");
    }
    assert_eq!(value("NoNewPrivs"), ["1"]);
    assert_eq!(value("SigBlk"), nothing);
    // 32 and 33 are the C library's: nobody else can set them.
    let ignored = u64::from_str_radix(&value("SigIgn")[0], 16).unwrap();
    assert_eq!(ignored & !(0b11 << 31), 0, "{ignored:x}");
    let own = rustix::process::getuid().as_raw();
    let uid: u32 = value("Uid")[0].parse().unwrap();
    if own == 0 {
        assert_eq!(value("CapBnd"), nothing);
        assert!((1_879_048_192..=2_147_352_575).contains(&uid), "{uid}");
        assert_eq!(value("Groups"), [""; 0]);
    } else {
        assert_eq!(uid, own);
    }
    let last: Vec<_> = done.stdout.lines().rev().take(2).collect();
    assert_eq!(last, ["77", "0"]);
    // It is not lost by what leads to more elsewhere.
    let done = world.run("status", "su -c id nobody </dev/null >/dev/null 2>&1 && echo went; id -u", "");
    assert_eq!(done.stdout, format!("{}\n", world.run("status", "id -u", "").stdout.trim()));
    Outcome::Passed
}

fn ports(world: &World) -> Outcome {
    if landlock(world) < 4 {
        return Outcome::Skipped("this kernel has no Landlock for ports (Linux 6.7)".to_owned());
    }
    if Command::new("perl").arg("-v").output().is_err() {
        return Outcome::Skipped("there is no perl".to_owned());
    }
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [listed, other] = listeners.each_ref().map(|it| it.local_addr().unwrap().port());
    let connect =
        |port| format!("perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(PeerAddr=>q(127.0.0.1:{port}))'");
    let bind = |port| {
        format!(
            "perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(Listen=>1,ReuseAddr=>1,LocalAddr=>q(127.0.0.1:{port}))'"
        )
    };
    let options = format!(r#","connect":[{listed}],"bind":[]"#);
    let script =
        format!("{} && echo connected\n{} || echo not\n{} || echo not", connect(listed), connect(other), bind(0));
    assert_eq!(world.run("ports", &script, &options).stdout, "connected\nnot\nnot\n");
    assert_eq!(world.run("ports", &format!("{} && {} && echo went", connect(other), bind(0)), "").stdout, "went\n");
    Outcome::Passed
}

fn abstract_sockets(world: &World) -> Outcome {
    if landlock(world) < 6 {
        return Outcome::Skipped("this kernel has no Landlock for abstract sockets (Linux 6.12)".to_owned());
    }
    let name = format!("kube-test-{}", id());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let script = format!(
        r#"perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); exit !connect(S, sockaddr_un("\0{name}"))' && echo went || echo not"#
    );
    assert_eq!(world.run("abstract", &script, "").stdout, "not\n");
    assert_eq!(world.run("abstract", &script, r#","sandbox":"off""#).stdout, "went\n");
    drop(listener);
    Outcome::Passed
}

fn owners(world: &World) -> Outcome {
    assert_eq!(world.launcher.owner(id()), None);
    assert_eq!(world.launcher.owner(1), None);
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    assert_eq!(world.launcher.owner(stranger.id()), None);
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    world.block_on(async {
        for (options, sandbox) in [("", Sandbox::On), (r#","sandbox":"off""#, Sandbox::Off)] {
            // A grandchild, and one that has left: it says its number, with nothing of its environment.
            let script = r#"sleep 1000 & echo $!; setsid env -i sh -c '( sleep 1000 & echo $! )'; echo; wait"#;
            let mut child = world.start("owned", script, options).await.unwrap();
            let mut text = String::new();
            while !text.ends_with("\n\n") {
                text.push(char::from(child.stdout.read_u8().await.unwrap()));
            }
            let below: Vec<u32> = text.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
            assert_eq!(below.len(), 2);
            for pid in below.iter().chain([&child.pid()]) {
                let owner = world.launcher.owner(*pid).unwrap();
                assert_eq!((owner.name.unwrap().as_str(), owner.sandbox), ("owned", sandbox));
            }
            child.group().kill().await.unwrap();
            child.exited().await;
            assert!(world.launcher.owner(child.pid()).is_some_and(|owner| owner.sandbox == Sandbox::On));
        }
    });
    Outcome::Passed
}
