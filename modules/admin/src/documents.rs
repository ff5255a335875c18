//! Documents over the socket: how they look, who keeps them, and the routes.
//!
//! Each request is about one document or one page of a list, so that none takes long or much memory; whoever wants more asks
//! more often.
use std::sync::Arc;

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Path, Query, State, rejection::JsonRejection},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::routes::error;

/// The longest file that is taken in, in bytes.
pub const LONGEST_FILE: usize = 64 << 20;
/// Files that are taken in at once: they are in memory whole.
const FILES: usize = 2;

/// Whoever keeps the documents implements it.
pub trait Documents: Send + Sync + 'static {
    /// Documents of one space, or of all, from the one that follows `after` on.
    fn list(&self, page: PageOrder) -> BoxFuture<'_, Result<Page, Refusal>>;

    /// The documents of this id, one in each space that has it.
    fn find(&self, id: String) -> BoxFuture<'_, Result<Vec<DocumentStatus>, Refusal>>;

    /// What a document holds, as indented JSON; at a point, if one is given.
    fn content(&self, name: DocumentName, at: Option<At>) -> BoxFuture<'_, Result<Bytes, Refusal>>;

    /// Changes of a document, the newest first, from before the one with this number on.
    fn history(&self, name: DocumentName, before: Option<u64>) -> BoxFuture<'_, Result<HistoryPage, Refusal>>;

    /// The document as an automerge file.
    fn export(&self, name: DocumentName) -> BoxFuture<'_, Result<Bytes, Refusal>>;

    /// Adds what an automerge file has to a document.
    fn import(&self, order: ImportOrder, file: Bytes) -> BoxFuture<'_, Result<Imported, Refusal>>;

    /// Deletes a document for good.
    fn delete(&self, name: DocumentName) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Makes a document as it was, by a change; `false` if it is that already.
    fn restore(&self, name: DocumentName, at: At) -> BoxFuture<'_, Result<bool, Refusal>>;

    /// Looks a document through, and sets aside what is damaged if asked to.
    fn verify(&self, name: DocumentName, repair: bool) -> BoxFuture<'_, Result<Findings, Refusal>>;
}

/// Why a request about documents is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such document.
    NotFound(String),
    /// What was asked cannot be done with it.
    Unprocessable(String),
    /// Something that is not the fault of whoever asked.
    Failed(String),
}

/// Which document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentName {
    /// The space.
    pub space: String,
    /// The id, in base58 with a checksum.
    pub id: String,
}

/// Which page of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageOrder {
    /// Only the documents of this space.
    pub space: Option<String>,
    /// The last document of the page before: its space.
    pub after_space: Option<String>,
    /// Its id.
    pub after_id: Option<String>,
}

/// A page of the list: by space, then in the order of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The documents.
    pub documents: Vec<DocumentStatus>,
    /// Whether there may be more.
    pub has_more: bool,
}

/// A document that there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentStatus {
    /// Which.
    #[serde(flatten)]
    pub name: DocumentName,
    /// Its bytes on disk.
    pub bytes: u64,
    /// How many changes it has.
    pub changes: u64,
    /// Its heads: hashes in hexadecimal.
    pub heads: Vec<String>,
    /// When something of it was last stored, in milliseconds since 1970 (UTC).
    pub changed: u64,
    /// How many peers have it open now.
    pub peers: u64,
    /// Whether its entry is damaged: then nothing is known of it.
    pub damaged: bool,
}

/// A state that a document had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum At {
    /// At this time, by the clocks of those who made the changes, in seconds since 1970 (UTC).
    Time(i64),
    /// With these changes and what they build on: hashes in hexadecimal, or the beginnings of some.
    Heads(Vec<String>),
}

/// A page of a document's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPage {
    /// How many changes the document has.
    pub total: u64,
    /// The changes, the newest first.
    pub changes: Vec<ChangeStatus>,
    /// What to ask for next; none when these were the last.
    pub before: Option<u64>,
}

/// One change of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeStatus {
    /// Its hash, in hexadecimal.
    pub hash: String,
    /// Who made it.
    pub actor: String,
    /// The count of the change among its actor's.
    pub seq: u64,
    /// When it was made, by the clock of who made it, in seconds since 1970 (UTC); none if that was not said.
    pub time: Option<i64>,
    /// What its author said of it.
    pub message: Option<String>,
    /// How many operations it has.
    pub operations: u64,
}

/// Where a file belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportOrder {
    /// The space; without, the one that has the document, or `default`.
    pub space: Option<String>,
    /// What the file is called: the document's id, or else a new document is made of it.
    pub name: Option<String>,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The document.
    #[serde(flatten)]
    pub name: DocumentName,
    /// How many of its changes were new.
    pub changes: u64,
    /// The heads that it leads to.
    pub heads: Vec<String>,
}

