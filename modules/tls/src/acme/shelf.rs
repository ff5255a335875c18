//! The folder of certificates and accounts: what a person may read, copy and restore.
//!
//! ```text
//!   accounts/acme-v02.api.letsencrypt.org_directory.json    the account at a CA, with its key
//!   certificates/_.example.org.pem                          key and chain of example.org and *.example.org
//!   certificates/_.example.org.json                         when it was ordered, what went wrong
//!   certificates/_.example.org.order                        the order that is under way, with the key of its certificate
//! ```
//! Key and chain are in one file, so that they cannot belong to different orders.
use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io, panic,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use instant_acme::{AccountCredentials, ExternalAccountKey};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::task::spawn_blocking;

use super::renewal::Record;
use crate::{
    Error, config,
    pair::Pair,
    store::{self, Stamp},
};

/// The version of the files in JSON.
const VERSION: u32 = 1;

/// A file as it was when it was last read, and the certificate that was last found there.
type Known = (Stamp, Option<Pair>);

/// Where it all is, and the certificates as they were when they were last read.
#[derive(Clone)]
pub(crate) struct Shelf {
    accounts: PathBuf,
    certificates: PathBuf,
    known: Arc<Mutex<BTreeMap<PathBuf, Known>>>,
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
    /// What CAA records call the CA: [RFC 8659, section 4.2](https://www.rfc-editor.org/rfc/rfc8659#section-4.2).
    #[serde(default)]
    caa: Vec<String>,
}

/// Of the credentials, what CAA records say: [RFC 8657, section 3](https://www.rfc-editor.org/rfc/rfc8657#section-3).
#[derive(Deserialize)]
struct Identified {
    id: String,
}

/// An order that is under way. The key is kept before anything is signed: what the CA issues is not lost with this process.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Begun {
    /// The directory of the CA that it is at.
    pub(crate) directory: String,
    pub(crate) names: Vec<String>,
    /// Its own address; none before the CA has said it.
    pub(crate) url: Option<String>,
    /// The key of its certificate, in PEM.
    pub(crate) key: String,
    /// When it was begun, in seconds since 1970.
    pub(crate) at: i64,
}

/// What lies there.
pub(crate) struct Look {
    pub(crate) pairs: Vec<Pair>,
    /// By the names of files.
    records: BTreeMap<String, Record>,
    directories: Vec<String>,
    /// What CAA records are to say, so that the accounts here may have certificates made and no others; nothing while it is not
    /// known how they call one of the CAs.
    pub(crate) issuers: Vec<String>,
}

impl Look {
    /// What is known of the certificate for these names, at the CAs that are in use.
    pub(crate) fn record(&self, names: &[String]) -> Record {
        self.records.get(&file_name(names)).cloned().unwrap_or_default().at(&self.directories)
    }

    /// The certificate with all these names that lasts longest, if one counts that is not from another CA.
    pub(crate) fn held(&self, names: &[String], now: OffsetDateTime) -> Option<&Pair> {
        let is_home = self.record(names).is_home();
        let holds = |pair: &&Pair| names.iter().all(|name| pair.has(name)) && !pair.validity().is_over(now);
        self.pairs.iter().filter(|_| is_home).filter(holds).max_by_key(|pair| pair.validity().until)
    }

    /// Whether there is a certificate for this host that counts.
    pub(crate) fn covers(&self, host: &str, now: OffsetDateTime) -> bool {
        self.pairs.iter().any(|pair| pair.covers(host) && !pair.validity().is_over(now))
    }

    /// Until when the certificate lasts that covers all these names, and lasts longest.
    pub(crate) fn lasts(&self, names: &[String]) -> Option<OffsetDateTime> {
        let pairs = self.pairs.iter().filter(|pair| names.iter().all(|name| pair.covers(name)));
        pairs.map(|pair| pair.validity().until).max()
    }

