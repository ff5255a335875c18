//! `kube logs`: what processes wrote, and what KUBE said, from the files.
use std::{
    fmt::{self, Write as _},
    io::{self, BufWriter, IsTerminal as _, Write},
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use anstyle::Style;
use anyhow::Context as _;
use clap::Args;
use humantime_serde::re::humantime;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use processes::{Entry, Query, Reader, Stream};

use crate::{
    config::Config,
    terminal::{self, BAD, DIM, GOOD, ODD},
};

/// KUBE's own log.
const OWN: &str = "kube";
/// How many lines are shown before those that are waited for.
const TAIL: usize = 10;
/// How often it is looked at whether there is more.
const POLL: Duration = Duration::from_millis(200);
/// There if systemd runs this machine: sd_booted(3).
const SYSTEMD: &str = "/run/systemd/system";

/// What of a log is shown.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The process, as `[processes.NAME]` has it [default: KUBE itself]
    name: Option<String>,
    /// Wait for more, beginning with the last 10 lines
    #[arg(long, short)]
    follow: bool,
    /// From then on: how long ago (10m, 2h), or a time ("2026-11-30 12:00", in this machine's time zone)
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
    /// The last N lines
    #[arg(long, short = 'n', value_name = "N")]
    lines: Option<usize>,
    /// What it wrote to its standard output alone
    #[arg(long, requires = "name")]
    stdout: bool,
    /// What it wrote to its standard error alone
    #[arg(long, requires = "name", conflicts_with = "stdout")]
    stderr: bool,
    /// For programs: the lines as they are kept, one object each
    #[arg(long)]
    json: bool,
}

/// Shows the log.
pub(crate) async fn execute(logs: Logs, config: &Config) -> anyhow::Result<()> {
    let folder = &config.processes.logs;
    let name = logs.name.as_deref().unwrap_or(OWN);
    let cannot = || format!("cannot read the logs in {}", folder.display());
    let mut names = match processes::log_names(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(error).with_context(|| format!("{}: ask as root, or as the user that KUBE runs as", cannot()));
        }
        names => names.with_context(cannot)?,
    };
    if !names.iter().any(|known| known == name) {
        if name == OWN && Path::new(SYSTEMD).exists() {
            return Err(journal(&logs));
        }
        names.extend(config.processes.processes.keys().map(ToString::to_string));
        names.sort();
        names.dedup();
        if name != OWN && !names.iter().any(|known| known == name) {
            let names = if names.is_empty() { "none at all".to_owned() } else { names.join(", ") };
            anyhow::bail!("there is no log called {name:?}; there is: {names}");
        }
        terminal::note(format_args!("{name} has written nothing yet"));
    }
    let stream = [(logs.stdout, Stream::Stdout), (logs.stderr, Stream::Stderr)];
    let lines = logs.lines.or((logs.follow && logs.since.is_none()).then_some(TAIL));
    let stream = stream.into_iter().find_map(|(is_asked_for, stream)| is_asked_for.then_some(stream));
    let query = Query { since: logs.since, lines, stream };
    match show(folder, name, &query, &logs).await {
        // `| head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        shown => shown.with_context(cannot),
    }
}

