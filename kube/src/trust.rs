//! `kube trust`: how browsers and programs come to trust the local authority, said or done.
mod plan;

use std::{
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command as Process, Stdio},
};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use rustix::process::geteuid;
use tempfile::NamedTempFile;

use self::plan::{CERTUTIL, Database, Machine, Order, SHARED, SYSTEM, Step, Tool, UPDATE};
use crate::{
    config::{Environment, Loaded},
    terminal,
};

/// Where programs are that make Chromium's database when they first run.
const PROGRAMS: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/snap/bin", "/opt/google/chrome"];
const BROWSERS: [&str; 5] = ["chromium", "chromium-browser", "google-chrome", "brave-browser", "microsoft-edge"];
/// Where Firefox has a folder for each profile, below the folder of the user; the first two are its own, then as snap and flatpak
/// have it.
const PROFILES: [&str; 4] = [
    ".mozilla/firefox",
    ".config/mozilla/firefox",
    "snap/firefox/common/.mozilla/firefox",
    ".var/app/org.mozilla.firefox/.mozilla/firefox",
];
/// Chromium as a snap has a database of its own.
const SNAP: &str = "snap/chromium/current/.pki/nssdb";
/// More profiles than anyone has.
const MOST_PROFILES: usize = 100;
/// Older authorities of a domain that one database may have.
const MOST_OLDER: usize = 16;

#[derive(Debug, Args)]
pub(crate) struct Trust {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put the authority's certificate where programs of this machine and browsers of this user look
    Install,
    /// Take it away from there
    Uninstall,
}

/// What became of one store.
enum Done {
    /// It is as it should be.
    Well(String),
    /// It was left as it is, for this reason.
    Left(String),
    /// It could not be changed.
    Failed(anyhow::Error),
}

pub(crate) fn execute(trust: &Trust, loaded: &Loaded, environment: &Environment) -> anyhow::Result<()> {
    let (authority, domain) = (tls::local_ca(&loaded.config.tls), &loaded.config.domain);
    let order = match trust.command {
        None => {
            ensure!(authority.exists(), missing(&authority));
            terminal::say(terminal::trust(&authority, domain));
            return Ok(());
        }
        Some(Command::Install) => Order::Install,
        Some(Command::Uninstall) => Order::Uninstall,
    };
    let again = again(order, loaded, environment);
    let certificate = match order {
        Order::Install => read(&authority, &again)?,
        Order::Uninstall => Vec::new(),
    };
    let nickname = format!("kube-{domain}");
    let machine = look(environment.home.as_deref(), &nickname);
    let (mut well, mut failed) = (0_usize, 0_usize);
    for step in plan::plan(order, &machine, &again) {
        let name = step.name();
        let done = match step {
            Step::System => change_system(order, &nickname, &certificate),
            Step::Database(database) => change_database(order, &database, &nickname, &authority),
            Step::Leave { why, .. } => Ok(Done::Left(why)),
        };
        let done = done.unwrap_or_else(Done::Failed);
        match &done {
            Done::Well(_) => well += 1,
            Done::Left(_) => {}
            Done::Failed(_) => failed += 1,
        }
        terminal::say(match done {
            Done::Well(what) => terminal::marked(terminal::GOOD, "done", &name, &what),
            Done::Left(why) => terminal::marked(terminal::ODD, "left", &name, &why),
            Done::Failed(error) => terminal::marked(terminal::BAD, "failed", &name, &format!("{error:#}")),
        });
    }
    match (well, failed) {
        (1.., 0) => Ok(()),
        (0, 0) => anyhow::bail!("nothing was changed: what stands in the way is said above"),
        (_, 1..) => anyhow::bail!("not every store could be changed: see above"),
    }
}

/// The authority's certificate, in PEM.
fn read(authority: &Path, again: &str) -> anyhow::Result<Vec<u8>> {
    fs::read(authority).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            return anyhow::Error::msg(missing(authority));
        }
        anyhow::anyhow!("cannot read {}: {error} (as root: {again})", authority.display())
    })
}

fn missing(authority: &Path) -> String {
    let path = authority.display();
    format!(
        "there is no local certificate authority at {path} yet: it is made when KUBE first runs with tls.issuer = \"local\""
    )
}

/// The same command, as root and with the same config.
fn again(order: Order, loaded: &Loaded, environment: &Environment) -> String {
    // Root finds what is installed; else this very file is meant.
    let is_found = |path: &PathBuf| ["/usr/bin", "/usr/local/bin"].iter().any(|folder| path.starts_with(folder));
    let program = std::env::current_exe().ok().filter(|path| !is_found(path));
    let program = program.map_or_else(|| "kube".to_owned(), |path| path.display().to_string());
    plan::again(order, &program, loaded.file.as_deref(), environment.data_home.is_some())
}

