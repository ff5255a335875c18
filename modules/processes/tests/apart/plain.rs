//! A process starts with what it is given, and ends as it says.
use std::{net::TcpListener, os::fd::OwnedFd};

use kube_processes::{Exit, Launch, Launcher, StopSignal};
use tokio::{io::AsyncReadExt, time::timeout};

use crate::{
    Outcome, Test,
    world::{PATIENCE, World, finish, process},
};

pub(crate) const TESTS: [Test; 7] = [
    ("a_process_writes_and_ends_with_its_code", ends),
    ("a_program_that_is_not_there_is_named", missing),
    ("a_child_that_says_nothing_is_an_error", silent),
    ("a_process_has_its_environment_its_folder_and_no_input", surroundings),
    ("a_process_has_no_descriptor_but_its_sockets", sockets),
    ("a_process_is_stopped_by_a_signal", stopped),
    ("a_child_that_is_dropped_is_killed", dropped),
];

fn ends(world: &World) -> Outcome {
    let done = world.run("ends", "echo out; echo err >&2; exit 7", "");
    assert_eq!((done.exit, &*done.stdout, &*done.stderr), (Exit::Code(7), "out\n", "err\n"));
    Outcome::Passed
}

fn missing(world: &World) -> Outcome {
    world.block_on(async {
        let start = |command: &'static [&'static str], options| {
            let process = process(command, options);
            async move { world.program("missing", 1, process, Vec::new()).await.map(drop).unwrap_err().to_string() }
        };
        let error = start(&["/usr/bin/nothing-here"], "").await;
        assert!(error.starts_with("cannot start /usr/bin/nothing-here: No such file"), "{error}");
        let error = start(&["/bin/sh"], r#","cwd":"/nowhere""#).await;
        assert!(error.starts_with("cannot enter /nowhere: No such file"), "{error}");
        let error = start(&["/bin/sh"], r#","user":"nobody-at-all""#).await;
        assert_eq!(error, r#"user = "nobody-at-all": there is no such user"#);
    });
    Outcome::Passed
}

fn silent(world: &World) -> Outcome {
    // It takes its argument for a folder, and fails.
    let launcher = Launcher::bind(&world.config, "/bin/ls").unwrap();
    let process = process(&["/bin/true"], "");
    let launch = Launch {
        name: "silent".parse().unwrap(),
        instance: 1,
        process,
        env: Vec::new(),
        port: None,
        sockets: Vec::new(),
    };
    let error = world.block_on(launcher.launch(launch)).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "it ended before its program ran: exit code 2");
    Outcome::Passed
}

fn surroundings(world: &World) -> Outcome {
    let done = world.run(
        "around",
        r#"echo "$HOME $TMPDIR $STATE_DIRECTORY"; pwd; cat; echo x >$TMPDIR/y; ls -a tmp; umask; env | wc -l"#,
        "",
    );
    let own = world.own("around");
    let own = own.display();
    let expected = format!("{own} {own}/tmp {own}\n{own}\n.\n..\ny\n0077\n");
    assert_eq!(done.stderr, "");
    assert!(done.stdout.starts_with(&expected), "{done:?}");
    // The three, PATH, and what the shell itself sets.
    let variables: u32 = done.stdout.lines().last().unwrap().trim().parse().unwrap();
    assert!(variables <= 8, "{variables}");
    Outcome::Passed
}

fn sockets(world: &World) -> Outcome {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = listeners.each_ref().map(|it| it.local_addr().unwrap().port());
    // One that KUBE has by accident.
    let stray = rustix::io::dup(&listeners[0]).unwrap();
    let passed = listeners.into_iter().zip(["web", "api"]).map(|(it, name)| (name.to_owned(), OwnedFd::from(it)));
    let script = r#"echo "$LISTEN_FDS $LISTEN_FDNAMES"; [ "$LISTEN_PID" = $$ ] && echo mine
        cat /proc/$$/net/tcp; echo; exec ls -l /proc/self/fd"#;
    let done =
        world.block_on(async { finish(world.launch("sockets", 1, script, "", passed.collect()).await.unwrap()).await });
    drop(stray);
    let lines: Vec<_> = done.stdout.lines().collect();
    assert_eq!(lines[..2], ["2 web:api", "mine"], "{done:?}");
    let inode = |port: u16| {
        let of = format!(":{port:04X}");
        let line =
            lines.iter().find(|line| line.split_whitespace().nth(1).is_some_and(|it| it.ends_with(&of))).unwrap();
        line.split_whitespace().nth(9).unwrap().to_owned()
    };
    let expected = [
        "0 /dev/null".to_owned(),
        format!("3 socket:[{}]", inode(addresses[0])),
        format!("4 socket:[{}]", inode(addresses[1])),
    ];
    // The last is that of the folder which is listed.
    let open =
        lines.iter().skip_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':')?.1.split_once(' '));
    let open: Vec<_> = open.map(|(_, file)| file.replace(" -> ", " ")).collect();
    assert_eq!(open.len(), 6, "{open:?}");
    for line in expected {
        assert!(open.contains(&line), "{line}: {open:?}");
    }
    Outcome::Passed
}

fn stopped(world: &World) -> Outcome {
    world.block_on(async {
        let mut child = world.start("stopped", "echo up; exec sleep 1000", "").await.unwrap();
        let mut up = [0; 3];
        child.stdout.read_exact(&mut up).await.unwrap();
        assert!(!child.group().is_empty().await.unwrap());
        child.signal(StopSignal::default()).unwrap();
        assert_eq!(timeout(PATIENCE, child.exited()).await.unwrap(), Exit::Signal(15));
        assert_eq!(child.exited().await, Exit::Signal(15));
        child.signal(StopSignal::default()).unwrap();
        child.group().kill().await.unwrap();
        assert!(child.group().is_empty().await.unwrap());
    });
    Outcome::Passed
}

fn dropped(world: &World) -> Outcome {
    world.block_on(async {
        let mut child = world.start("dropped", "exec sleep 1000", "").await.unwrap();
        let mut stdout = std::mem::replace(&mut child.stdout, tokio::net::unix::pipe::pipe().unwrap().1);
        drop(child);
        let mut rest = Vec::new();
        timeout(PATIENCE, stdout.read_to_end(&mut rest)).await.expect("it ends").unwrap();
    });
    Outcome::Passed
}
