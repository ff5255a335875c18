//! Whatever a process has started is gone with it; also when KUBE was killed.
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, ExitCode, Stdio, id},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use kube_processes::{Exit, Launch, Launcher, Name, OWN_PROGRAM};
use tokio::io::AsyncReadExt;

use crate::{
    Outcome, Test,
    world::{Launched, PATIENCE, World, config, process},
};

pub(crate) const TESTS: [Test; 6] = [
    ("all_that_a_process_forked_is_killed", forked),
    ("what_forks_without_end_is_killed", hopping),
    ("another_instance_lives_on", neighbours),
    ("what_kube_adopted_is_reaped", adopted),
    ("nothing_is_left_of_a_kube_that_was_killed", swept),
    ("what_is_used_is_known", used),
];

/// Has this binary be a KUBE, with processes in the folder that follows, until it is killed.
pub(crate) const KUBE: &str = "--kube";

/// What leaves its parent, its session and its environment. `TAG` is how long it sleeps, by which it is found.
const KINDS: [(&str, &str); 5] = [
    ("plain", "echo up; exec sleep TAG"),
    ("forks", "sleep TAG & sleep TAG & (sleep TAG & sleep TAG &); echo up; wait"),
    ("leaves", "(sleep TAG & sleep TAG &); echo up"),
    (
        "hides",
        "setsid env -i setsid sh -c '(setsid sleep TAG & sleep TAG &)' >/dev/null 2>&1 </dev/null; echo up; exec sleep TAG",
    ),
    ("ignores", "trap '' TERM HUP INT QUIT; echo up; while :; do sleep TAG; done"),
];

/// How long a process of a test sleeps: nobody else sleeps so long.
fn tag() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{}", 10_000_000 + u64::from(id()), 1000 + NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Processes that sleep so long.
fn sleeping(tag: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let sleeps = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .next_back()
            .is_some_and(|_| line.strip_suffix(b"\0").is_some_and(|line| line.ends_with(tag.as_bytes())))
    };
    pids.filter(sleeps).collect()
}