async fn show(folder: &Path, name: &str, query: &Query, logs: &Logs) -> io::Result<()> {
    let mut reader = Reader::open(folder, name, query)?;
    let out = io::stdout();
    let zone = TimeZone::system();
    let mut paper = Paper { is_terminal: out.is_terminal(), out: BufWriter::new(out), zone, unfinished: None };
    loop {
        while let Some(line) = reader.next()? {
            if logs.json {
                writeln!(paper.out, "{line}")?;
            } else if let Some(entry) = Entry::read(line) {
                paper.print(&entry)?;
            }
        }
        paper.out.flush()?;
        if !logs.follow {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Has journalctl show KUBE's own log; comes back only with why it cannot.
fn journal(logs: &Logs) -> anyhow::Error {
    let mut command = Command::new("journalctl");
    command.args(["--unit", "kube"]);
    if logs.follow {
        command.arg("--follow");
    }
    if let Some(since) = logs.since.and_then(|since| Timestamp::try_from(since).ok()) {
        command.arg(format!("--since=@{}", since.as_second()));
    }
    if let Some(lines) = logs.lines {
        command.arg(format!("--lines={lines}"));
    }
    if logs.json {
        command.arg("--output=json");
    }
    let error = command.exec();
    anyhow::Error::new(error).context("KUBE's own log is in the journal, and `journalctl --unit kube` does not run")
}

/// Where lines are shown to people.
struct Paper<W> {
    out: W,
    is_terminal: bool,
    zone: TimeZone,
    /// The stream whose line goes on, if one does.
    unfinished: Option<(Stream, Option<u32>)>,
}

impl<W: Write> Paper<W> {
    fn print(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let from = (entry.stream, entry.pid);
        let goes_on = self.unfinished == Some(from);
        if !goes_on {
            self.end_line()?;
            let time = entry.time.parse().map(|time: Timestamp| time.to_zoned(self.zone.clone()));
            let time = time.map(|time| time.strftime("%b %d %H:%M:%S%.3f").to_string());
            let dim = self.style(DIM);
            write!(self.out, "{dim}{}{dim:#} ", time.as_deref().unwrap_or(&entry.time))?;
        }
        let style = self.style(match (entry.stream, entry.level.as_deref()) {
            (Stream::Stdout, _) => Style::new(),
            (Stream::Stderr, _) | (Stream::Kube, Some("ERROR")) => BAD,
            (Stream::Kube, Some("WARN")) => ODD,
            (Stream::Kube, Some("INFO")) => GOOD,
            (Stream::Kube, _) => DIM,
        });
        let line = self.text(&entry.line);
        if let Some(level) = &entry.level {
            let target = entry.target.as_deref().unwrap_or_default();
            write!(self.out, "{style}{level:>5}{style:#} {target}: {line}")?;
            for (name, value) in &entry.fields {
                write!(self.out, " {}={}", self.text(name), self.text(value))?;
            }
        } else {
            let who = if entry.stream == Stream::Kube { "kube: " } else { "" };
            write!(self.out, "{style}{who}{line}{style:#}")?;
        }
        self.unfinished = Some(from);
        if entry.part { Ok(()) } else { self.end_line() }
    }

    fn end_line(&mut self) -> io::Result<()> {
        if self.unfinished.take().is_some() { writeln!(self.out) } else { Ok(()) }
    }

    fn style(&self, style: Style) -> Style {
        if self.is_terminal { style } else { Style::new() }
    }

    fn text<'a>(&self, text: &'a str) -> Text<'a> {
        Text { text, is_terminal: self.is_terminal }
    }
}

/// Text of a process, or of whoever it listens to. A terminal does what it is told, so that there only colours get through; other
/// control characters are shown, as `^G`.
struct Text<'a> {
    text: &'a str,
    is_terminal: bool,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.strip_suffix('\r').unwrap_or(self.text);
        if !self.is_terminal || !text.contains(|char: char| char.is_control()) {
            return f.write_str(text);
        }
        let mut rest = text;
        while let Some(char) = rest.chars().next() {
            let (colour, after) = rest.split_at(colour(rest));
            f.write_str(colour)?;
            rest = after;
            if colour.is_empty() {
                rest = &rest[char.len_utf8()..];
                match u8::try_from(char) {
                    Ok(byte) if byte.is_ascii_control() && byte != b'\t' => write!(f, "^{}", char::from(byte ^ 0x40))?,
                    Ok(0x80..0xa0) => f.write_char(char::REPLACEMENT_CHARACTER)?,
                    Ok(_) | Err(_) => f.write_char(char)?,
                }
            }
        }
        // Whoever set a colour may have left it.
        if text.contains('\x1b') { f.write_str("\x1b[0m") } else { Ok(()) }
    }
}

