//! The command line: what can be typed, and what each command does.
use std::path::{Path, PathBuf};

use admin::{Admin, Client, ClientError, Status};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use kube_contract::Module as _;

use crate::{
    certs,
    config::{self, Environment, Loaded, Unusable},
    dns, docs, init, logs, new,
    outcome::Outcome,
    ps, run, terminal, token, trust,
};

/// Hosting for a small team in one program: apps with TLS, and an always-on ECHO peer.
#[derive(Debug, Parser)]
#[command(
    name = "kube",
    version,
    max_term_width = 100,
    after_help = "With no config file at all, KUBE runs in development mode on localhost."
)]
pub struct Cli {
    /// The config file [default: /etc/kube/kube.toml if it exists, else development mode]
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until asked to stop (Ctrl-C, SIGTERM)
    Run,
    /// Say everything that is wrong with the config
    Check {
        /// Print the config in force, defaults included
        #[arg(long)]
        print: bool,
    },
    /// Make the running KUBE use its changed config, completely or not at all
    Reload,
    /// Show how the running KUBE is
    Status {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Write a config for this machine, check it, and say what is left to do
    Init(init::Answers),
    /// Write a small app that syncs, to make your own, into a new folder
    New {
        /// The folder; its last part is the name of the app
        #[arg(value_name = "NAME")]
        folder: PathBuf,
    },
    /// Say how browsers and tools come to trust the local certificate authority, or have those of this machine do so
    Trust(trust::Trust),
    /// Make, list and revoke tokens: what lets programs and people in
    #[command(subcommand)]
    Token(token::Command),
    /// List the certificates that serve, order one anew, or take over those of certbot or Caddy
    Certs(certs::Certs),
    /// List the zones and records that are served, and what a registrar is to be told
    #[command(subcommand)]
    Dns(dns::Command),
    /// List the documents that are synced here, and look after them
    Docs(docs::Docs),
    /// Show how the processes of the config are
    Ps(ps::Ps),
    /// Start processes that do not run, and wait until they are ready
    Start(ps::Which),
    /// Stop processes until they are started again, and wait until nothing of them is left
    Stop(ps::Which),
    /// Start processes anew; what is on the web is served meanwhile
    Restart(ps::Which),
    /// Show what a process wrote, or what KUBE itself has to say, whether it runs or not
    Logs(logs::Logs),
    /// Hold a fire drill: make one module of the running KUBE panic, and see it heal
    Drill {
        /// The module, as `kube status` names it
        module: String,
    },
    /// Print the version
    Version,
}

impl Cli {
    /// Does what was typed.
    pub async fn execute(self, environment: Environment) -> Outcome {
        let file = self.config;
        let result = match self.command {
            Command::Version => {
                terminal::say(format!("kube {}", env!("CARGO_PKG_VERSION")));
                Ok(())
            }
            Command::Init(answers) => return init::init(answers, file, &environment),
            Command::New { folder } => {
                // A config with problems is no reason not to begin; it only says where the app goes in the end.
                let loaded = config::load(file.as_deref(), &environment).ok();
                return new::new(&folder, loaded.as_ref().map(|loaded| &loaded.config));
            }
            Command::Run => match load(file.as_deref(), &environment) {
                Ok(loaded) => return run::run(loaded, environment).await,
                Err(outcome) => return outcome,
            },
            Command::Check { print } => match load(file.as_deref(), &environment) {
                Ok(loaded) => check(&loaded, print),
                Err(outcome) => return outcome,
            },
            Command::Trust(trust) => match load(file.as_deref(), &environment) {
                Ok(loaded) => trust::execute(&trust, &loaded, &environment),
                Err(outcome) => return outcome,
            },
            Command::Reload => match load(file.as_deref(), &environment) {
                Ok(loaded) => reload(&loaded).await,
                Err(outcome) => return outcome,
            },
            Command::Status { json } => status(&socket(file.as_deref(), &environment), json).await,
            Command::Token(command) => token::execute(command, &socket(file.as_deref(), &environment)).await,
            Command::Certs(certs) => {
                let load = || load(file.as_deref(), &environment);
                return certs::execute(certs, &socket(file.as_deref(), &environment), load).await;
            }
            Command::Dns(command) => dns::execute(command, &socket(file.as_deref(), &environment)).await,
            Command::Docs(docs) => return docs::execute(docs, &socket(file.as_deref(), &environment)).await,
            Command::Ps(ps) => return ps::list(ps, &socket(file.as_deref(), &environment)).await,
            Command::Start(which) => return ps::order("start", which, &socket(file.as_deref(), &environment)).await,
            Command::Stop(which) => return ps::order("stop", which, &socket(file.as_deref(), &environment)).await,
            Command::Restart(which) => {
                return ps::order("restart", which, &socket(file.as_deref(), &environment)).await;
            }
            Command::Logs(logs) => logs::execute(logs, &config::load_for_place(file.as_deref(), &environment)).await,
            Command::Drill { module } => drill(&socket(file.as_deref(), &environment), &module).await,
        };
        match result {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::failed(format!("{error:#}")),
        }
    }
}

fn load(file: Option<&Path>, environment: &Environment) -> Result<Loaded, Outcome> {
    match config::load(file, environment) {
        Ok(loaded) => {
            let file = loaded.file.as_deref().unwrap_or(Path::new("defaults"));
            for warning in &loaded.warnings {
                terminal::warn(config::describe(file, warning));
            }
            Ok(loaded)
        }
        Err(unusable) => {
            let Unusable { problems, .. } = &unusable;
            terminal::complain(&unusable);
            let count = problems.len();
            terminal::complain(format!(
                "{count} problem{}; nothing was started or changed",
                if count == 1 { "" } else { "s" }
            ));
            Err(Outcome::Config)
        }
    }
}

fn check(loaded: &Loaded, print: bool) -> anyhow::Result<()> {
    if print {
        terminal::say(toml::to_string(&loaded.config).context("the config cannot be written as TOML")?);
        return Ok(());
    }
    match &loaded.file {
        Some(file) => terminal::say(format!("{} is fine", file.display())),
        None => terminal::say(format!("no {}: development mode is fine", config::SYSTEM_FILE)),
    }
    Ok(())
}

async fn reload(loaded: &Loaded) -> anyhow::Result<()> {
    let client = Client::connect(&crate::wire::socket(&loaded.config)).await?;
    let changed: Vec<String> = client.post("/v1/reload").await?;
    match &changed[..] {
        [] => terminal::say("nothing changed"),
        changed => terminal::say(format!("reloaded {}", changed.join(", "))),
    }
    Ok(())
}

async fn status(socket: &Path, json: bool) -> anyhow::Result<()> {
    let client = Client::connect(socket).await?;
    let status: Status = client.get("/v1/status").await?;
    if json {
        terminal::say(serde_json::to_string_pretty(&status)?);
    } else {
        terminal::say(terminal::status(&status));
    }
    let failed: Vec<_> = status.modules.iter().filter(|m| m.health == "failed").map(|m| m.name.as_str()).collect();
    anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

async fn drill(socket: &Path, module: &str) -> anyhow::Result<()> {
    let client = Client::connect(socket).await?;
    match client.post(&format!("/v1/drill/{module}")).await {
        // The module that answers may fall before it has.
        Err(ClientError::Broken { .. }) if module == Admin::NAME => {}
        answer => answer?,
    }
    terminal::say(format!("{module} panics now; `kube status` shows it fall and come back"));
    Ok(())
}

/// The socket of the KUBE that this command line means, even while its config has problems.
fn socket(file: Option<&Path>, environment: &Environment) -> PathBuf {
    crate::wire::socket(&config::load_for_place(file, environment))
}
