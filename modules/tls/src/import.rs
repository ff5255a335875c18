//! Certificates from the folder of another program, certbot or Caddy: moving to KUBE costs no order, and leaves no gap.
//!
//! ```text
//!   certbot   live/NAME/fullchain.pem, privkey.pem             links to what is in use
//!   Caddy     certificates/CA/NAME/NAME.crt, NAME.key          `wildcard_.example.org` is `*.example.org`
//! ```
//! Each becomes what this KUBE would have ordered in its place, so that the next order replaces it. Accounts stay where they are.
use std::{
    fs, panic,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use time::OffsetDateTime;
use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    Config, Error,
    acme::{
        everything_below,
        shelf::{self, Look, Shelf},
    },
    pair::Pair,
    store,
};

/// Folders that are looked at; more than anyone has certificates.
const MOST: usize = 1000;
/// How long an order that goes on is waited for, and how often it is looked at.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);

/// A certificate that was found, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The folder that it was in.
    pub place: PathBuf,
    /// Its names; none if it cannot be read.
    pub names: Vec<String>,
    /// Until when it counts.
    pub until: Option<OffsetDateTime>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a certificate that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is kept here from now on.
    Taken,
    /// It was kept here already.
    There,
    /// It was left where it is, for this reason.
    Skipped(String),
}

/// Keeps the certificates of `folder` that are for names that are `wanted`, where they last longer than what is kept already. A name
/// may begin with `*.`. A KUBE that runs notices within ten seconds.
///
/// # Errors
/// The folder is none of certbot or Caddy, or something cannot be read or written.
pub async fn import(config: &Config, folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<Import>, Error> {
    let from = folder.to_owned();
    let sources = spawn_blocking(move || sources(&from)).await;
    let sources = sources.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))?;
    shelf::open(&config.data)?;
    let shelf = Shelf::new(&config.data);
    let _lock = take(&shelf, config).await?;
    let mut imports = Vec::new();
    for Source { place, read } in sources {
        let (names, until, outcome) = match read {
            Err(why) => (Vec::new(), None, Outcome::Skipped(why)),
            Ok((pair, pem)) => {
                let names = pair.names().to_vec();
                let outcome = keep(&shelf, &pair, &pem, &targets(&names, &wanted)).await?;
                (names, Some(pair.validity().until), outcome)
            }
        };
        imports.push(Import { place, names, until, outcome });
    }
    Ok(imports)
}

/// Waits for the folder to be free.
async fn take(shelf: &Shelf, config: &Config) -> Result<fs::File, Error> {
    let begun = Instant::now();
    loop {
        if let Some(lock) = shelf.take().await? {
            return Ok(lock);
        }
        if begun.elapsed() > PATIENCE {
            let reason = "is in use: a certificate is ordered just now, try again in a minute";
            return Err(Error::Odd { path: config.data.clone(), reason });
        }
        sleep(LOOK).await;
    }
}

/// Keeps a certificate in place of each that would be ordered.
async fn keep(shelf: &Shelf, pair: &Pair, pem: &str, targets: &[Vec<String>]) -> Result<Outcome, Error> {
    let mut outcome = Outcome::Skipped("none of its names is served here".to_owned());
    // As it was before: each file gets it, so that the order that replaces one of them takes nothing from the others.
    let (look, now) = (shelf.look(Vec::new()).await?, OffsetDateTime::now_utc());
    for names in targets {
        match against(pair, names, &look, now) {
            Outcome::Taken => {
                shelf.keep(names, pem.to_owned(), now).await?;
                outcome = Outcome::Taken;
            }
            Outcome::There if outcome != Outcome::Taken => outcome = Outcome::There,
            skipped @ Outcome::Skipped(_) if matches!(outcome, Outcome::Skipped(_)) => outcome = skipped,
            Outcome::There | Outcome::Skipped(_) => {}
        }
    }
    Ok(outcome)
}

