//! Processes: kept running, stopped, changed, and never twice.
use std::{fs, time::Duration};

use crate::{
    journal::{From, eventually},
    kube::Home,
    team::{all_gone, configure, json, python, running, script},
};

/// Runs until it is asked to end, at once.
const STEADY: &str = "echo steady; exec sleep 1000";

#[test]
fn a_process_runs_is_listed_stopped_and_started() {
    let home = Home::new();
    configure(&home, &script("worker", STEADY, ""));
    let kube = home.start();
    let worker = kube.until("worker", "running");
    assert!(worker["pid"].as_u64().unwrap() > 1 && worker["restarts"] == 0, "{worker:#}");
    assert_eq!(kube.until_it_wrote("worker", "steady"), "steady");

    let stopped = json(home.run(&["stop", "worker", "--json"]));
    assert_eq!((&stopped[0]["state"], &stopped[0]["pid"]), (&"stopped".into(), &serde_json::Value::Null));
    all_gone(&home);
    let started = json(home.run(&["start", "worker", "--json"]));
    assert_eq!(started[0]["state"], "running");
    let pid = started[0]["pid"].clone();
    home.run(&["restart", "worker"]).ok();
    let again = kube.until("worker", "running");
    assert_ne!(again["pid"], pid);
    assert_eq!(again["restarts"], 0, "nobody counts what was asked for");

    home.run(&["stop", "nothing"]).complains(1, &["no process \"nothing\"", "kube ps"]);
    home.run(&["ps", "nothing"]).complains(1, &["no process \"nothing\""]);
    let text = home.run(&["ps"]).ok();
    assert!(text.contains("NAME") && text.contains("worker") && text.contains("running"), "{text}");
    kube.stop();
    all_gone(&home);
}

#[test]
fn a_crash_loop_slows_down_fails_and_is_seen() {
    let home = Home::new();
    configure(&home, &script("bot", "echo no such luck >&2; exit 3", "attempts = 4"));
    let kube = home.start();
    let bot = kube.until("bot", "failed");
    assert!(bot["detail"].as_str().unwrap().contains("exit code 3"), "{bot:#}");
    assert_eq!(kube.wrote("bot").iter().filter(|line| *line == "no such luck").count(), 4);
    home.run(&["ps"]).complains(1, &["bot", "kube logs"]);
    eventually("the module says so", || (kube.module("processes")["health"] == "degraded").then_some(()));
    home.run(&["start", "bot"]).complains(1, &["bot", "exit code 3"]);
    // A mended program is started by a reload.
    configure(&home, &script("bot", STEADY, "attempts = 4"));
    home.run(&["reload"]).ok();
    kube.until("bot", "running");
    eventually("the module is well", || (kube.module("processes")["health"] == "ready").then_some(()));
    kube.stop();
}

#[test]
fn a_program_that_cannot_be_started_says_why() {
    let home = Home::new();
    configure(&home, "[processes.bot]\ncommand = [\"/no/such/program\"]\nattempts = 1\n");
    let kube = home.start();
    let bot = kube.until("bot", "failed");
    let detail = bot["detail"].as_str().unwrap();
    assert!(detail.contains("/no/such/program") && detail.to_lowercase().contains("no such file"), "{detail}");
    kube.stop();
}

#[test]
fn a_program_knows_what_it_was_told_and_nothing_of_kube() {
    let home = Home::new();
    fs::write(home.path("bot.env"), "# what it has to know\nexport TOKEN='a b'\nLEVEL=info\n").unwrap();
    let more = "env_file = \"bot.env\"\nenv = { LEVEL = \"debug\" }";
    configure(&home, &script("bot", "env | grep -v ^_= | sort; pwd; exec sleep 1000", more));
    let kube = home.spawn_with(&[("SECRET_OF_KUBE", "x")]);
    let folder = home.path("data/processes/bot").display().to_string();
    kube.until_it_wrote("bot", "TOKEN");
    let wrote = eventually("all of it", || Some(kube.wrote("bot")).filter(|lines| lines.last() == Some(&folder)));
    let expected = [
        format!("HOME={folder}"),
        "LANG=C.UTF-8".to_owned(),
        "LEVEL=debug".to_owned(),
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("PWD={folder}"),
        format!("STATE_DIRECTORY={folder}"),
        format!("TMPDIR={folder}/tmp"),
        "TOKEN=a b".to_owned(),
        folder,
    ];
    assert_eq!(wrote, expected);
    kube.stop();
}

