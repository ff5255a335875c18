//! Queries to a name server, by a load generator that is its own program.
use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Output, Stdio},
    rc::Rc,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::NamedTempFile;

use super::{Row, Sample, Workload};
use crate::{
    checks::names::{Kind, Query, Zone},
    cpu::{self, Cpu, Spent},
    servers::{Core, names::NameServer, pinned},
};

/// Queries of a file.
const QUERIES: usize = 40_000;
/// How often a file is gone through when a server is warm.
const TIMES: usize = 10;
/// The cores of the server and of the load.
const BOTH: &str = "0,1";
/// The mix: of ten queries.
const MIX: [Kind; 10] = [
    Kind::Host,
    Kind::Host,
    Kind::Alias,
    Kind::Host,
    Kind::Wildcard,
    Kind::Host,
    Kind::Missing,
    Kind::Host,
    Kind::Elsewhere,
    Kind::Host,
];

/// A file of queries, and how often it is gone through.
#[derive(Debug)]
pub(crate) struct Queries {
    zone: Rc<Zone>,
    file: NamedTempFile,
    missing: usize,
    is_warm: bool,
    /// Whether the zone is signed, and signatures are asked for.
    is_signed: bool,
    /// Whether the server has both cores, and the load comes from both.
    is_wide: bool,
}

impl Queries {
    /// A warm server and a cold one, without signatures and with them; and a warm one on two cores.
    pub(crate) fn all(zone: &Rc<Zone>) -> Result<Vec<Self>> {
        let all = [(true, false), (false, false), (true, true), (false, true)];
        let mut all: Vec<_> =
            all.into_iter().map(|(is_warm, is_signed)| Self::write(zone, is_warm, is_signed)).collect::<Result<_>>()?;
        all.push(Self { is_wide: true, ..Self::write(zone, true, false)? });
        Ok(all)
    }

    fn write(zone: &Rc<Zone>, is_warm: bool, is_signed: bool) -> Result<Self> {
        let queries: Vec<_> = (0..QUERIES).map(|number| Query { kind: MIX[number % MIX.len()], number }).collect();
        // Of a cold server's names none is asked twice.
        let mut names: Vec<_> = queries.iter().map(Query::name).collect();
        if !is_warm {
            names.sort_unstable();
            names.dedup();
            // Not in the order of the zone.
            names.sort_by_key(|name| name.bytes().rev().collect::<Vec<_>>());
        }
        let mut text = String::new();
        names.iter().try_for_each(|name| writeln!(text, "{name} A"))?;
        let mut file = NamedTempFile::new()?;
        file.write_all(text.as_bytes())?;
        let missing = names.iter().filter(|name| name.starts_with('m')).count();
        Ok(Self { zone: Rc::clone(zone), file, missing, is_warm, is_signed, is_wide: false })
    }
}

impl Workload<NameServer> for Queries {
    fn row(&self) -> Row {
        let work = match (self.is_warm, self.is_signed) {
            (true, false) if self.is_wide => "dns: a mix, warm, two cores",
            (true, false) => "dns: a mix, warm",
            (false, false) => "dns: every name once, cold",
            (true, true) => "dns: signed, a mix, warm",
            (false, true) => "dns: signed, every name once, cold",
        };
        Row::new(work, "query")
    }

    fn suits(&self, server: &NameServer) -> bool {
        server.spreads || !self.is_wide
    }

    fn measure(&self, server: &NameServer) -> Result<Sample> {
        let running =
            self.zone.start(server, self.is_signed, if self.is_wide { BOTH } else { Core::Server.number() })?;
        let port = running.address.port().to_string();
        let load = |times: usize| -> Result<usize> { self.load(&port, times) };
        if self.is_warm {
            self.zone.check(&running, self.is_signed).context("before the load")?;
            load(1)?;
        }
        let before = Cpu::of(running.pid())?;
        let queries = load(if self.is_warm { TIMES } else { 1 })?;
        let cpu = Cpu::of(running.pid())?.since(&before)?;
        let memory = cpu::memory(running.pid())?;
        let checked = self.zone.check(&running, self.is_signed).context("after the load")?;
        let sample = Sample::new(Spent { cpu, load: 0.0 }, queries, checked);
        let after = if self.is_signed { "dns: signed, a mix" } else { "dns: a mix" };
        Ok(if self.is_warm && !self.is_wide { sample.with_memory(after, memory) } else { sample })
    }
}

impl Queries {
    /// Goes through the file so many times; says how many queries that were, all of which were answered as they should be.
    fn load(&self, port: &str, times: usize) -> Result<usize> {
        let cores: &[Core] = if self.is_wide { &[Core::Server, Core::Load] } else { &[Core::Load] };
        let generate = |core: &Core| {
            let mut command = pinned(*core, "dnsperf");
            command.args(["-s", "127.0.0.1", "-p", port, "-n", &times.to_string()]);
            command.args(["-e", "-c", "10", "-q", "100", "-d"]).arg(self.file.path());
            command.args(self.is_signed.then_some("-D")).stdout(Stdio::piped());
            command.spawn().context("cannot run dnsperf")
        };
        let generators: Vec<_> = cores.iter().map(generate).collect::<Result<_>>()?;
        generators.into_iter().map(|generator| self.completed(times, generator.wait_with_output()?)).sum()
    }

    /// How many queries a load generator had answered.
    fn completed(&self, times: usize, output: Output) -> Result<usize> {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = |name: &str| -> Result<&str> {
            said.lines().find_map(|line| line.trim().strip_prefix(name)).with_context(|| said.clone())
        };
        let number = |name: &str| -> Result<usize> {
            let first = line(name)?.split_whitespace().next().unwrap_or_default();
            first.parse().with_context(|| said.clone())
        };
        let (sent, completed) = (number("Queries sent:")?, number("Queries completed:")?);
        ensure!(sent == completed && sent > 0, "{completed} of {sent} queries were answered");
        // Response codes:       NOERROR 36000 (90.00%), NXDOMAIN 4000 (10.00%)
        let codes = line("Response codes:")?;
        let code = |name: &str| -> Option<usize> { codes.split_once(name)?.1.split_whitespace().next()?.parse().ok() };
        let missing = times * self.missing;
        ensure!(code("NXDOMAIN") == Some(missing), "not {missing} of {sent} have no such name: {codes}");
        ensure!(code("NOERROR") == Some(sent - missing), "not all of the others are answered: {codes}");
        Ok(sent)
    }
}
