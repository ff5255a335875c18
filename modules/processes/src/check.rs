//! Pure: what no single option of a process can know: how options fit together.
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytesize::ByteSize;

use crate::{
    after,
    config::{Config, Process, Restart, Sandbox},
    health::Check,
    name::Name,
};

/// What KUBE says to each process that is to know it; what a person says would be lost.
const RESERVED: [&str; 6] =
    ["LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// With less, no program starts: it is a number without its unit.
const LEAST_MEMORY: ByteSize = ByteSize::mib(1);

/// Ten years: whoever writes more means something else.
const LONGEST_TIME: Duration = Duration::from_secs(3650 * 24 * 3600);
/// As far as anyone can step back (nice(2)).
const NICEST: u8 = 19;
/// Smaller files are put aside faster than anyone reads them.
const LEAST_LOG: ByteSize = ByteSize::kib(64);

/// Its three standard streams, what it loads at its start, and a little.
const FEWEST_FILES: u32 = 16;

/// Everything that cannot work in the tables of a config, each with the dotted path of its option and what to do.
pub fn problems(config: &Config) -> Vec<(String, String)> {
    let mut problems: Vec<_> =
        after::problems(config).into_iter().map(|problem| (problem.option(), problem.to_string())).collect();
    for (name, process) in &config.processes {
        let wrong = |option: &str, message: String| problems.push((format!("processes.{name}.{option}"), message));
        Of { process, wrong }.everything();
    }
    Between { config, problems: &mut problems }.everything();
    problems
}

/// The options of one process, and whom to tell.
struct Of<'a, W> {
    process: &'a Process,
    wrong: W,
}

