//! The folder of certificates and accounts: what a person may read, copy and restore.
//!
//! ```text
//!   accounts/acme-v02.api.letsencrypt.org.json    the account at a CA, with its key
//!   certificates/_.example.org.pem                key and chain of example.org and *.example.org
//!   certificates/_.example.org.json               when it was ordered, what went wrong
//! ```
//! Key and chain are in one file, so that they cannot belong to different orders.
use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io, panic,
    path::{Path, PathBuf},
};

use instant_acme::AccountCredentials;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::task::spawn_blocking;

use super::renewal::Record;
use crate::{Error, pair::Pair, store};

/// The version of the files in JSON.
const VERSION: u32 = 1;

/// Where it all is.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    accounts: PathBuf,
    certificates: PathBuf,
}

/// A file in JSON.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    content: T,
}

#[derive(Serialize, Deserialize)]
struct Account<C> {
    credentials: C,
}

/// What lies there.
pub(crate) struct Look {
    pub(crate) pairs: Vec<Pair>,
    records: BTreeMap<Vec<String>, Record>,
}

impl Look {
    /// What is known of the certificate for these names.
    pub(crate) fn record(&self, names: &[String]) -> Record {
        self.records.get(names).cloned().unwrap_or_default()
    }

    /// The certificate with all these names that lasts longest, if one counts.
    pub(crate) fn held(&self, names: &[String], now: OffsetDateTime) -> Option<&Pair> {
        let holds = |pair: &&Pair| names.iter().all(|name| pair.has(name)) && !pair.validity().is_over(now);
        self.pairs.iter().filter(holds).max_by_key(|pair| pair.validity().until)
    }

    /// Whether there is a certificate that counts for each of these hosts.
    pub(crate) fn covers(&self, hosts: &[String], now: OffsetDateTime) -> bool {
        let covers = |host: &String| self.pairs.iter().any(|pair| pair.covers(host) && !pair.validity().is_over(now));
        hosts.iter().all(covers)
    }

    /// How many orders were begun in the last hour.
    pub(crate) fn orders_in_hour(&self, now: OffsetDateTime) -> usize {
        self.records.values().map(|record| record.orders_in_hour(now)).sum()
    }
}

/// The certificates in this folder, which is made if need be.
///
/// # Errors
/// The folder cannot be made or read.
pub(crate) fn open(data: &Path) -> Result<Vec<Pair>, Error> {
    let shelf = Shelf::new(data);
    for folder in [data, &shelf.accounts, &shelf.certificates] {
        store::private_folder(folder)?;
    }
    shelf.pairs()
}

/// Does what waits for the disk beside the tasks.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    spawn_blocking(work).await.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
}

impl Shelf {
    pub(crate) fn new(data: &Path) -> Self {
        Self { accounts: data.join("accounts"), certificates: data.join("certificates") }
    }