#[test]
fn a_check_that_is_a_command_runs_as_the_process_itself() {
    let home = Home::new();
    let more = "health = { exec = [\"/bin/sh\", \"-c\", \"test -e well\"], interval = \"100ms\", grace = \"0s\", threshold = 2 }";
    configure(&home, &script("worker", "sleep 0.3; touch well; sleep 1; rm well; exec sleep 1000", more));
    let kube = home.start();
    assert_ne!(kube.process("worker")["state"], "running");
    kube.until("worker", "running");
    let again = eventually("it is restarted", || {
        let worker = kube.process("worker");
        (worker["restarts"].as_u64() > Some(0)).then_some(worker)
    });
    assert_eq!(again["last_failure"], "unhealthy: exit code 1");
    kube.stop();
    all_gone(&home);
}

#[test]
fn whatever_a_program_does_nothing_of_it_stays() {
    let home = Home::new();
    let stubborn = "trap '' TERM INT HUP; echo deaf; while :; do sleep 1000 & wait; done";
    let forking = "import os, time\nfor n in range(40):\n  if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(1000)\n    os._exit(0)\nprint('forked', flush=True)\ntime.sleep(1000)";
    let silent = "exec >&- 2>&-; exec sleep 1000";
    let tables = [
        script("stubborn", stubborn, "stop = { grace = \"300ms\" }"),
        python("forking", forking, ""),
        script("silent", silent, ""),
    ];
    configure(&home, &tables.concat());
    let kube = home.start();
    kube.until_it_wrote("stubborn", "deaf");
    kube.until_it_wrote("forking", "forked");
    kube.until("silent", "running");
    eventually("all forks", || (running(&home).get("forking") >= Some(&41)).then_some(()));
    for name in ["stubborn", "forking", "silent"] {
        assert_eq!(kube.process(name)["restarts"], 0, "{name}");
        home.run(&["stop", name]).ok();
        assert_eq!(running(&home).get(name), None, "{name} is gone when that is said");
    }
    for name in ["stubborn", "forking", "silent"] {
        home.run(&["start", name]).ok();
    }
    kube.until_it_wrote("forking", "forked");
    kube.stop();
    all_gone(&home);
}

#[test]
fn a_program_that_leaves_itself_behind_has_ended() {
    let home = Home::new();
    let daemon = "import os, sys, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    time.sleep(1000)\nsys.exit(0)";
    configure(&home, &python("daemon", daemon, "restart = \"on-failure\""));
    let kube = home.start();
    kube.until("daemon", "completed");
    assert_eq!(running(&home).get("daemon"), None);
    kube.stop();
}

#[test]
fn a_reload_restarts_what_has_changed_and_nothing_else() {
    let home = Home::new();
    let tables =
        |names: &[(&str, &str)]| names.iter().map(|(name, more)| script(name, STEADY, more)).collect::<String>();
    configure(&home, &tables(&[("kept", ""), ("changed", ""), ("removed", "")]));
    let kube = home.start();
    let pid = |name: &str| kube.until(name, "running")["pid"].as_u64().unwrap();
    let (kept, changed) = (pid("kept"), pid("changed"));
    pid("removed");
    configure(&home, &tables(&[("kept", ""), ("changed", "env = { LEVEL = \"debug\" }"), ("added", "")]));
    home.run(&["reload"]).ok();
    pid("added");
    eventually("the changed one is another", || (pid("changed") != changed).then_some(()));
    eventually("the removed one is gone", || (!running(&home).contains_key("removed")).then_some(()));
    assert_eq!(pid("kept"), kept);
    // What only says how logs are kept restarts nothing.
    configure(&home, &tables(&[("kept", "log = { files = 2 }"), ("added", "")]));
    home.run(&["reload"]).ok();
    eventually("the other is gone", || (!running(&home).contains_key("changed")).then_some(()));
    assert_eq!(pid("kept"), kept);
    // One that comes back under its name.
    configure(&home, &tables(&[("removed", "")]));
    home.run(&["reload"]).ok();
    pid("removed");
    eventually("the others are gone", || (running(&home).len() == 1).then_some(()));
    kube.stop();
}