impl<W: FnMut(&str, String)> Of<'_, W> {
    fn everything(mut self) {
        self.command("command", &self.process.command);
        self.kind();
        self.environment();
        self.health();
        self.times();
        self.numbers();
    }

    fn wrong(&mut self, option: &str, message: impl Into<String>) {
        (self.wrong)(option, message.into());
    }

    /// As execvp(3) has it: a name is looked for in `PATH`, what has a slash is a path.
    fn command(&mut self, option: &str, command: &[String]) {
        match command.first() {
            None => self.wrong(option, "is empty: name the program, and its arguments"),
            Some(program) if program.is_empty() => self.wrong(option, "the program has no name"),
            Some(program) if program.contains('/') && !program.starts_with('/') && self.process.cwd.is_none() => {
                let message = format!("{program:?} is a path from nowhere: write it from `/` on, or say `cwd`");
                self.wrong(option, message);
            }
            Some(_) => {}
        }
        if command.iter().any(|argument| argument.contains('\0')) {
            self.wrong(option, "no argument can have a NUL");
        }
    }

    /// It is a service, or one kind of job.
    fn kind(&mut self) {
        let process = self.process;
        let kinds = [("once", process.once), ("every", process.every.is_some()), ("cron", process.cron.is_some())];
        let said: Vec<_> = kinds.into_iter().filter_map(|(kind, is_said)| is_said.then_some(kind)).collect();
        if let [first, second, ..] = said[..] {
            self.wrong(second, format!("a job has one time: `{first}` is said too"));
        }
        if process.every.is_some_and(|every| every < Duration::from_secs(1)) {
            self.wrong("every", "at least 1s: what is to run all the time is no job");
        }
        if !process.is_service() {
            if process.restart == Some(Restart::Always) {
                self.wrong("restart", "a job ends: \"on-failure\" runs it again until it did what it is for");
            }
            if process.route.is_some() {
                self.wrong("route", "a job ends, so nothing on the web leads to it");
            }
        }
        if process.user.as_deref() == Some("") {
            self.wrong("user", "nobody is called \"\"");
        }
        if process.sandbox == Sandbox::Off {
            let lists = [
                ("read", process.read.is_some()),
                ("connect", process.connect.is_some()),
                ("bind", process.bind.is_some()),
            ];
            for (option, _) in lists.into_iter().filter(|(_, is_said)| *is_said) {
                self.wrong(option, "limits nothing with `sandbox = \"off\"`");
            }
        }
    }

    fn environment(&mut self) {
        let process = self.process;
        let chooses_port = process.route.is_some() && process.port.is_none();
        for (name, value) in &process.env {
            let option = format!("env.{name}");
            if name.is_empty() || name.contains(['=', '\0']) {
                self.wrong(&option, format!("{name:?} cannot be the name of a variable"));
            }
            if value.contains('\0') {
                self.wrong(&option, "no variable can have a NUL");
            }
            if RESERVED.contains(&name.as_str()) {
                self.wrong(&option, "KUBE says this one itself");
            }
            if chooses_port && name == "PORT" {
                self.wrong(&option, "KUBE chooses the port, and says it here: set `port` to choose it yourself");
            }
        }
    }

    fn health(&mut self) {
        let Some(health) = &self.process.health else { return };
        match Check::of(health) {
            Ok(Check::Command(command)) => self.command("health.exec", command),
            Ok(Check::Listener(listener)) => {
                if listener.is_at_own_port() && self.process.port.is_none() && self.process.route.is_none() {
                    self.wrong("health.http", "a path is asked for at the `port` of a process: set it, or `route`");
                }
            }
            Err(error) => self.wrong(error.option(), error.to_string()),
        }
        for (option, time) in [("health.interval", health.interval), ("health.timeout", health.timeout)] {
            if time.is_zero() {
                self.wrong(option, "needs some time: 5s, say");
            }
        }
        if health.threshold == 0 {
            self.wrong("health.threshold", "at least 1");
        }
    }

    /// No clock can be asked for a time that it never shows.
    fn times(&mut self) {
        let process = self.process;
        let health = process.health.as_ref();
        let times = [
            ("window", Some(process.window)),
            ("start_timeout", Some(process.start_timeout)),
            ("watchdog", Some(process.watchdog)),
            ("stop.grace", Some(process.stop.grace)),
            ("every", process.every),
            ("log.age", Some(process.log.age)),
            ("health.interval", health.map(|health| health.interval)),
            ("health.timeout", health.map(|health| health.timeout)),
            ("health.grace", health.map(|health| health.grace)),
        ];
        for (option, time) in times {
            if time.is_some_and(|time| time > LONGEST_TIME) {
                self.wrong(option, "at most 3650 days");
            }
        }
    }

    fn numbers(&mut self) {
        let process = self.process;
        if process.start_timeout.is_zero() {
            self.wrong("start_timeout", "nothing starts in no time: 90s, say");
        }
        if process.attempts > 0 && process.window.is_zero() {
            self.wrong("window", "no start is within it; `attempts = 0` is no limit");
        }
        if process.memory.is_some_and(|memory| memory < LEAST_MEMORY) {
            self.wrong("memory", format!("at least {LEAST_MEMORY}: has it a unit?"));
        }
        if process.pids == Some(0) {
            self.wrong("pids", "at least 1");
        }
        if process.nice > NICEST {
            self.wrong("nice", format!("from 0 to {NICEST}"));
        }
        if process.files.is_some_and(|files| files < FEWEST_FILES) {
            self.wrong("files", format!("at least {FEWEST_FILES}"));
        }
        if process.log.size < LEAST_LOG {
            self.wrong("log.size", format!("at least {LEAST_LOG}: has it a unit?"));
        }
        if process.log.files == 0 {
            self.wrong("log.files", "at least 1, the current one");
        }
        if process.log.age.is_zero() {
            self.wrong("log.age", "needs some time: 30d, say");
        }
        if process.log.rate == ByteSize::b(0) {
            self.wrong("log.rate", "nothing would be kept");
        }
        if process.port == Some(0) {
            self.wrong("port", "is no port; if nothing is said, KUBE chooses one for `route`");
        }
        if process.connect.as_ref().is_some_and(|ports| ports.contains(&0)) {
            self.wrong("connect", "0 is no port");
        }
    }
}

/// What two processes cannot both have.
struct Between<'a> {
    config: &'a Config,
    problems: &'a mut Vec<(String, String)>,
}

