//! What a program of the team cannot do, as whoever it runs.
use std::{fs, os::unix::fs::PermissionsExt};

use crate::{
    journal::{From, eventually},
    kube::{BINARY, Home, Kube},
    team::{all_gone, configure, python, running, script},
};

/// Tries everything, and says of each thing whether it could be done. It is told where KUBE is, and another process.
const BURGLAR: &str = r#"
import ctypes, glob, os, signal, socket, sys
home, kube, other = os.environ['KUBE_HOME'], int(os.environ['KUBE_PID']), int(os.environ['OTHER_PID'])
def tries(name, attempt):
  try:
    attempt()
    print(name, 'CAN', flush=True)
  except BaseException as error:
    print(name, 'cannot', type(error).__name__, flush=True)
def read(path): open(path, 'rb').read(1)
def read_all(pattern):
  found = glob.glob(pattern)
  if not found: raise FileNotFoundError(pattern)
  for path in found: read(path)
def ask():
  s = socket.socket(socket.AF_UNIX)
  s.settimeout(5)
  s.connect(home + '/data/run/admin.sock')
  s.sendall(b'GET /v1/status HTTP/1.1\r\nhost: kube\r\n\r\n')
  if not s.recv(10): raise ConnectionError('closed')
def ask_directly():
  s = socket.socket(socket.AF_UNIX)
  s.settimeout(5)
  s.connect(home + '/run/admin.sock')
  s.sendall(b'GET /v1/status HTTP/1.1\r\nhost: kube\r\n\r\n')
  if not s.recv(10): raise ConnectionError('closed')
def ask_as_an_orphan():
  r, w = os.pipe()
  if os.fork() == 0:
    if os.fork() == 0:
      os.setsid()
      try:
        ask_directly()
        os.write(w, b'1')
      except BaseException: os.write(w, b'0')
    os._exit(0)
  if os.read(r, 1) != b'1': raise PermissionError('refused')
libc = ctypes.CDLL(None, use_errno=True)
def ptrace(pid):
  if libc.ptrace(16, pid, 0, 0) != 0: raise OSError(ctypes.get_errno(), 'ptrace')
def privileged():
  if libc.setuid(0) != 0: raise OSError(ctypes.get_errno(), 'setuid')
  if os.getuid() != 0 or 'CapEff:\t0000000000000000' in open('/proc/self/status').read(): raise PermissionError('nothing')
tries('what kube has open', lambda: [fd for fd in os.listdir('/proc/self/fd') if int(fd) > 3][0])
tries('the key of the authority', lambda: read_all(home + '/data/tls/ca/*'))
tries('the store', lambda: read_all(home + '/data/echo/*'))
tries('the list of data', lambda: os.listdir(home + '/data'))
tries('the log of another', lambda: read(home + '/data/logs/other/current.jsonl'))
tries('the own log', lambda: read(home + '/data/logs/burglar/current.jsonl'))
tries('the folder of another', lambda: os.listdir(home + '/data/processes/other'))
tries('the env_file of another', lambda: read(home + '/other.env'))
tries('the config', lambda: read(home + '/kube.toml'))
tries('the environment of another', lambda: read('/proc/%d/environ' % other))
tries('the environment of kube', lambda: read('/proc/%d/environ' % kube))
tries('the memory of kube', lambda: read('/proc/%d/mem' % kube))
tries('the files of kube', lambda: [os.readlink(path) for path in glob.glob('/proc/%d/fd/*' % kube)][0])
tries('a signal to kube', lambda: os.kill(kube, signal.SIGCONT))
tries('a signal to another', lambda: os.kill(other, signal.SIGCONT))
tries('ptrace of kube', lambda: ptrace(kube))
tries('the admin socket', ask)
tries('the admin socket, directly', ask_directly)
tries('the admin socket, as an orphan', ask_as_an_orphan)
tries('a file beside the data', lambda: open(home + '/burgled', 'w'))
tries('a file of the system', lambda: open('/usr/bin/burgled', 'w'))
tries('privileges', privileged)
tries('own file', lambda: open('mine', 'w').write('x'))
tries('own home', lambda: open(os.environ['HOME'] + '/mine', 'r').read())
tries('a temporary file', lambda: __import__('tempfile').TemporaryFile())
tries('the system to read', lambda: read('/etc/passwd'))
print('done', flush=True)
import time; time.sleep(1000)
"#;