#[test]
fn processes_start_in_their_order_and_stop_in_the_other() {
    let home = Home::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let db = format!(
        "import os, signal, socket, sys, time\ndef bye(*_):\n  print('db ends', time.time(), flush=True)\n  os._exit(0)\nsignal.signal(signal.SIGTERM, bye)\ntime.sleep(0.5)\ns = socket.create_server(('127.0.0.1', {port}))\nprint('db listens', time.time(), flush=True)\nwhile True: s.accept()"
    );
    let api = "import os, signal, time\ndef bye(*_):\n  time.sleep(0.3)\n  print('api ends', time.time(), flush=True)\n  os._exit(0)\nsignal.signal(signal.SIGTERM, bye)\nprint('api starts', time.time(), flush=True)\nwhile True: time.sleep(1000)";
    let tables = [
        python("db", &db, &format!("health = {{ tcp = {port}, interval = \"100ms\" }}")),
        python("api", api, "after = { db = \"healthy\", setup = \"completed\" }"),
        script("setup", "sleep 0.2; echo done", "once = true"),
    ];
    configure(&home, &tables.concat());
    let kube = home.start();
    kube.until("api", "running");
    kube.until("setup", "completed");
    let at = |line: String| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
    let listens = at(kube.until_it_wrote("db", "db listens"));
    assert!(listens <= at(kube.until_it_wrote("api", "api starts")), "before it was healthy");
    let gone = kube.journal.clone();
    kube.stop();
    let wrote = |name: &str, text: &str| {
        let lines = home.run(&["logs", name, "--json"]).ok();
        let line = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let line = line.map(|line| line["line"].as_str().unwrap().to_owned()).find(|line| line.contains(text));
        at(line.unwrap_or_else(|| panic!("{name} never wrote {text:?}: {lines}\n{gone}")))
    };
    assert!(wrote("api", "api ends") <= wrote("db", "db ends"), "those that need others end first");
}

#[test]
fn health_checks_restart_what_does_not_answer() {
    let home = Home::new();
    let server = "import http.server, os\nbad = 'bad'\nclass H(http.server.BaseHTTPRequestHandler):\n  def do_GET(self):\n    self.send_response(503 if os.path.exists(bad) else 200)\n    self.end_headers()\n  def log_message(self, *a): pass\nhttp.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()";
    let more = "route = \"web\"\nhealth = { http = \"/\", interval = \"50ms\", grace = \"0s\", threshold = 3 }\nstop = { grace = \"1s\" }";
    configure(&home, &python("web", server, more));
    let kube = home.start();
    let pid = kube.until("web", "running")["pid"].clone();
    let folder = home.path("data/processes/web");
    fs::write(folder.join("bad"), "").unwrap();
    eventually("it is restarted", || (kube.process("web")["restarts"].as_u64() > Some(0)).then_some(()));
    fs::remove_file(folder.join("bad")).unwrap();
    let again = kube.until("web", "running");
    assert_ne!(again["pid"], pid);
    assert!(again["last_failure"].as_str().unwrap().contains("503"), "{again:#}");
    kube.stop();
}

#[test]
fn a_program_that_speaks_to_systemd_speaks_to_kube() {
    let home = Home::new();
    let program = "import os, socket, time\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\ns.connect(os.environ['NOTIFY_SOCKET'])\nsay = lambda text: s.send(text.encode())\ntime.sleep(0.3)\nsay('STATUS=warming up')\ntime.sleep(0.3)\nsay('READY=1\\nSTATUS=serving')\nassert os.environ['WATCHDOG_USEC'] == '1000000'\nfor n in range(4):\n  time.sleep(0.4)\n  say('WATCHDOG=1')\nprint('silent now', flush=True)\ntime.sleep(1000)";
    configure(&home, &python("talker", program, "ready = \"notify\"\nwatchdog = \"1s\""));
    let kube = home.start();
    let starting = kube.process("talker");
    assert_ne!(starting["state"], "running", "{starting:#}");
    let ready = kube.until("talker", "running");
    assert_eq!(ready["detail"], "serving");
    kube.until_it_wrote("talker", "silent now");
    let again = eventually("it is restarted", || {
        let talker = kube.process("talker");
        (talker["restarts"].as_u64() > Some(0)).then_some(talker)
    });
    assert!(again["last_failure"].as_str().unwrap().contains("watchdog"), "{again:#}");
    kube.stop();
}