/// Whether `pair` is better for these names than what is kept.
fn against(pair: &Pair, names: &[String], look: &Look, now: OffsetDateTime) -> Outcome {
    let until = pair.validity().until;
    let has_all = |there: &&Pair| names.iter().all(|name| there.has(name));
    if pair.validity().is_over(now) {
        return Outcome::Skipped(format!("it expired on {}", until.date()));
    }
    if look.pairs.iter().filter(has_all).any(|there| there.certificate() == pair.certificate()) {
        return Outcome::There;
    }
    if let Some(lasts) = look.lasts(names).filter(|lasts| *lasts >= until) {
        return Outcome::Skipped(format!("what is here already lasts until {}", lasts.date()));
    }
    // A wildcard alone and one with its domain are kept in the same place.
    let more = |there: &&Pair| {
        !there.validity().is_over(now) && there.names().iter().any(|name| is_beside(name, names) && !pair.has(name))
    };
    match look.pairs.iter().filter(has_all).find(more) {
        Some(there) => {
            Outcome::Skipped(format!("what is here already is for more names: {}", there.names().join(", ")))
        }
        None => Outcome::Taken,
    }
}

/// Whether `name` is the domain of a wildcard among `names`.
fn is_beside(name: &str, names: &[String]) -> bool {
    names.iter().any(|wildcard| wildcard.strip_prefix("*.") == Some(name))
}

/// The names of each certificate that would be ordered here for those of these names that are wanted: a domain and all below it, or
/// one host.
fn targets(names: &[String], wanted: impl Fn(&str) -> bool) -> Vec<Vec<String>> {
    let (mut targets, mut done) = (Vec::new(), Vec::new());
    let wanted: Vec<&String> = names.iter().filter(|name| wanted(name)).collect();
    for domain in wanted.iter().filter_map(|name| name.strip_prefix("*.")) {
        let all: Vec<String> = everything_below(domain).into_iter().filter(|name| names.contains(name)).collect();
        done.extend(all.clone());
        targets.push(all);
    }
    targets.extend(wanted.into_iter().filter(|name| !done.contains(name)).map(|name| vec![name.clone()]));
    targets
}

/// What was read in one folder: a certificate and its text, or why there is none.
struct Source {
    place: PathBuf,
    read: Result<(Pair, String), String>,
}

/// All that another program keeps in `folder`, in the order of the names of its folders.
fn sources(folder: &Path) -> Result<Vec<Source>, Error> {
    let (live, certificates) = (folder.join("live"), folder.join("certificates"));
    let mut sources = Vec::new();
    if live.is_dir() {
        for place in folders(&live)? {
            let read = read(&place.join("fullchain.pem"), &place.join("privkey.pem"));
            sources.push(Source { place, read });
        }
    }
    if certificates.is_dir() {
        for authority in folders(&certificates)? {
            let is_local = authority.file_name().is_some_and(|name| name == "local");
            for place in folders(&authority)? {
                let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let file = |extension: &str| place.join(format!("{name}.{extension}"));
                let read = match is_local {
                    true => Err("Caddy's own local authority made it".to_owned()),
                    false => read(&file("crt"), &file("key")),
                };
                sources.push(Source { place, read });
            }
        }
    }
    if sources.is_empty() {
        let reason = "has no certificate of certbot (live/NAME/fullchain.pem, as in /etc/letsencrypt) or Caddy \
                      (certificates/CA/NAME/NAME.crt, as in /var/lib/caddy/.local/share/caddy)";
        return Err(Error::Odd { path: folder.to_owned(), reason });
    }
    sources.truncate(MOST);
    Ok(sources)
}

/// The folders in a folder, sorted.
fn folders(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Read { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)?.take(MOST) {
        found.push(entry.map_err(failed)?.path());
    }
    found.retain(|path| path.is_dir());
    found.sort();
    Ok(found)
}

/// Reads a chain and its key, and puts them into one text as they are kept here: the key first.
fn read(chain: &Path, key: &Path) -> Result<(Pair, String), String> {
    let text = |path: &Path| {
        let bytes = store::read(path).map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map_err(|_| format!("{} is not PEM", path.display()))
    };
    // Each by itself, so that what is wrong is said of the right file.
    Pair::load(chain, key).map_err(|error| error.to_string())?;
    let pem = format!("{}\n{}", text(key)?.trim_end(), text(chain)?);
    let pair = Pair::parse(pem.as_bytes(), chain).map_err(|error| error.to_string())?;
    Ok((pair, pem))
}

#[cfg(test)]
mod tests;
