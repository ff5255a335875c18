//! Tokens over the socket: how they look, who makes them, and the routes.
use std::{fmt, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, get},
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::routes::error;

/// Whoever keeps the tokens implements it.
pub trait Tokens: Send + Sync + 'static {
    /// Makes a token, or says why not.
    fn create(&self, order: TokenOrder) -> BoxFuture<'_, Result<NewToken, String>>;

    /// Every token, oldest first.
    fn list(&self) -> Vec<TokenStatus>;

    /// Revokes the token of this id, and gives it; `None` when there is none. Or says why it could not.
    fn revoke<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<TokenStatus>, String>>;
}

/// A token to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenOrder {
    /// What it allows.
    #[serde(flatten)]
    pub scope: TokenScope,
    /// What a person calls it.
    pub label: Option<String>,
    /// How long it is valid, in seconds; none for ever.
    pub expires_in: Option<u64>,
}

/// What a token allows: its kind, and what the kind is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TokenScope {
    /// To sync.
    Sync {
        /// The documents of this space.
        space: String,
        /// In this way.
        access: TokenAccess,
    },
}

/// What may be done with documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenAccess {
    /// They may be read.
    Read,
    /// They may be read and changed.
    Write,
    /// That, and all that there are are told of: for another KUBE.
    Mirror,
}

/// A token that there is, without the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenStatus {
    /// How people speak of it.
    pub id: String,
    /// What it allows.
    #[serde(flatten)]
    pub scope: TokenScope,
    /// What a person calls it.
    pub label: Option<String>,
    /// When it was made, in seconds since 1970 (UTC).
    pub created: u64,
    /// From when on it allows nothing, in seconds since 1970.
    pub expires: Option<u64>,
    /// When it was last used since KUBE started, in seconds since 1970.
    pub last_used: Option<u64>,
}

/// A token that was just made.
#[derive(Clone, Serialize, Deserialize)]
pub struct NewToken {
    /// What there is from now on.
    #[serde(flatten)]
    pub status: TokenStatus,
    /// The token itself, shown this once.
    pub token: String,
}

impl fmt::Debug for NewToken {
    /// Without the token itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").field("status", &self.status).finish_non_exhaustive()
    }
}

pub(crate) fn routes(tokens: Arc<dyn Tokens>) -> Router {
    Router::new()
        .route("/v1/tokens", get(list).post(create))
        .route("/v1/tokens/{id}", delete(revoke))
        .with_state(tokens)
}

async fn list(State(tokens): State<Arc<dyn Tokens>>) -> Response {
    Json(tokens.list()).into_response()
}

async fn create(State(tokens): State<Arc<dyn Tokens>>, order: Result<Json<TokenOrder>, JsonRejection>) -> Response {
    let made = match order {
        Ok(Json(order)) => tokens.create(order).await,
        Err(rejection) => Err(rejection.body_text()),
    };
    match made {
        Ok(made) => (StatusCode::CREATED, Json(made)).into_response(),
        Err(reason) => error(StatusCode::UNPROCESSABLE_ENTITY, &reason),
    }
}

async fn revoke(State(tokens): State<Arc<dyn Tokens>>, Path(id): Path<String>) -> Response {
    match tokens.revoke(&id).await {
        Ok(Some(token)) => Json(token).into_response(),
        Ok(None) => error(StatusCode::NOT_FOUND, &format!("there is no token {id:?}: `kube token list` shows them")),
        Err(reason) => error(StatusCode::INTERNAL_SERVER_ERROR, &reason),
    }
}
