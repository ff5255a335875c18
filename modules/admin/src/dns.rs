//! Zones over the socket: how they look, who serves them, and the routes.
use std::{collections::HashMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::{documents::Refusal, routes::error};

/// Whoever serves the zones implements it.
pub trait Zones: Send + Sync + 'static {
    /// Every zone.
    fn list(&self) -> Vec<ZoneStatus>;

    /// A zone as a zone file, one record a line, with what signing adds to it or without; `None` when there is no such zone.
    fn text(&self, zone: &str, with_signatures: bool) -> Option<String>;

    /// Begins to replace the key of a zone; how the zone is then.
    fn roll(&self, zone: String) -> BoxFuture<'_, Result<ZoneStatus, Refusal>>;

    /// Looks at a zone as the rest of the world sees it.
    fn check(&self, zone: String, order: CheckOrder) -> BoxFuture<'_, Result<Vec<CheckStatus>, Refusal>>;

    /// What dynamic updates left of the names of a zone.
    fn updated(&self, zone: &str) -> Vec<UpdatedStatus>;

    /// Forgets what updates left; returns the types that were forgotten. It may block.
    ///
    /// # Errors
    /// Why not, for people.
    fn forget(&self, zone: &str, order: &ForgetOrder) -> Result<Vec<String>, String>;
}

/// How a zone is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckOrder {
    /// The resolver that is asked for what others have; none: that of the machine, or of the config.
    #[serde(default)]
    pub resolver: Option<String>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckStatus {
    /// What it is about, in the words that registrars use.
    pub about: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen; if it is wrong, also what to change, and where.
    pub says: String,
}

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is.
    Ok,
    /// It is not.
    Wrong,
    /// That cannot be told from there, or now.
    Unknown,
}

/// A zone that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneStatus {
    /// Its name, with a dot at its end.
    pub name: String,
    /// The serial number.
    pub serial: u32,
    /// How many records it has, without those that signing adds.
    pub records: u64,
    /// How it is signed; none if it is not, or elsewhere.
    pub signing: Option<SigningStatus>,
    /// When the first of the signatures in its zone file expires, in seconds since 1970 (UTC), if there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_until: Option<u32>,
    /// Where it comes from, if that is another name server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary: Option<SecondaryStatus>,
    /// Whether it is there for an app's own domain, which other name servers may have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub app: bool,
}

/// How a zone of another name server fares. Times are in seconds since 1970 (UTC).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondaryStatus {
    /// The addresses of its primaries.
    pub primaries: Vec<String>,
    /// The one that last had what is served.
    pub from: Option<String>,
    /// When that was.
    pub checked: Option<u32>,
    /// Until when it is served if no primary has it any more.
    pub expires: Option<u64>,
    /// Whether it is served: not before it came, and not after it has expired.
    pub served: bool,
    /// Whether it came with signatures.
    pub signed: bool,
    /// What keeps it from being up to date.
    pub trouble: Option<String>,
}

/// How a zone is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningStatus {
    /// What the parent is to say of the zone; none while it is to say nothing.
    pub ds: Option<DsStatus>,
    /// What comes next, in words.
    pub next: String,
    /// When that is, in seconds since 1970 (UTC), if it is a matter of time.
    pub at: Option<u32>,
    /// What the zone above says; none if it was not asked yet.
    #[serde(default)]
    pub parent: Option<ParentStatus>,
}

/// What the zone above a signed zone says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentStatus {
    /// When it was asked, in seconds since 1970 (UTC).
    pub asked: u32,
    /// What it says, or why that is not known, in words.
    pub said: String,
}

/// What a registrar asks for: the DS record, in parts and whole, or the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DsStatus {
    /// The number by which the key is found.
    pub key_tag: u16,
    /// 13: ECDSAP256SHA256.
    pub algorithm: u8,
    /// 2: SHA-256.
    pub digest_type: u8,
    /// Hexadecimal.
    pub digest: String,
    /// 257: KSK.
    pub flags: u16,
    /// Always 3.
    pub protocol: u8,
    /// Base 64.
    pub public_key: String,
    /// The DS record as a line of a zone file.
    pub record: String,
}

/// A record as people write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordStatus {
    /// Whose it is, with a dot at its end.
    pub name: String,
    /// How long others may keep it, in seconds.
    pub ttl: u32,
    /// Its type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// What it says, as in a zone file.
    pub value: String,
    /// Who put it there, if that was a dynamic update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<UpdateStatus>,
}

