//! `kube certs`: the certificates of a running KUBE.
use std::path::Path;

use admin::{CertificateStatus, Client, RenewOrder};
use clap::{Args, Subcommand};

use crate::{docs::minute, terminal};

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
    /// Give the account at each public authority a new key, because someone else may know the old one
    ChangeKey {
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn execute(certs: Certs, socket: &Path) -> anyhow::Result<()> {
    let client = Client::connect(socket).await?;
    match certs.command {
        None => {
            let found: Vec<CertificateStatus> = client.get("/v1/certificates").await?;
            terminal::say(if certs.json { serde_json::to_string_pretty(&found)? } else { table(&found) });
        }
        Some(Command::Renew { name, json }) => {
            let name = name.to_ascii_lowercase();
            let new: CertificateStatus = client.create("/v1/certificates/renew", &RenewOrder { name }).await?;
            let until = new.until.map(time).unwrap_or_default();
            let text = format!("a new certificate for {} serves, until {until}", new.names.join(", "));
            terminal::say(if json { serde_json::to_string_pretty(&new)? } else { text });
        }
        Some(Command::ChangeKey { json }) => {
            let changed: Vec<String> = client.post("/v1/certificates/keys").await?;
            let text = match &changed[..] {
                [] => "there is no account yet: it is made with the first order".to_owned(),
                changed => format!("the account at {} has a new key", changed.join(", ")),
            };
            terminal::say(if json { serde_json::to_string_pretty(&changed)? } else { text });
        }
    }
    Ok(())
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