/// What there is on this machine.
fn look(home: Option<&Path>, nickname: &str) -> Machine {
    let user = geteuid();
    let is_own = home.and_then(|home| fs::metadata(home).ok()).is_some_and(|meta| meta.uid() == user.as_raw());
    let databases = home.filter(|_| is_own).map(databases).unwrap_or_default();
    Machine {
        is_root: user.is_root(),
        has_debians: Path::new(UPDATE).exists(),
        is_in_debians: system_file(nickname).exists(),
        is_own_home: is_own,
        databases,
    }
}

/// The databases of NSS of the user with this folder. Chromium's own is among them where Chromium is, even if it has to be made.
fn databases(home: &Path) -> Vec<Database> {
    let has = |folder: &Path| folder.join("cert9.db").exists();
    let shared = home.join(SHARED);
    let is_new = !has(&shared);
    let has_browser =
        || PROGRAMS.iter().any(|folder| BROWSERS.iter().any(|name| Path::new(folder).join(name).exists()));
    let mut found = Vec::new();
    if !is_new || has_browser() {
        found.push(Database { folder: shared, is_new });
    }
    let entries = PROFILES.iter().filter_map(|folder| fs::read_dir(home.join(folder)).ok()).flatten();
    let profiles = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|folder| has(folder));
    let snap = Some(home.join(SNAP)).filter(|folder| has(folder));
    found.extend(snap.into_iter().chain(profiles.take(MOST_PROFILES)).map(|folder| Database { folder, is_new: false }));
    found
}

fn system_file(nickname: &str) -> PathBuf {
    Path::new(SYSTEM).join(format!("{nickname}.crt"))
}

/// Puts the certificate into Debian's store, or takes it out.
fn change_system(order: Order, nickname: &str, certificate: &[u8]) -> anyhow::Result<Done> {
    let path = system_file(nickname);
    match order {
        Order::Install => {
            write(&path, certificate).with_context(|| format!("cannot write {}", path.display()))?;
            run(&plan::update(order))?;
            Ok(Done::Well("curl, git and most programs trust it".to_owned()))
        }
        Order::Uninstall if !path.exists() => Ok(Done::Well("it is not there".to_owned())),
        Order::Uninstall => {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            run(&plan::update(order))?;
            Ok(Done::Well("it is not there any more".to_owned()))
        }
    }
}

/// Writes a file that everyone may read, whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let mut written = NamedTempFile::new_in(folder)?;
    written.write_all(bytes)?;
    fs::set_permissions(written.path(), Permissions::from_mode(0o644))?;
    written.as_file().sync_all()?;
    written.persist(path)?;
    fs::File::open(folder)?.sync_all()
}

/// Puts the certificate into a database of NSS in place of older ones of this name, or takes them out.
fn change_database(order: Order, database: &Database, nickname: &str, authority: &Path) -> anyhow::Result<Done> {
    let folder = &database.folder;
    if database.is_new {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        run(&plan::create(folder))?;
    }
    let count = |text: &str| plan::count(text, nickname);
    let mut left = count(&run(&plan::list(folder))?);
    let was_there = left > 0;
    for _ in 0..left.min(MOST_OLDER) {
        run(&plan::delete(folder, nickname))?;
        left -= 1;
    }
    ensure!(left == 0, "it has more than {MOST_OLDER} certificates named {nickname}: run this again");
    Ok(Done::Well(match order {
        Order::Install => {
            run(&plan::add(folder, nickname, authority))?;
            let listed = count(&run(&plan::list(folder))?);
            ensure!(
                listed == 1,
                "certutil did not keep it as {nickname}: `certutil -L -d sql:{}` lists what there is",
                folder.display()
            );
            "browsers trust it once they are started anew".to_owned()
        }
        Order::Uninstall if was_there => "it is not there any more".to_owned(),
        Order::Uninstall => "it is not there".to_owned(),
    }))
}

/// Runs a program to its end; gives what it printed.
fn run(tool: &Tool) -> anyhow::Result<String> {
    let mut process = Process::new(tool.program);
    let output = match process.args(&tool.arguments).stdin(Stdio::null()).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let package = if tool.program == CERTUTIL { "libnss3-tools" } else { "ca-certificates" };
            anyhow::bail!("{} is not on this machine: `sudo apt install {package}`, then again", tool.program)
        }
        output => output.with_context(|| format!("cannot run {}", tool.program))?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed ({}): {}", tool.program, output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
