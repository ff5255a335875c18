//! What others are told of certificates.
use time::OffsetDateTime;

/// A certificate that serves, or is to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its names; the first label may be `*`.
    pub names: Vec<String>,
    /// Who vouches for it: the host of a public CA, the local CA, or a file.
    pub issuer: String,
    /// How its names are proved to a public CA: `dns-01`, `tls-alpn-01` or `http-01`.
    pub proof: Option<String>,
    /// From when on it counts; none while there is none.
    pub from: Option<OffsetDateTime>,
    /// Until when it counts.
    pub until: Option<OffsetDateTime>,
    /// When the next one is ordered at a public CA, as far as is known.
    pub renewal: Option<OffsetDateTime>,
    /// Why the last order failed, if it did.
    pub error: Option<String>,
}
