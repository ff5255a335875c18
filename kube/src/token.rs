//! `kube token`: makes, lists and revokes tokens of a running KUBE.
use std::{path::Path, time::Duration};

use admin::{Client, NewToken, TokenAccess, TokenOrder, TokenScope, TokenStatus};
use clap::{Args, Subcommand};
use humantime_serde::re::humantime;

use crate::{docs::minute, terminal};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token; it is shown this once
    #[command(subcommand)]
    Create(Kind),
    /// List the tokens, without the tokens themselves
    List {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token: what it let in ends at once
    Revoke {
        /// The token, as `kube token list` names it
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Kind {
    /// To sync the documents of one space
    Sync(Sync),
}

#[derive(Debug, Args)]
pub(crate) struct Sync {
    /// The space: a-z, 0-9 and `-`; `default` is the one that access = "open" lets everyone into
    #[arg(long, value_name = "NAME")]
    space: String,
    #[command(flatten)]
    access: Access,
    /// How long it is valid, `90d` say [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
    /// What it is for, in your words
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// For programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Access {
    /// Let it read
    #[arg(long)]
    read: bool,
    /// Let it read and change
    #[arg(long)]
    write: bool,
    /// Let another KUBE hold a copy of the whole space: read, change, and be told which documents there are
    #[arg(long)]
    mirror: bool,
}

pub(crate) async fn execute(command: Command, socket: &Path) -> anyhow::Result<()> {
    let client = Client::connect(socket).await?;
    match command {
        Command::Create(Kind::Sync(sync)) => create(&client, sync).await,
        Command::List { json } => {
            let tokens: Vec<TokenStatus> = client.get("/v1/tokens").await?;
            let shown = if json { serde_json::to_string_pretty(&tokens)? } else { table(&tokens) };
            terminal::say(shown);
            Ok(())
        }
        Command::Revoke { id } => {
            // Anything else would be another path.
            anyhow::ensure!(
                id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
                "{id:?} is not the id of a token: `kube token list` shows them"
            );
            let revoked: TokenStatus = client.delete(&format!("/v1/tokens/{id}")).await?;
            let TokenScope::Sync { space, .. } = revoked.scope;
            terminal::say(format!("revoked {id}, which let into the space {space:?}"));
            Ok(())
        }
    }
}

async fn create(client: &Client, sync: Sync) -> anyhow::Result<()> {
    let access = match sync.access {
        Access { mirror: true, .. } => TokenAccess::Mirror,
        Access { write: true, .. } => TokenAccess::Write,
        Access { .. } => TokenAccess::Read,
    };
    let order = TokenOrder {
        scope: TokenScope::Sync { space: sync.space, access },
        label: sync.label,
        expires_in: sync.expires.map(|life| life.as_secs()),
    };
    let made: NewToken = client.create("/v1/tokens", &order).await?;
    if sync.json {
        terminal::say(serde_json::to_string_pretty(&made)?);
        return Ok(());
    }
    let TokenScope::Sync { space, access } = &made.status.scope;
    let may = match access {
        TokenAccess::Read => "reads",
        TokenAccess::Write => "reads and changes",
        TokenAccess::Mirror => "holds a copy of",
    };
    let until = made.status.expires.map_or_else(|| "it is revoked".to_owned(), minute);
    terminal::say(&made.token);
    terminal::note(format!(
        "Shown this once. Whoever has it {may} the space {space:?} until {until}; `kube token revoke {}` ends that.",
        made.status.id
    ));
    Ok(())
}

/// `kube token list` for people.
fn table(tokens: &[TokenStatus]) -> String {
    let head = ["ID", "KIND", "SPACE", "ACCESS", "CREATED", "EXPIRES", "LAST USED", "LABEL"].map(str::to_owned);
    let row = |token: &TokenStatus| {
        let TokenScope::Sync { space, access } = &token.scope;
        let access = match access {
            TokenAccess::Read => "read",
            TokenAccess::Write => "write",
            TokenAccess::Mirror => "mirror",
        };
        let or = |time: Option<u64>, none: &str| time.map_or_else(|| none.to_owned(), minute);
        [
            token.id.clone(),
            "sync".to_owned(),
            space.clone(),
            access.to_owned(),
            minute(token.created),
            or(token.expires, "never"),
            or(token.last_used, "-"),
            token.label.clone().unwrap_or_default(),
        ]
    };
    terminal::columns(std::iter::once(head).chain(tokens.iter().map(row)))
}