/// Waits until so many sleep: what leaves its parent does so a little later than that says.
async fn awake(tag: &str, count: usize) {
    let start = Instant::now();
    while sleeping(tag).len() != count {
        assert!(start.elapsed() < PATIENCE, "{:?}", sleeping(tag));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn up(child: &mut Launched) {
    let mut up = [0; 3];
    child.stdout.read_exact(&mut up).await.unwrap();
    assert_eq!(&up, b"up\n");
}

fn forked(world: &World) -> Outcome {
    world.block_on(async {
        for (options, sandbox) in [("", "on"), (r#","sandbox":"off""#, "off")] {
            for (kind, script) in KINDS {
                let tag = tag();
                let mut child = world.start(kind, &script.replace("TAG", &tag), options).await.unwrap();
                up(&mut child).await;
                assert!(!child.group().is_empty().await.unwrap(), "{kind}, sandbox {sandbox}");
                child.group().kill().await.unwrap();
                assert_eq!(sleeping(&tag), [0; 0], "{kind}, sandbox {sandbox}");
                assert!(child.group().is_empty().await.unwrap());
                let exit = child.exited().await;
                assert!(exit == Exit::Signal(9) || kind == "leaves" && exit == Exit::Code(0), "{kind}: {exit:?}");
            }
        }
    });
    Outcome::Passed
}

fn hopping(world: &World) -> Outcome {
    if Command::new("perl").arg("-v").output().is_err() {
        return Outcome::Skipped("there is no perl".to_owned());
    }
    world.block_on(async {
        // Each forks and ends: none lives long enough to be killed by its number.
        let script = r#"exec perl -e 'for (1..8) { if (!fork) { while (1) { exit if fork } } } $| = 1; print "up\n"; sleep 1000'"#;
        let mut child = world.start("hops", script, "").await.unwrap();
        up(&mut child).await;
        child.group().kill().await.unwrap();
        assert!(child.group().is_empty().await.unwrap());
    });
    Outcome::Passed
}

fn neighbours(world: &World) -> Outcome {
    world.block_on(async {
        let tags = [tag(), tag(), tag()];
        let script = |tag: &str| KINDS[3].1.replace("TAG", tag);
        let mut one = world.launch("twice", 1, &script(&tags[0]), "", Vec::new()).await.unwrap();
        let mut two = world.launch("twice", 2, &script(&tags[1]), "", Vec::new()).await.unwrap();
        let mut other = world.launch("other", 1, &script(&tags[2]), "", Vec::new()).await.unwrap();
        for child in [&mut one, &mut two, &mut other] {
            up(child).await;
        }
        for tag in &tags {
            awake(tag, 3).await;
        }
        one.group().kill().await.unwrap();
        assert_eq!(sleeping(&tags[0]), [0; 0]);
        assert_eq!((sleeping(&tags[1]).len(), sleeping(&tags[2]).len()), (3, 3));
        two.group().kill().await.unwrap();
        assert_eq!((sleeping(&tags[1]).len(), sleeping(&tags[2]).len()), (0, 3));
        other.group().kill().await.unwrap();
        assert_eq!(sleeping(&tags[2]), [0; 0]);
    });
    Outcome::Passed
}

fn adopted(world: &World) -> Outcome {
    world.block_on(async {
        let mut child =
            world.start("leaver", "for i in 1 2 3 4 5; do (setsid sh -c 'exit 3' &); done; echo up", "").await.unwrap();
        up(&mut child).await;
        assert_eq!(child.exited().await, Exit::Code(0));
        child.group().kill().await.unwrap();
        let zombies = || fs::read_to_string(format!("/proc/self/task/{}/children", id())).unwrap_or_default();
        let start = Instant::now();
        while !zombies().trim().is_empty() {
            assert!(start.elapsed() < PATIENCE, "{}", zombies());
            tokio::task::yield_now().await;
        }
    });
    Outcome::Passed
}

fn used(world: &World) -> Outcome {
    world.block_on(async {
        let tag = tag();
        let mut child = world.start("uses", &KINDS[1].1.replace("TAG", &tag), "").await.unwrap();
        up(&mut child).await;
        awake(&tag, 4).await;
        // What is said may be of a moment ago.
        let start = Instant::now();
        let usage = loop {
            let usage = child.group().usage().await;
            if usage.pids == Some(5) {
                break usage;
            }
            assert!(start.elapsed() < PATIENCE, "{usage:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(usage.memory.is_some_and(|bytes| bytes > 100_000), "{usage:?}");
        assert!(!child.group().is_out_of_memory());
        child.group().kill().await.unwrap();
    });
    Outcome::Passed
}

fn swept(world: &World) -> Outcome {
    let folder = world.folder.path().join("second");
    fs::create_dir(&folder).unwrap();
    // Another KUBE's processes, which stay.
    let kept = tag();
    let stays = world.block_on(async {
        let mut child = world.start("plain", &KINDS[3].1.replace("TAG", &kept), "").await.unwrap();
        up(&mut child).await;
        awake(&kept, 3).await;
        child
    });
    for _ in 0..3 {
        let mut kube = Command::new("/proc/self/exe")
            .args([KUBE, folder.to_str().unwrap()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut tag = String::new();
        BufReader::new(kube.stdout.take().unwrap()).read_line(&mut tag).unwrap();
        let tag = tag.trim();
        world.block_on(awake(tag, 11));
        let before = sleeping(tag).len();
        kube.kill().unwrap();
        kube.wait().unwrap();
        // What was started itself is gone by itself.
        let start = Instant::now();
        while sleeping(tag).len() > before - 2 {
            assert!(start.elapsed() < PATIENCE);
            thread::sleep(Duration::from_millis(1));
        }
        world.block_on(async {
            let next = Launcher::bind(&config(&folder), OWN_PROGRAM).unwrap();
            assert!(next.sweep().await.unwrap() > 0);
            assert_eq!(sleeping(tag), [0; 0]);
            assert_eq!(next.sweep().await.unwrap(), 0);
        });
        assert_eq!(sleeping(&kept).len(), 3);
    }
    world.block_on(async {
        stays.group().kill().await.unwrap();
        stays.exited().await;
    });
    drop(stays);
    Outcome::Passed
}

pub(crate) fn be_kube(folder: &str) -> ExitCode {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let launcher = Launcher::bind(&config(Path::new(folder)), OWN_PROGRAM).unwrap();
        let (tag, mut all) = (tag(), Vec::new());
        for (kind, script) in KINDS {
            let process = process(&["/bin/sh", "-c", &script.replace("TAG", &tag)], "");
            let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
            let name: Name = kind.parse().unwrap();
            let launch = Launch { name, instance: 1, process, env, port: None, sockets: Vec::new() };
            let mut child = Launched::from(launcher.launch(launch).await.unwrap());
            up(&mut child).await;
            all.push(child);
        }
        println!("{tag}");
        all[0].exited().await;
    });
    ExitCode::FAILURE
}