/// The length of the colour that a text begins with, if it does: ECMA-48, Select Graphic Rendition.
fn colour(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\x1b[") else { return 0 };
    let end = parameters.find(|char: char| !char.is_ascii_digit() && char != ';' && char != ':');
    end.filter(|end| parameters[*end..].starts_with('m')).map_or(0, |end| end + 3)
}

fn since(text: &str) -> Result<SystemTime, String> {
    point(text, SystemTime::now(), &TimeZone::system())
}

/// A time, or how long before `now`.
fn point(text: &str, now: SystemTime, zone: &TimeZone) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH));
    }
    let here = |time: DateTime| zone.to_timestamp(time).ok();
    let time = text.parse::<Timestamp>().ok().or_else(|| text.parse().ok().and_then(here));
    time.map(SystemTime::from).ok_or_else(|| {
        "say how long ago (10m, 2h), or a time: \"2026-11-30 12:00\" in this machine's time zone, or 2026-11-30T12:00:00Z".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(lines: &[&str], is_terminal: bool) -> String {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let mut paper = Paper { out: Vec::new(), is_terminal, zone, unfinished: None };
        for line in lines {
            paper.print(&Entry::read(line).unwrap()).unwrap();
        }
        String::from_utf8(paper.out).unwrap()
    }

    #[test]
    fn a_line_has_its_time_here_and_who_says_it_if_it_is_kube() {
        let text = printed(
            &[
                r#"{"time":"2026-11-30T12:00:00.123456Z","stream":"stdout","pid":7,"line":"ready\r"}"#,
                r#"{"time":"2026-11-30T12:00:01.000000Z","stream":"kube","line":"ended: exit code 1"}"#,
                r#"{"time":"2026-11-30T23:30:00.000000Z","stream":"kube","level":"WARN","target":"kube_dns","line":"no","fields":{"zone":"a"}}"#,
            ],
            false,
        );
        assert_eq!(
            text,
            "Nov 30 13:00:00.123 ready\nNov 30 13:00:01.000 kube: ended: exit code 1\n\
             Dec 01 00:30:00.000  WARN kube_dns: no zone=a\n"
        );
    }

    #[test]
    fn parts_of_a_line_are_put_together_unless_another_comes_between() {
        let part = r#"{"time":"2026-11-30T12:00:00.000000Z","stream":"stdout","pid":7,"line":"long, ","part":true}"#;
        let end = r#"{"time":"2026-11-30T12:00:00.000000Z","stream":"stdout","pid":7,"line":"longer"}"#;
        let other = r#"{"time":"2026-11-30T12:00:00.000000Z","stream":"stderr","pid":7,"line":"oh"}"#;
        assert_eq!(printed(&[part, part, end], false), "Nov 30 13:00:00.000 long, long, longer\n");
        assert_eq!(printed(&[part, other, end], false).lines().count(), 3);
    }

    #[test]
    fn a_terminal_is_told_colours_and_nothing_else() {
        let shown = |text, is_terminal| Text { text, is_terminal }.to_string();
        let text = "\x1b[1;31mred\x1b[0m\x1b]52;c;aGk=\x07\x1b[2J\ta\u{9b}2J\x7f";
        assert_eq!(shown(text, false), text);
        assert_eq!(shown(text, true), "\x1b[1;31mred\x1b[0m^[]52;c;aGk=^G^[[2J\ta\u{fffd}2J^?\x1b[0m");
        assert_eq!(shown("pla\u{fc}n", true), "pla\u{fc}n");
        assert_eq!(shown("\x1b[", true), "^[[\x1b[0m");
    }

    #[test]
    fn a_time_is_one_of_this_zone_unless_it_says_so_or_how_long_ago() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let point =
            |text| point(text, now, &zone).map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        assert_eq!(point("10m"), Ok(999_400));
        assert_eq!(point("1h 30m"), Ok(994_600));
        assert_eq!(point("2026-11-30T12:00:00Z"), Ok(1_796_040_000));
        for here in ["2026-11-30 13:00", "2026-11-30 13:00:00", "2026-11-30T13:00"] {
            assert_eq!(point(here), Ok(1_796_040_000), "{here}");
        }
        assert_eq!(point("2026-11-30"), Ok(1_795_993_200));
        for wrong in ["", "yesterday", "2026-13-01", "10"] {
            point(wrong).unwrap_err();
        }
    }
}