impl Between<'_> {
    fn everything(mut self) {
        let config = self.config;
        let each = || config.processes.iter();
        self.only_once("route", each().filter_map(|(name, process)| Some((name, process.route.as_ref()?))));
        self.only_once(
            "port",
            each().filter_map(|(name, process)| Some((name, process.port.filter(|port| *port > 0)?))),
        );
        self.listeners();
    }

    fn wrong(&mut self, name: &Name, option: &str, message: String) {
        self.problems.push((format!("processes.{name}.{option}"), message));
    }

    fn only_once<'n, T: Ord + ToString>(&mut self, option: &str, said: impl Iterator<Item = (&'n Name, T)>) {
        let mut first = BTreeMap::new();
        for (name, value) in said {
            let text = value.to_string();
            match first.get(&value) {
                Some(other) => self.wrong(name, option, format!("{text} is already that of `{other}`")),
                None => drop(first.insert(value, name)),
            }
        }
    }

    /// No address is listened on twice: not by KUBE for two processes, and not by one where KUBE does for another.
    fn listeners(&mut self) {
        let config = self.config;
        let mut by_port: BTreeMap<u16, Vec<(&Name, SocketAddr)>> = BTreeMap::new();
        for (name, process) in &config.processes {
            for address in process.listen.iter().filter(|address| address.port() != 0) {
                let seen = by_port.entry(address.port()).or_default();
                if let Some((other, taken)) = seen.iter().find(|(_, taken)| overlap(*taken, *address)) {
                    let message = format!("{address} is already taken by `{other}` ({taken})");
                    self.wrong(name, "listen", message);
                } else {
                    seen.push((name, *address));
                }
            }
        }
        for (name, process) in &config.processes {
            let loopback = SocketAddr::from(([127, 0, 0, 1], process.port.unwrap_or_default()));
            let seen = by_port.get(&loopback.port()).into_iter().flatten();
            // Its own is fine: it serves its route at the socket that it was given.
            if let Some((other, taken)) =
                seen.clone().find(|(other, taken)| *other != name && overlap(*taken, loopback))
            {
                let message = format!("{} is already taken by `{other}` ({taken})", loopback.port());
                self.wrong(name, "port", message);
            }
        }
    }
}