#[test]
fn sockets_are_kept_while_the_program_is_away() {
    let home = Home::new();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let program = "import os, socket\nassert os.environ['LISTEN_FDS'] == '1' and int(os.environ['LISTEN_PID']) == os.getpid()\ns = socket.socket(fileno=3)\nwhile True:\n  c, _ = s.accept()\n  c.sendall(b'%d' % os.getpid())\n  c.close()";
    configure(&home, &python("server", program, &format!("listen = [\"{address}\"]")));
    let kube = home.start();
    let ask = || -> Option<String> {
        let mut text = String::new();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        std::io::Read::read_to_string(&mut stream, &mut text).ok()?;
        (!text.is_empty()).then_some(text)
    };
    let first = eventually("an answer", ask);
    home.run(&["stop", "server"]).ok();
    // Taken by the system meanwhile, and answered by the next instance.
    let waiting = std::net::TcpStream::connect(address).unwrap();
    home.run(&["start", "server"]).ok();
    let mut text = String::new();
    waiting.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    std::io::Read::read_to_string(&mut &waiting, &mut text).unwrap();
    assert!(!text.is_empty() && text != first, "{text:?}");
    kube.stop();
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn jobs_run_when_they_are_due() {
    let home = Home::new();
    let tables = [
        script("tick", "echo tick", "every = \"1s\""),
        script("once", "echo once", "once = true"),
        script("nightly", "echo night", "cron = \"0 3 * * *\""),
    ];
    configure(&home, &tables.concat());
    let kube = home.start();
    eventually("some ticks", || (kube.wrote("tick").len() >= 3).then_some(()));
    kube.until("once", "completed");
    assert_eq!(kube.wrote("once"), ["once"]);
    let nightly = kube.process("nightly");
    assert!(nightly["state"] == "scheduled" && nightly["next"].as_u64().is_some(), "{nightly:#}");
    // By hand, whatever the time is.
    home.run(&["start", "nightly"]).ok();
    assert_eq!(kube.until_it_wrote("nightly", "night"), "night");
    kube.stop();
}

#[test]
fn after_a_kill_nothing_is_left_and_nothing_runs_twice() {
    let home = Home::new();
    let forking = "import os, time\nfor n in range(3):\n  if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(1000)\n    os._exit(0)\ntime.sleep(1000)";
    let mut tables = String::new();
    // In every state: steady, deaf, forking, ending, restarting, waiting, stopping.
    for n in 0..20 {
        let name = format!("p{n}");
        tables += &match n % 7 {
            0 => script(&name, STEADY, ""),
            1 => script(&name, "trap '' TERM; while :; do sleep 1000 & wait; done", ""),
            2 => python(&name, forking, ""),
            3 => script(&name, "sleep 0.05", "attempts = 0"),
            4 => script(&name, "exit 1", "attempts = 0"),
            5 => script(&name, "sleep 0.2; exec sleep 1000", "ready = \"notify\""),
            _ => script(&name, STEADY, "after = { p0 = \"healthy\" }"),
        };
    }
    configure(&home, &tables);
    for round in 0..10 {
        let kube = home.spawn();
        kube.journal.wait(From::Systemd, "READY=1");
        // At another moment each time.
        std::thread::sleep(Duration::from_millis(37 * round));
        kube.kill();
        // Those that the kernel ends with KUBE; the next one ends the others before it starts anything.
        let kube = home.start();
        for name in ["p0", "p1", "p2", "p7", "p6"] {
            kube.until(name, "running");
        }
        let found = running(&home);
        for (name, limit) in [("p0", 1), ("p1", 2), ("p2", 7), ("p3", 2), ("p5", 2), ("p6", 1), ("p7", 1)] {
            assert!(found.get(name).is_none_or(|count| *count <= limit), "{name} in round {round}: {found:?}");
        }
        kube.kill();
    }
    let kube = home.start();
    kube.stop();
    all_gone(&home);
}