    /// How many orders were begun in the last hour, and how many certificates were issued in the last week.
    pub(crate) fn counts(&self, now: OffsetDateTime) -> (usize, usize) {
        let records = self.records.values().cloned().map(|record| record.at(&self.directories));
        let counts = records.map(|record| (record.orders_in_hour(now), record.issued_in_week(now)));
        counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
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
        Self { accounts: data.join("accounts"), certificates: data.join("certificates"), known: Arc::default() }
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
            store::hand_down(&file, &path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => Ok(Some(file)),
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(source)) => Err(failed(source)),
            }
        })
        .await
    }

    /// The file of the account at the CA of this directory.
    fn account_path(&self, directory: &str) -> PathBuf {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
        let name: String = directory.trim_start_matches("https://").chars().map(plain).collect();
        self.accounts.join(format!("{name}.json"))
    }

    /// The file of the certificate for these names.
    fn pem_path(&self, names: &[String]) -> PathBuf {
        self.certificates.join(format!("{}.pem", file_name(names)))
    }

    /// The file of the order that is under way for these names.
    fn order_path(&self, names: &[String]) -> PathBuf {
        self.pem_path(names).with_extension("order")
    }

    /// The [`AccountCredentials`] at a CA, which is known by its directory, to be read as often as they are needed.
    ///
    /// # Errors
    /// There is a file, and it is none of an account.
    pub(crate) async fn account(&self, directory: &str) -> Result<Option<serde_json::Value>, Error> {
        let path = self.account_path(directory);
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
    pub(crate) async fn keep_account(
        &self,
        directory: &str,
        credentials: &AccountCredentials,
        caa: Vec<String>,
    ) -> Result<(), Error> {
        let path = self.account_path(directory);
        let text = json(&path, &Account { credentials, caa })?;
        beside(move || store::write_private(&path, &text)).await
    }

    /// What says that the key of an account is being changed.
    fn changing_path(&self, directory: &str) -> PathBuf {
        self.account_path(directory).with_extension("changing")
    }

    /// Notes that the key of an account is to be changed, so that it is known after a crash.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) async fn begin_key_change(&self, directory: &str) -> Result<(), Error> {
        let path = self.changing_path(directory);
        beside(move || store::write_private(&path, &[])).await
    }

    /// Whether a change of the key of an account has begun, and not ended.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) async fn is_key_changing(&self, directory: &str) -> Result<bool, Error> {
        let path = self.changing_path(directory);
        beside(move || path.try_exists().map_err(|source| Error::Read { path, source })).await
    }

    /// Notes that it is known which key counts.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(crate) async fn end_key_change(&self, directory: &str) -> Result<(), Error> {
        let path = self.changing_path(directory);
        beside(move || fs::remove_file(&path).map_err(|source| Error::Write { path, source })).await
    }

    /// Keeps a new key of an account in place of the old one.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) async fn change_key(&self, directory: &str, credentials: &AccountCredentials) -> Result<(), Error> {
        let path = self.account_path(directory);
        let known: Option<Account<Identified>> = beside(move || read_json(&path)).await?;
        let caa = known.map(|account| account.caa).unwrap_or_default();
        self.keep_account(directory, credentials, caa).await?;
        self.end_key_change(directory).await
    }

    /// Puts the account at a CA aside: its key may be wanted later.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(crate) async fn forget_account(&self, directory: &str) -> Result<(), Error> {
        let path = self.account_path(directory);
        beside(move || {
            let aside = path.with_extension("json.old");
            fs::rename(&path, aside).map_err(|source| Error::Write { path, source })
        })
        .await
    }

    /// All certificates, and what is known of each at the CAs of these directories.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) async fn look(&self, directories: Vec<String>) -> Result<Look, Error> {
        let shelf = self.clone();
        beside(move || {
            let (pairs, records, issuers) = (shelf.pairs()?, shelf.records()?, shelf.issuers(&directories));
            shelf.sweep(&records)?;
            Ok(Look { pairs, records, directories, issuers })
        })
        .await
    }

    /// What CAA records are to say of the accounts at these CAs.
    fn issuers(&self, directories: &[String]) -> Vec<String> {
        let mut issuers = Vec::new();
        for directory in directories {
            // What is wrong with a file is told by who wants the account.
            let Ok(Some(Account { credentials: Identified { id }, caa })) = read_json(&self.account_path(directory))
            else {
                continue;
            };
            if caa.is_empty() {
                return Vec::new();
            }
            issuers.extend(caa.iter().map(|name| format!("{name}; accounturi={id}")));
        }
        issuers
    }

    /// Takes orders away that came to their end just before a crash.
    fn sweep(&self, records: &BTreeMap<String, Record>) -> Result<(), Error> {
        for path in self.paths("order")? {
            if records.get(&name(&path)).is_some_and(Record::is_done) {
                fs::remove_file(&path).map_err(|source| Error::Write { path, source })?;
            }
        }
        Ok(())
    }

    /// What is known of each certificate; nothing, if its file cannot be read.
    fn records(&self) -> Result<BTreeMap<String, Record>, Error> {
        let lost = |error| {
            tracing::warn!("what was noted of an order is lost: {error}");
            None
        };
        let paths = self.paths("json")?.into_iter();
        Ok(paths.map(|path| (name(&path), read_json(&path).unwrap_or_else(lost).unwrap_or_default())).collect())
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

    /// The order that is under way for these names; none if what was written there cannot be read.
    pub(crate) async fn begun(&self, names: &[String]) -> Option<Begun> {
        let path = self.order_path(names);
        let read = beside(move || read_json(&path)).await;
        read.unwrap_or_else(|error| {
            tracing::warn!("an order is begun anew: {error}");
            None
        })
    }

    /// Keeps an order that is under way.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) async fn keep_begun(&self, begun: &Begun) -> Result<(), Error> {
        let path = self.order_path(&begun.names);
        let text = json(&path, begun)?;
        beside(move || store::write_private(&path, &text)).await
    }

    /// Forgets the order for these names, if there is one.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(crate) async fn forget_begun(&self, names: &[String]) -> Result<(), Error> {
        let path = self.order_path(names);
        beside(move || match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Write { path, source }),
            Ok(()) | Err(_) => Ok(()),
        })
        .await
    }

    /// Keeps a certificate, with its key.
    ///
    /// # Errors
    /// It is not one for these names, or it is over, or it cannot be written.
    pub(crate) async fn keep(&self, names: &[String], pem: String, now: OffsetDateTime) -> Result<(), Error> {
        let (path, names) = (self.pem_path(names), names.to_vec());
        beside(move || {
            usable(&pem, &names, now)?;
            store::write_private(&path, pem.as_bytes())
        })
        .await
    }

    /// The files whose names end so.
    fn paths(&self, extension: &str) -> Result<Vec<PathBuf>, Error> {
        let failed = |source| Error::Read { path: self.certificates.clone(), source };
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.certificates).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|its| its == extension) {
                paths.push(path);
            }
        }
        Ok(paths)
    }

    /// All certificates. Where one cannot be used the log says why, once, and what was there before counts.
    fn pairs(&self) -> Result<Vec<Pair>, Error> {
        let paths = self.paths("pem")?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|path, _| paths.contains(path));
        for path in paths {
            let stamp = Stamp::of(&path);
            let (seen, pair) = known.entry(path.clone()).or_insert((Stamp::default(), None));
            if *seen == stamp {
                continue;
            }
            *seen = stamp;
            match store::read(&path).and_then(|text| Pair::parse(&text, &path)) {
                Ok(new) => *pair = Some(new),
                Err(error) => tracing::error!("a certificate is passed over: {error}"),
            }
            if store::is_public(&path) {
                tracing::warn!(path = %path.display(), "every user of this machine can read this key: chmod o-r");
            }
        }
        Ok(known.values().filter_map(|(_, pair)| pair.clone()).collect())
    }
}