/// Whether two addresses with the same port cannot both be listened on.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_family = one.is_ipv4() == other.is_ipv4();
    one.ip() == other.ip() || same_family && (one.ip().is_unspecified() || other.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(tables: Value) -> Vec<String> {
        let found = problems(&serde_json::from_value(tables).unwrap());
        found
            .iter()
            .map(|(option, message)| format!("{}: {message}", option.strip_prefix("processes.").unwrap()))
            .collect()
    }

    /// What is told about one process with these options, besides a command that is fine.
    fn told_of(options: Value) -> Vec<String> {
        let mut process = json!({ "command": ["/bin/true"] });
        process.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        told(json!({ "a": process }))
    }

    /// One problem, at this option, with this part.
    #[track_caller]
    fn one(options: Value, option: &str, part: &str) {
        let found = told_of(options.clone());
        let [only] = &found[..] else { panic!("{options}: {found:#?}") };
        assert!(only.starts_with(&format!("a.{option}: ")) && only.contains(part), "{options}: {only}");
    }

    #[track_caller]
    fn fine(options: Value) {
        assert_eq!(told_of(options.clone()), [] as [&str; 0], "{options}");
    }

    #[test]
    fn a_command_is_a_program_and_arguments() {
        one(json!({ "command": [] }), "command", "is empty");
        one(json!({ "command": ["", "x"] }), "command", "no name");
        one(json!({ "command": ["x", "a\0b"] }), "command", "NUL");
        one(json!({ "command": ["./x"] }), "command", "from nowhere");
        one(json!({ "command": ["bin/x"] }), "command", "from nowhere");
        fine(json!({ "command": ["bin/x"], "cwd": "/srv" }));
        fine(json!({ "command": ["node", ""] }));
    }

    #[test]
    fn a_job_has_one_time_and_ends() {
        one(json!({ "once": true, "every": "1h" }), "every", "`once`");
        one(json!({ "every": "1h", "cron": "@daily" }), "cron", "`every`");
        one(json!({ "every": "999ms" }), "every", "1s");
        one(json!({ "once": true, "restart": "always" }), "restart", "on-failure");
        one(json!({ "cron": "@daily", "route": "api" }), "route", "ends");
        fine(json!({ "every": "1s", "restart": "on-failure" }));
        fine(json!({ "restart": "always", "route": "api" }));
    }

    #[test]
    fn what_limits_nothing_is_told() {
        one(json!({ "sandbox": "off", "read": [] }), "read", "limits nothing");
        one(json!({ "sandbox": "off", "connect": [443] }), "connect", "limits nothing");
        one(json!({ "sandbox": "off", "bind": [] }), "bind", "limits nothing");
        fine(json!({ "sandbox": "off", "write": ["/srv"] }));
        fine(json!({ "read": [], "connect": [443], "bind": [0] }));
        one(json!({ "user": "" }), "user", "nobody");
    }

    #[test]
    fn an_environment_can_be_had() {
        one(json!({ "env": { "A=B": "x" } }), "env.A=B", "name of a variable");
        one(json!({ "env": { "": "x" } }), "env.", "name of a variable");
        one(json!({ "env": { "A": "x\0" } }), "env.A", "NUL");
        for name in RESERVED {
            one(json!({ "env": { name: "x" } }), &format!("env.{name}"), "KUBE says this one");
        }
        one(json!({ "env": { "PORT": "80" }, "route": "api" }), "env.PORT", "set `port`");
        fine(json!({ "env": { "PORT": "80" } }));
        fine(json!({ "env": { "PORT": "8000" }, "route": "api", "port": 8000 }));
    }

    #[test]
    fn health_is_checked_in_one_way_that_there_is() {
        one(json!({ "health": {} }), "health", "http");
        one(json!({ "health": { "tcp": 1, "exec": ["x"] } }), "health.exec", "one");
        one(json!({ "health": { "http": "/" } }), "health.http", "`route`");
        one(json!({ "health": { "http": "https://localhost/" } }), "health.http", "http://");
        one(json!({ "health": { "exec": [] } }), "health.exec", "is empty");
        one(json!({ "health": { "exec": ["./x"] } }), "health.exec", "from nowhere");
        one(json!({ "health": { "tcp": 0 } }), "health.tcp", "port");
        one(json!({ "health": { "tcp": 1, "interval": "0s" } }), "health.interval", "time");
        one(json!({ "health": { "tcp": 1, "timeout": "0s" } }), "health.timeout", "time");
        one(json!({ "health": { "tcp": 1, "threshold": 0 } }), "health.threshold", "1");
        fine(json!({ "health": { "http": "/" }, "port": 8000 }));
        fine(json!({ "health": { "http": "/" }, "route": "api" }));
        fine(json!({ "health": { "tcp": 1, "grace": "0s" } }));
        fine(json!({ "watchdog": "10s" }));
    }

    #[test]
    fn numbers_that_make_no_sense_are_told() {
        one(json!({ "start_timeout": "0s" }), "start_timeout", "time");
        one(json!({ "window": "0s" }), "window", "attempts");
        fine(json!({ "window": "0s", "attempts": 0 }));
        one(json!({ "memory": 512 }), "memory", "unit");
        one(json!({ "pids": 0 }), "pids", "1");
        one(json!({ "files": 3 }), "files", "16");
        one(json!({ "nice": 20 }), "nice", "19");
        one(json!({ "stop": { "grace": "100000years" } }), "stop.grace", "3650 days");
        one(json!({ "start_timeout": "584542046090 years" }), "start_timeout", "3650 days");
        one(json!({ "log": { "size": 10 } }), "log.size", "unit");
        one(json!({ "log": { "files": 0 } }), "log.files", "current");
        one(json!({ "log": { "age": "0s" } }), "log.age", "time");
        one(json!({ "log": { "rate": 0 } }), "log.rate", "nothing");
        one(json!({ "port": 0 }), "port", "no port");
        one(json!({ "connect": [0] }), "connect", "no port");
        fine(json!({ "stop": { "grace": "0s" }, "memory": "1MiB", "files": 16 }));
    }

    #[test]
    fn two_processes_share_no_route_and_no_port() {
        let two = |a: Value, b: Value| {
            let [mut a, mut b] = [a, b];
            (a["command"], b["command"]) = (json!(["x"]), json!(["x"]));
            told(json!({ "a": a, "b": b }))
        };
        let none = [] as [&str; 0];
        assert_eq!(
            two(json!({ "route": "x/api" }), json!({ "route": "x/api/" })),
            ["b.route: x/api is already that of `a`"]
        );
        assert_eq!(two(json!({ "route": "x/api" }), json!({ "route": "x" })), none);
        assert_eq!(two(json!({ "port": 80 }), json!({ "port": 80 })), ["b.port: 80 is already that of `a`"]);
        let taken = two(json!({ "listen": ["0.0.0.0:80"] }), json!({ "listen": ["192.0.2.1:80"] }));
        assert_eq!(taken, ["b.listen: 192.0.2.1:80 is already taken by `a` (0.0.0.0:80)"]);
        let taken = two(json!({ "port": 80 }), json!({ "listen": ["0.0.0.0:80"] }));
        assert_eq!(taken, ["a.port: 80 is already taken by `b` (0.0.0.0:80)"]);
        for (a, b) in [("0.0.0.0:80", "[::]:80"), ("127.0.0.1:0", "127.0.0.1:0"), ("127.0.0.1:80", "127.0.0.2:80")] {
            assert_eq!(two(json!({ "listen": [a] }), json!({ "listen": [b] })), none, "{a} {b}");
        }
        fine(json!({ "listen": ["127.0.0.1:80"], "port": 80 }));
        one(json!({ "listen": ["127.0.0.1:80", "0.0.0.0:80"] }), "listen", "already taken by `a`");
    }
}
