//! `kube certs`: the certificates of a running KUBE, and those that another program has.
use std::path::{Path, PathBuf};

use admin::{CertificateStatus, Client, RenewOrder};
use clap::{Args, Subcommand};
use serde::Serialize;
use tls::{Import, Issuer};

use crate::{
    config::{Config, Loaded},
    docs::minute,
    outcome::Outcome,
    terminal,
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Certs {
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Order a certificate anew at once, and wait for it
    Renew {
        /// One of its names
        name: String,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Keep the certificates that certbot or Caddy has, for the names that are served here
    Import(Folder),
    /// Give the account at each public authority a new key, because someone else may know the old one
    ChangeKey {
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

/// Where another program has certificates.
#[derive(Debug, Args)]
struct Folder {
    /// `/etc/letsencrypt`, or Caddy's `/var/lib/caddy/.local/share/caddy`
    folder: PathBuf,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// A certificate that was found elsewhere, for programs.
#[derive(Debug, Serialize)]
struct Found {
    place: PathBuf,
    names: Vec<String>,
    /// In seconds since 1970.
    until: Option<i64>,
    /// `taken`, `there` or `skipped`.
    outcome: &'static str,
    reason: Option<String>,
}

/// `load` gives the config that is in force, for what no KUBE has to run for.
pub(crate) async fn execute(certs: Certs, socket: &Path, load: impl FnOnce() -> Result<Loaded, Outcome>) -> Outcome {
    let done = match certs.command {
        None => list(certs.json, socket).await,
        Some(Command::Renew { name, json }) => renew(name.to_ascii_lowercase(), json, socket).await,
        Some(Command::ChangeKey { json }) => change_key(json, socket).await,
        Some(Command::Import(from)) => match load() {
            Ok(loaded) => import(&from, &loaded.config).await,
            Err(outcome) => return outcome,
        },
    };
    done.map_or_else(|error| Outcome::failed(format!("{error:#}")), |()| Outcome::Done)
}

async fn change_key(json: bool, socket: &Path) -> anyhow::Result<()> {
    let changed: Vec<String> = Client::connect(socket).await?.post("/v1/certificates/keys").await?;
    let text = match &changed[..] {
        [] => "there is no account yet: it is made with the first order".to_owned(),
        changed => format!("the account at {} has a new key", changed.join(", ")),
    };
    terminal::say(if json { serde_json::to_string_pretty(&changed)? } else { text });
    Ok(())
}

async fn list(json: bool, socket: &Path) -> anyhow::Result<()> {
    let found: Vec<CertificateStatus> = Client::connect(socket).await?.get("/v1/certificates").await?;
    terminal::say(if json { serde_json::to_string_pretty(&found)? } else { table(&found) });
    Ok(())
}

async fn renew(name: String, json: bool, socket: &Path) -> anyhow::Result<()> {
    let client = Client::connect(socket).await?;
    let new: CertificateStatus = client.create("/v1/certificates/renew", &RenewOrder { name }).await?;
    let until = new.until.map(time).unwrap_or_default();
    let text = format!("a new certificate for {} serves, until {until}", new.names.join(", "));
    terminal::say(if json { serde_json::to_string_pretty(&new)? } else { text });
    Ok(())
}

async fn import(from: &Folder, config: &Config) -> anyhow::Result<()> {
    anyhow::ensure!(
        config.tls.issuer == Issuer::Acme,
        "certificates are kept only where the next ones are ordered: set issuer = \"acme\" in [tls]"
    );
    let imports = tls::import(&config.tls, &from.folder, |name| serves(config, name)).await?;
    let is_kept = imports.iter().any(|import| !matches!(import.outcome, tls::Outcome::Skipped(_)));
    let found: Vec<_> = imports.into_iter().map(found).collect();
    if from.json {
        terminal::say(serde_json::to_string_pretty(&found)?);
    } else {
        found.iter().for_each(|found| terminal::say(line(found)));
    }
    anyhow::ensure!(is_kept, "no certificate was taken");
    terminal::note(
        "A KUBE that runs serves them within ten seconds, and orders the next when it is time. Accounts stay where they are: \
         it has its own.",
    );
    Ok(())
}

/// Whether a name, which may begin with `*.`, is one that this KUBE would order a certificate for.
fn serves(config: &Config, name: &str) -> bool {
    let (domain, host) = (config.domain.as_str(), name.strip_prefix("*.").unwrap_or(name));
    let is_below = host.strip_suffix(domain).is_some_and(|left| left.is_empty() || left.ends_with('.'));
    is_below || config.apps.apps.values().flat_map(|app| &app.domains).any(|own| own.as_str() == name)
}

fn found(import: Import) -> Found {
    let (outcome, reason) = match import.outcome {
        tls::Outcome::Taken => ("taken", None),
        tls::Outcome::There => ("there", None),
        tls::Outcome::Skipped(why) => ("skipped", Some(why)),
    };
    let until = import.until.map(|time| time.unix_timestamp());
    Found { place: import.place, names: import.names, until, outcome, reason }
}

fn line(found: &Found) -> String {
    let place = found.place.display().to_string();
    let about = if found.names.is_empty() { place.clone() } else { found.names.join(", ") };
    let until = found.until.map(time).unwrap_or_default();
    match &found.reason {
        Some(why) => terminal::marked(terminal::ODD, found.outcome, &about, why),
        None => terminal::marked(terminal::GOOD, found.outcome, &about, &format!("good until {until}, from {place}")),
    }
}

/// `kube certs` for people.
fn table(certificates: &[CertificateStatus]) -> String {
    let head = ["NAMES", "ISSUER", "PROOF", "UNTIL", "RENEWED", "LAST ERROR"].map(str::to_owned);
    let row = |certificate: &CertificateStatus| {
        let or_none = |time: Option<i64>| time.map_or_else(|| "-".to_owned(), self::time);
        [
            certificate.names.join(", "),
            certificate.issuer.clone(),
            certificate.proof.clone().unwrap_or_else(|| "-".to_owned()),
            or_none(certificate.until),
            or_none(certificate.renewal),
            certificate.error.clone().unwrap_or_default(),
        ]
    };
    terminal::columns(std::iter::once(head).chain(certificates.iter().map(row)))
}

fn time(seconds: i64) -> String {
    minute(seconds.try_into().unwrap_or_default())
}