/// What a CA knows a customer by, with the key from its file.
///
/// # Errors
/// The file cannot be read, or holds no key.
pub(crate) async fn external_account(customer: config::ExternalAccount) -> Result<ExternalAccountKey, Error> {
    beside(move || {
        let path = customer.secret_file;
        let text = store::read(&path)?;
        // CAs tell it in the alphabet for URLs; some people have it in the other one.
        let text: Vec<u8> = text.trim_ascii().iter().filter(|octet| **octet != b'=').copied().collect();
        let decoded = BASE64URL_NOPAD.decode(&text).or_else(|_| BASE64_NOPAD.decode(&text));
        match decoded {
            Ok(key) if !key.is_empty() => Ok(ExternalAccountKey::new(customer.key_id, &key)),
            Ok(_) | Err(_) => Err(Error::Odd { path, reason: "does not hold a key in base 64, as the CA tells it" }),
        }
    })
    .await
}

/// Whether what a CA issued for these names can serve: what serves now is not given up for anything less.
fn usable(pem: &str, names: &[String], now: OffsetDateTime) -> Result<(), Error> {
    let bad = |reason| Error::Issued { reason };
    // It is in no file yet.
    let pair = Pair::parse(pem.as_bytes(), Path::new("it")).map_err(|error| bad(error.to_string()))?;
    if let Some(missing) = names.iter().find(|name| !pair.has(name)) {
        return Err(bad(format!("it does not name {missing}, for which it was ordered")));
    }
    if pair.validity().is_over(now) {
        return Err(bad(format!("it expired on {}", pair.validity().until.date())));
    }
    Ok(())
}

/// What the files of a certificate are called, of which this is one.
fn name(path: &Path) -> String {
    path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use time::Duration;

    use super::*;

    #[test]
    fn what_is_issued_for_others_or_is_over_takes_the_place_of_nothing() {
        let (key, now) = (KeyPair::generate().unwrap(), OffsetDateTime::now_utc());
        let issued = |name: &str, days: i64, key: &KeyPair| {
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            params.not_before = now - Duration::days(90);
            params.not_after = now + Duration::days(days);
            params.self_signed(key).unwrap().pem()
        };
        let names = ["kube.test".to_owned()];
        let said =
            |chain: String| usable(&(key.serialize_pem() + &chain), &names, now).map_err(|error| error.to_string());
        let told = |chain| said(chain).unwrap_err();
        assert_eq!(said(issued("kube.test", 1, &key)), Ok(()));
        let over = told(issued("kube.test", -1, &key));
        assert!(over.starts_with("what the CA issued cannot be used: it expired on"), "{over}");
        let other = told(issued("other.test", 1, &key));
        assert!(other.contains("it does not name kube.test, for which it was ordered"), "{other}");
        let stranger = told(issued("kube.test", 1, &KeyPair::generate().unwrap()));
        assert!(stranger.contains("the key in it is not the key of the first certificate"), "{stranger}");
        assert!(told("junk".to_owned()).contains("it holds no certificate"));
    }
}