/// The last dynamic update of something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStatus {
    /// The name of its key.
    pub key: String,
    /// When it was, in seconds since 1970 (UTC).
    pub at: u32,
}

/// What dynamic updates left of a name and type, in place of what config and zone files say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdatedStatus {
    /// The name, with a dot at its end.
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// How many records there are; 0 if those of config or zone file were taken away.
    pub records: u64,
    /// The last update.
    #[serde(flatten)]
    pub last: UpdateStatus,
}

/// What is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetOrder {
    /// The name.
    pub name: String,
    /// The type; none: all of them.
    #[serde(rename = "type")]
    pub rtype: Option<String>,
}

impl RecordStatus {
    /// Reads a line of [`Zones::text`]; none if it is none.
    fn read(line: &str) -> Option<Self> {
        let mut words = line.splitn(5, ' ');
        let (name, ttl) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        let (rtype, value) = (words.nth(1)?.to_owned(), words.next()?.to_owned());
        Some(Self { name, ttl, rtype, value, updated: None })
    }
}

type Served = Arc<dyn Zones>;

pub(crate) fn routes(zones: Served) -> Router {
    Router::new()
        .route("/v1/zones", get(async |State(zones): State<Served>| Json(zones.list())))
        .route("/v1/zones/{zone}", get(records))
        .route("/v1/zones/{zone}/file", get(file))
        .route("/v1/zones/{zone}/roll", post(roll))
        .route("/v1/zones/{zone}/check", post(check))
        .route("/v1/zones/{zone}/updates", get(updates))
        .route("/v1/zones/{zone}/forget", post(forget))
        .with_state(zones)
}

async fn records(State(zones): State<Served>, Path(zone): Path<String>) -> Response {
    let Some(text) = zones.text(&zone, false) else { return unknown(&zone) };
    let updated = zones.updated(&zone);
    let updated: HashMap<_, _> =
        updated.iter().map(|updated| ((&*updated.name, &*updated.rtype), &updated.last)).collect();
    let marked = |record: RecordStatus| {
        let last = updated.get(&(&*record.name, &*record.rtype)).map(|last| (*last).clone());
        RecordStatus { updated: last, ..record }
    };
    Json(text.lines().filter_map(RecordStatus::read).map(marked).collect::<Vec<_>>()).into_response()
}

async fn updates(State(zones): State<Served>, Path(zone): Path<String>) -> Response {
    if zones.text(&zone, false).is_none() { unknown(&zone) } else { Json(zones.updated(&zone)).into_response() }
}

async fn forget(
    State(zones): State<Served>,
    Path(zone): Path<String>,
    order: Result<Json<ForgetOrder>, JsonRejection>,
) -> Response {
    let order = match order {
        Ok(Json(order)) => order,
        Err(rejection) => return error(StatusCode::UNPROCESSABLE_ENTITY, &rejection.body_text()),
    };
    let name = order.name.clone();
    let forgotten = match spawn_blocking(move || zones.forget(&zone, &order)).await {
        Ok(forgotten) => forgotten,
        Err(fell) => Err(fell.to_string()),
    };
    match forgotten {
        Ok(types) if types.is_empty() => error(
            StatusCode::NOT_FOUND,
            &format!("no update left anything of {name:?}: `kube dns updates` lists what they did"),
        ),
        Ok(types) => Json(types).into_response(),
        Err(reason) => error(StatusCode::UNPROCESSABLE_ENTITY, &reason),
    }
}

async fn file(State(zones): State<Served>, Path(zone): Path<String>) -> Response {
    zones.text(&zone, true).map_or_else(|| unknown(&zone), IntoResponse::into_response)
}

async fn roll(State(zones): State<Served>, Path(zone): Path<String>) -> Result<Json<ZoneStatus>, Refusal> {
    zones.roll(zone).await.map(Json)
}

async fn check(
    State(zones): State<Served>,
    Path(zone): Path<String>,
    Json(order): Json<CheckOrder>,
) -> Result<Json<Vec<CheckStatus>>, Refusal> {
    zones.check(zone, order).await.map(Json)
}

fn unknown(zone: &str) -> Response {
    error(StatusCode::NOT_FOUND, &format!("there is no zone {zone:?}: `kube dns zones` lists them"))
}