/// What was found of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// What is wrong with it, in words.
    pub problems: Vec<String>,
    /// How many changes and pieces of it are set aside.
    pub aside: u64,
    /// Whether what was wrong was set aside just now.
    pub repaired: bool,
}

#[derive(Clone)]
struct Keeper {
    documents: Arc<dyn Documents>,
    files: Arc<Semaphore>,
}

#[derive(Deserialize)]
struct Before {
    before: Option<u64>,
}

pub(crate) fn routes(documents: Arc<dyn Documents>) -> Router {
    Router::new()
        .route("/v1/documents", get(list))
        .route("/v1/documents/{id}", get(find))
        .route("/v1/documents/{space}/{id}", get(content).post(content_at).delete(delete))
        .route("/v1/documents/{space}/{id}/history", get(history))
        .route("/v1/documents/{space}/{id}/file", get(export))
        .route("/v1/files", post(import))
        .route("/v1/documents/{space}/{id}/restore", post(restore))
        .route("/v1/documents/{space}/{id}/verify", post(verify))
        .route("/v1/documents/{space}/{id}/repair", post(repair))
        .with_state(Keeper { documents, files: Arc::new(Semaphore::new(FILES)) })
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::NotFound(text) => error(StatusCode::NOT_FOUND, &text),
            Self::Unprocessable(text) => error(StatusCode::UNPROCESSABLE_ENTITY, &text),
            Self::Failed(text) => error(StatusCode::INTERNAL_SERVER_ERROR, &text),
        }
    }
}

type Answer<T> = Result<Json<T>, Refusal>;

async fn list(State(keeper): State<Keeper>, Query(page): Query<PageOrder>) -> Answer<Page> {
    keeper.documents.list(page).await.map(Json)
}

async fn find(State(keeper): State<Keeper>, Path(id): Path<String>) -> Answer<Vec<DocumentStatus>> {
    keeper.documents.find(id).await.map(Json)
}

async fn content(State(keeper): State<Keeper>, Path(name): Path<DocumentName>) -> Result<Response, Refusal> {
    keeper.documents.content(name, None).await.map(json)
}

async fn content_at(
    State(keeper): State<Keeper>,
    Path(name): Path<DocumentName>,
    at: Result<Json<At>, JsonRejection>,
) -> Result<Response, Refusal> {
    keeper.documents.content(name, Some(point(at)?)).await.map(json)
}

fn json(content: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json")], content).into_response()
}

fn point(at: Result<Json<At>, JsonRejection>) -> Result<At, Refusal> {
    at.map(|Json(at)| at).map_err(|rejection| Refusal::Unprocessable(rejection.body_text()))
}

async fn history(
    State(keeper): State<Keeper>,
    Path(name): Path<DocumentName>,
    Query(Before { before }): Query<Before>,
) -> Answer<HistoryPage> {
    keeper.documents.history(name, before).await.map(Json)
}

async fn export(State(keeper): State<Keeper>, Path(name): Path<DocumentName>) -> Result<Response, Refusal> {
    let file = keeper.documents.export(name).await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], file).into_response())
}

async fn import(State(keeper): State<Keeper>, Query(order): Query<ImportOrder>, body: Body) -> Answer<Imported> {
    let _place = keeper.files.acquire().await.map_err(|error| Refusal::Failed(error.to_string()))?;
    let longest = LONGEST_FILE >> 20;
    let too_long =
        |_| Refusal::Unprocessable(format!("the file is longer than {longest} MiB, or did not arrive whole"));
    let file = to_bytes(body, LONGEST_FILE).await.map_err(too_long)?;
    keeper.documents.import(order, file).await.map(Json)
}

async fn delete(State(keeper): State<Keeper>, Path(name): Path<DocumentName>) -> Answer<()> {
    keeper.documents.delete(name).await.map(Json)
}

async fn restore(
    State(keeper): State<Keeper>,
    Path(name): Path<DocumentName>,
    at: Result<Json<At>, JsonRejection>,
) -> Answer<bool> {
    keeper.documents.restore(name, point(at)?).await.map(Json)
}

async fn verify(State(keeper): State<Keeper>, Path(name): Path<DocumentName>) -> Answer<Findings> {
    keeper.documents.verify(name, false).await.map(Json)
}

async fn repair(State(keeper): State<Keeper>, Path(name): Path<DocumentName>) -> Answer<Findings> {
    keeper.documents.verify(name, true).await.map(Json)
}
