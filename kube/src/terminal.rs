//! What people read: colour only on a terminal.
use std::{
    cmp::Reverse,
    fmt,
    fmt::Write as _,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use admin::{CertificateStatus, CheckStatus, PeerStatus, SiteStatus, SpaceStatus, Status, Verdict};
use anstream::{eprintln, println};
use anstyle::{AnsiColor, Style};

use crate::{
    config::domain::Domain,
    docs::{minute, size},
};

const STRONG: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const ODD: Style = AnsiColor::Yellow.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// Spaces that people are shown.
const SPACES: usize = 10;

/// Prints a result.
pub(crate) fn say(text: impl fmt::Display) {
    println!("{text}");
}

/// Prints what a person should know, beside a result that a program may read.
pub(crate) fn note(text: impl fmt::Display) {
    eprintln!("{text}");
}

/// Prints what went wrong.
pub(crate) fn complain(text: impl fmt::Display) {
    eprintln!("{BAD}kube:{BAD:#} {text}");
}

/// Prints what probably is not as meant.
pub(crate) fn warn(text: impl fmt::Display) {
    eprintln!("{ODD}kube: warning:{ODD:#} {text}");
}

/// What a person sees when KUBE serves: where to look, and how to stop.
pub(crate) fn banner(status: &Status, folder: &Path, file: Option<&Path>) -> String {
    let mut text = String::new();
    let mode = match file {
        Some(file) => file.display().to_string(),
        None => "development mode".to_owned(),
    };
    let Status { version, domain, urls, .. } = status;
    writeln!(text, "\n{STRONG}KUBE {version}{STRONG:#} serves {STRONG}{domain}{STRONG:#}  {DIM}{mode}{DIM:#}\n").ok();
    rows(&mut text, &sites(status));
    rows(&mut text, &urls.iter().map(|(name, url)| (name.clone(), url.clone())).collect::<Vec<_>>());
    rows(
        &mut text,
        &[
            ("deploy".to_owned(), format!("copy a folder into {}", folder.display())),
            ("trust".to_owned(), "`kube trust` tells browsers about the local certificate authority".to_owned()),
            ("stop".to_owned(), "Ctrl-C".to_owned()),
        ],
    );
    text
}

/// `kube status` for people.
pub(crate) fn status(status: &Status) -> String {
    let mut text = String::new();
    writeln!(text, "{STRONG}KUBE {}{STRONG:#} serves {STRONG}{}{STRONG:#}", status.version, status.domain).ok();
    let since = UNIX_EPOCH + Duration::from_secs(status.started);
    let up = Duration::from_secs(since.elapsed().unwrap_or_default().as_secs());
    let up = humantime_serde::re::humantime::format_duration(up);
    writeln!(text, "{DIM}up {up}, process {}, data in {}{DIM:#}\n", status.pid, status.data).ok();
    for module in &status.modules {
        let style = match module.health.as_str() {
            "ready" => GOOD,
            "failed" => BAD,
            _ => ODD,
        };
        let reason = module.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let restarts =
            if module.restarts == 0 { String::new() } else { format!("  {DIM}fell {} times{DIM:#}", module.restarts) };
        writeln!(text, "  {:<10} {style}{}{style:#}{reason}{restarts}", module.name, module.health).ok();
    }
    text.push('\n');
    rows(&mut text, &sites(status));
    rows(&mut text, &status.certificates.iter().filter_map(certificate).collect::<Vec<_>>());
    rows(&mut text, &status.peers.iter().map(peer).collect::<Vec<_>>());
    rows(&mut text, &spaces(&status.spaces));
    rows(&mut text, &status.urls.iter().map(|(name, url)| (name.clone(), url.clone())).collect::<Vec<_>>());
    text.truncate(text.trim_end().len());
    text
}

/// `kube dns check` for people.
pub(crate) fn checked(found: &[CheckStatus]) -> String {
    let line = |finding: &CheckStatus| {
        let (style, word) = match finding.verdict {
            Verdict::Ok => (GOOD, "ok"),
            Verdict::Wrong => (BAD, "wrong"),
            Verdict::Unknown => (ODD, "unknown"),
        };
        marked(style, word, &finding.about, &finding.says)
    };
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What is said of one thing among several, behind a word for how it is.
pub(crate) fn marked(style: Style, word: &str, about: &str, says: &str) -> String {
    format!("{style}{word:<8}{style:#}{STRONG}{about}{STRONG:#}: {says}")
}

/// How to trust the local CA, for the tools that people use.
pub(crate) fn trust(ca: &Path, domain: &Domain) -> String {
    let path = ca.display();
    format!(
        "The certificates of {domain} are signed by this KUBE's own authority, which can sign for {domain} alone:\n\n  \
         {path}\n\n\
         {STRONG}This machine{STRONG:#} (Debian's store, as root; Chromium and Firefox of this user; `uninstall` undoes it)\n  \
         kube trust install\n\n\
         By hand, and elsewhere:\n\n\
         {STRONG}Debian, Ubuntu{STRONG:#} (curl, git, most programs)\n  \
         sudo cp {path} /usr/local/share/ca-certificates/kube-{domain}.crt && sudo update-ca-certificates\n\
         {STRONG}Chromium, Chrome on Linux{STRONG:#} (certutil is in libnss3-tools)\n  \
         certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n kube-{domain} -i {path}\n\
         {STRONG}Firefox{STRONG:#}\n  \
         Settings, Privacy & Security, View Certificates, Authorities, Import\n\
         {STRONG}macOS{STRONG:#}\n  \
         sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {path}\n\
         {STRONG}Node.js{STRONG:#}\n  \
         export NODE_EXTRA_CA_CERTS={path}\n\
         {STRONG}curl, once{STRONG:#}\n  \
         curl --cacert {path} https://{domain}/"
    )
}

fn sites(status: &Status) -> Vec<(String, String)> {
    let urls = |site: &SiteStatus| [std::slice::from_ref(&site.url), &site.domains].concat();
    status.sites.iter().map(|site| (site.name.clone(), urls(site).join("  "))).collect()
}

/// A certificate that there is: for what, of whom, and until when.
fn certificate(certificate: &CertificateStatus) -> Option<(String, String)> {
    let CertificateStatus { names, issuer, .. } = certificate;
    let until = minute(certificate.until?.try_into().unwrap_or_default());
    Some(("certs".to_owned(), format!("{}, of {issuer}, until {until}", names.join(", "))))
}

/// Another KUBE: since when it is connected and how far behind, or why it is away.
fn peer(peer: &PeerStatus) -> (String, String) {
    let PeerStatus { name, url, connected, error, behind, .. } = peer;
    let error = error.as_ref().map(|error| format!("; {ODD}{error}{ODD:#}")).unwrap_or_default();
    let words = match (connected, behind) {
        (None, _) => format!("{ODD}away{ODD:#}{error}"),
        (Some(since), 0) => format!("{GOOD}connected{GOOD:#} since {}, has everything{error}", minute(*since)),
        (Some(since), behind) => {
            format!("{GOOD}connected{GOOD:#} since {}, {behind} documents behind{error}", minute(*since))
        }
    };
    (name.clone(), format!("{url} {words}"))
}

/// The spaces that have most, with the quota if there is one.
fn spaces(spaces: &[SpaceStatus]) -> Vec<(String, String)> {
    let mut spaces: Vec<_> = spaces.iter().collect();
    spaces.sort_by_key(|space| Reverse(space.bytes));
    let left = spaces.len().saturating_sub(SPACES);
    let row = |space: &&SpaceStatus| {
        let quota = space.quota.map(|quota| format!(" of {}", size(quota))).unwrap_or_default();
        (space.name.clone(), format!("{}{quota} of documents", size(space.bytes)))
    };
    let mut rows: Vec<_> = spaces.iter().take(SPACES).map(row).collect();
    if left > 0 {
        rows.push((String::new(), format!("and {left} smaller spaces: --json has all")));
    }
    rows
}

fn rows(text: &mut String, rows: &[(String, String)]) {
    for (name, value) in rows {
        writeln!(text, "  {name:<10} {value}").ok();
    }
    if !rows.is_empty() {
        text.push('\n');
    }
}

/// Rows with their cells below each other.
pub(crate) fn columns<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = rows.collect();
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default());
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_other_kubes_it_is_said_how_they_are_and_of_spaces_what_they_have() {
        let other = PeerStatus {
            name: "other".to_owned(),
            url: "wss://sync.other.example/".to_owned(),
            space: "team".to_owned(),
            connected: Some(1_795_253_400),
            error: None,
            behind: 3,
        };
        let words = |other: &PeerStatus| anstream::adapter::strip_str(&peer(other).1).to_string();
        assert_eq!(words(&other), "wss://sync.other.example/ connected since 2026-11-21 09:30, 3 documents behind");
        assert!(words(&PeerStatus { behind: 0, ..other.clone() }).ends_with("has everything"));
        let away = PeerStatus { connected: None, error: Some("connection refused".to_owned()), ..other };
        assert!(words(&away).ends_with("away; connection refused"));

        let space = |number: u64| SpaceStatus {
            name: format!("space-{number}"),
            bytes: number << 20,
            quota: Some(10 << 30).filter(|_| number == 11),
        };
        let rows = spaces(&(0..12).map(space).collect::<Vec<_>>());
        assert_eq!(rows[0], ("space-11".to_owned(), "11.0 MiB of 10.0 GiB of documents".to_owned()));
        assert_eq!(rows[1].1, "10.0 MiB of documents");
        assert_eq!((rows.len(), rows[10].1.contains("2 smaller spaces")), (11, true));
    }
}
