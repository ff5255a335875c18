//! What goes wrong.
use std::{io, path::PathBuf};

/// Why there is no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is missing.
    #[error("issuer = \"files\" needs `{option}` in [tls]: set `certificate` and `key` to PEM files")]
    Unset {
        /// The option.
        option: &'static str,
    },
    /// An option has no effect.
    #[error("`{option}` in [tls] is for issuer = \"files\": set that, or remove `{option}`")]
    Unused {
        /// The option.
        option: &'static str,
    },
    /// A public CA is named more than once.
    #[error("{directory} is there twice: name each authority once in `directory` and [[tls.fallback]]")]
    Twice {
        /// Its directory.
        directory: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file cannot be what it is said to be.
    #[error("{} {reason}", path.display())]
    Odd {
        /// The file.
        path: PathBuf,
        /// What is odd about it.
        reason: &'static str,
    },
    /// A file holds no certificate that can be used.
    #[error("{} {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what should be there.
        reason: String,
    },
    /// A file holds no private key that can be used.
    #[error("{} {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what should be there.
        reason: String,
    },
    /// Key and certificate do not belong together.
    #[error(
        "the key in {} is not the key of the first certificate in {}: the server's own certificate comes first",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
    },
    /// The local CA's files are not usable.
    #[error(
        "the local CA in {} {reason}: restore it from a backup, or move {} and {} away, and a new CA is made, which has \
         to be trusted anew",
        certificate.display(),
        certificate.display(),
        key.display()
    )]
    Authority {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The local CA's folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file of an order or an account is none.
    #[error("{} is not what was written there: {reason}", path.display())]
    Note {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What a CA issued cannot serve.
    #[error("what the CA issued cannot be used: {reason}")]
    Issued {
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate for {name}: {reason}")]
    Make {
        /// For whom.
        name: String,
        /// The library's reason.
        reason: String,
    },
}