    /// Takes the folder for one order, for as long as the result is kept; none while another program has it.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(crate) async fn take(&self) -> Result<Option<File>, Error> {
        let path = self.certificates.join("lock");
        beside(move || {
            let failed = |source| Error::Write { path: path.clone(), source };
            let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => Ok(Some(file)),
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(source)) => Err(failed(source)),
            }
        })
        .await
    }

    fn account_path(&self, authority: &str) -> PathBuf {
        self.accounts.join(format!("{}.json", authority.replace(':', "_")))
    }

    /// The file of the certificate for these names.
    fn pem_path(&self, names: &[String]) -> PathBuf {
        self.certificates.join(format!("{}.pem", file_name(names)))
    }

    /// The [`AccountCredentials`] at a CA, which is known by its host and port, to be read as often as they are needed.
    ///
    /// # Errors
    /// There is a file, and it is none of an account.
    pub(crate) async fn account(&self, authority: &str) -> Result<Option<serde_json::Value>, Error> {
        let path = self.account_path(authority);
        beside(move || {
            // Looked at here, where the file can be named.
            let account: Option<Account<AccountCredentials>> = read_json(&path)?;
            let account: Option<Account<_>> = if account.is_some() { read_json(&path)? } else { None };
            Ok(account.map(|account| account.credentials))
        })
        .await
    }

    /// Keeps the account at a CA.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) async fn keep_account(&self, authority: &str, credentials: &AccountCredentials) -> Result<(), Error> {
        let path = self.account_path(authority);
        let text = json(&path, &Account { credentials })?;
        beside(move || store::write_private(&path, &text)).await
    }

    /// Puts the account at a CA aside: its key may be wanted later.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(crate) async fn forget_account(&self, authority: &str) -> Result<(), Error> {
        let path = self.account_path(authority);
        beside(move || {
            let aside = path.with_extension("json.old");
            fs::rename(&path, aside).map_err(|source| Error::Write { path, source })
        })
        .await
    }

    /// All certificates, and what is known of those for these names.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) async fn look(&self, names: Vec<Vec<String>>) -> Result<Look, Error> {
        let shelf = self.clone();
        beside(move || {
            let records = names.into_iter().map(|names| (names.clone(), shelf.record(&names))).collect();
            Ok(Look { pairs: shelf.pairs()?, records })
        })
        .await
    }

    /// What is known of the certificate for these names; nothing, if there is no such file or it cannot be read.
    fn record(&self, names: &[String]) -> Record {
        let lost = |error| {
            tracing::warn!("what was noted of an order is lost: {error}");
            None
        };
        read_json(&self.pem_path(names).with_extension("json")).unwrap_or_else(lost).unwrap_or_default()
    }

    /// Keeps what is known of the certificate for these names.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) async fn keep_record(&self, names: &[String], record: &Record) -> Result<(), Error> {
        let path = self.pem_path(names).with_extension("json");
        let text = json(&path, record)?;
        beside(move || store::write_private(&path, &text)).await
    }

    /// Keeps a certificate, with its key.
    ///
    /// # Errors
    /// It is not one for these names, or cannot be written.
    pub(crate) async fn keep(&self, names: &[String], pem: String) -> Result<(), Error> {
        let (path, names) = (self.pem_path(names), names.to_vec());
        beside(move || {
            let pair = Pair::parse(pem.as_bytes(), &path)?;
            if let Some(missing) = names.iter().find(|name| !pair.has(name)) {
                let reason = format!("does not name {missing}, for which it was ordered");
                return Err(Error::Certificate { path, reason });
            }
            store::write_private(&path, pem.as_bytes())
        })
        .await
    }

    /// All certificates that can be used; of others the log says why not.
    fn pairs(&self) -> Result<Vec<Pair>, Error> {
        let failed = |source| Error::Read { path: self.certificates.clone(), source };
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.certificates).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "pem") {
                paths.push(path);
            }
        }
        paths.sort();
        let load = |path: PathBuf| match Pair::load(&path, &path) {
            Ok(pair) => Some(pair),
            Err(error) => {
                tracing::error!("a certificate is passed over: {error}");
                None
            }
        };
        Ok(paths.into_iter().filter_map(load).collect())
    }
}

/// What the files of the certificate for these names are called: a wildcard is a character that shells like too much.
fn file_name(names: &[String]) -> String {
    let name = names.iter().min().map(String::as_str).unwrap_or_default();
    name.replace(['*', ':'], "_")
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, Error> {
    let text = match store::read(path) {
        Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let odd = |reason| Error::Note { path: path.to_owned(), reason };
    let file: Versioned<T> = serde_json::from_slice(&text).map_err(|error| odd(error.to_string()))?;
    if file.version > VERSION {
        return Err(odd(format!("version {} is newer than this KUBE", file.version)));
    }
    Ok(Some(file.content))
}

fn json(path: &Path, content: &impl Serialize) -> Result<Vec<u8>, Error> {
    let text = serde_json::to_vec_pretty(&Versioned { version: VERSION, content });
    text.map_err(|error| Error::Note { path: path.to_owned(), reason: error.to_string() })
}