/// What is allowed.
const ALLOWED: [&str; 4] = ["own file", "own home", "a temporary file", "the system to read"];

fn other(home: &Home) -> String {
    fs::write(home.path("other.env"), "SECRET=42\n").unwrap();
    let more = format!("env_file = \"{}\"", home.path("other.env").display());
    script("other", "echo secret; exec sleep 1000", &more)
}

fn burglar(home: &Home, kube: u32, other: u64) -> String {
    let home = home.path("");
    let more =
        format!("env = {{ KUBE_HOME = \"{}\", KUBE_PID = \"{kube}\", OTHER_PID = \"{other}\" }}", home.display());
    python("burglar", BURGLAR, &more)
}

/// Lets the burglar try, and says what it could do that it should not.
fn burgle(home: &Home, kube: &Kube<'_>) -> Vec<String> {
    let other = kube.until("other", "running")["pid"].as_u64().unwrap();
    configure(home, &(self::other(home) + &burglar(home, kube.pid(), other)));
    home.run(&["reload"]).ok();
    kube.until_it_wrote("burglar", "done");
    let wrote = kube.wrote("burglar");
    let tried: Vec<_> = wrote.iter().filter(|line| line.contains(" CAN") || line.contains(" cannot ")).collect();
    assert!(tried.len() >= 25, "{wrote:#?}");
    for allowed in ALLOWED {
        assert!(wrote.iter().any(|line| *line == format!("{allowed} CAN")), "{allowed}: {wrote:#?}");
    }
    let could = wrote.iter().filter_map(|line| line.strip_suffix(" CAN"));
    could.filter(|what| !ALLOWED.contains(what)).map(str::to_owned).collect()
}

fn home() -> Home {
    let home = Home::new();
    configure(&home, &other(&home));
    home
}

#[test]
fn a_program_with_a_user_of_its_own_breaks_out_of_nothing() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root may switch users");
    }
    let home = home();
    let kube = home.start();
    assert!(kube.until("other", "running")["apart"].as_str().unwrap().contains("user"));
    assert_eq!(burgle(&home, &kube), Vec::<String>::new());
    kube.stop();
    all_gone(&home);
}

#[test]
fn a_program_with_the_user_of_kube_breaks_out_of_nothing() {
    let home = home();
    let kube = as_another_user(&home);
    let apart = kube.until("other", "running")["apart"].as_str().unwrap().to_owned();
    assert!(apart.to_lowercase().contains("landlock"), "{apart}");
    assert_eq!(burgle(&home, &kube), Vec::<String>::new());
    kube.stop();
    eventually("the end of all", || running(&home).is_empty().then_some(()));
}

#[test]
fn nobody_speaks_for_another_program() {
    let home = Home::new();
    let mimic = "import os, socket, time\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\npath = os.environ['HOME'].rsplit('/', 1)[0] + '/quiet.1'\nwhile True:\n  time.sleep(0.1)\n  try:\n    s.sendto(b'READY=1', path)\n    print('said', flush=True)\n  except OSError: pass";
    let quiet = script("quiet", "exec sleep 1000", "ready = \"notify\"");
    configure(&home, &(quiet + &python("mimic", mimic, "")));
    let kube = as_another_user(&home);
    // As one user both may write there; what is said counts only from the program itself.
    kube.until_it_wrote("mimic", "said");
    eventually("it is seen", || {
        home.run(&["logs", "quiet", "--json"]).ok().contains("which is none of it").then_some(())
    });
    assert_eq!(kube.process("quiet")["state"], "starting");
    kube.stop();
}

/// A KUBE that may not switch users.
fn as_another_user(home: &Home) -> Kube<'_> {
    let kube = if rustix::process::geteuid().is_root() {
        give_away(home);
        home.spawn_by(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", BINARY], &[])
    } else {
        home.spawn()
    };
    // It cannot reach the socket at which systemd is played.
    kube.journal.wait(From::Stdout, "Ctrl-C");
    kube
}

/// Makes everything in the home nobody's.
fn give_away(home: &Home) {
    fn walk(path: &std::path::Path) {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        if path.is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| walk(&entry.unwrap().path()));
        }
    }
    walk(&home.path(""));
    fs::set_permissions(home.path(""), fs::Permissions::from_mode(0o711)).unwrap();
}

#[expect(clippy::print_stderr, reason = "why a test does nothing")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}
