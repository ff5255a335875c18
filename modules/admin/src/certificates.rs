//! Certificates over the socket: how they look, who has them, and the routes.
use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::routes::error;

/// Whoever has the certificates implements it.
pub trait Certificates: Send + Sync + 'static {
    /// Every certificate that serves, or is to.
    fn list(&self) -> Vec<CertificateStatus>;

    /// Orders the certificate with this name anew, and gives the new one; or says why there is none.
    fn renew(&self, name: String) -> BoxFuture<'_, Result<CertificateStatus, String>>;

    /// Gives the accounts at public authorities new keys, and gives the hosts of the authorities; or says why not all have one.
    fn change_keys(&self) -> BoxFuture<'_, Result<Vec<String>, String>>;
}

/// A certificate that serves, or is to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Its names; the first label may be `*`.
    pub names: Vec<String>,
    /// Who vouches for it: the host of a public authority, the local one, or a file.
    pub issuer: String,
    /// How its names are proved to a public authority: `dns-01`, `tls-alpn-01` or `http-01`.
    pub proof: Option<String>,
    /// From when on it counts, in seconds since 1970 (UTC); none while there is none.
    pub from: Option<i64>,
    /// Until when it counts.
    pub until: Option<i64>,
    /// When the next one is ordered, as far as is known.
    pub renewal: Option<i64>,
    /// Why the last order failed, if it did.
    pub error: Option<String>,
}

/// A certificate to order anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewOrder {
    /// One of its names.
    pub name: String,
}

pub(crate) fn routes(certificates: Arc<dyn Certificates>) -> Router {
    Router::new()
        .route("/v1/certificates", get(list))
        .route("/v1/certificates/renew", post(renew))
        .route("/v1/certificates/keys", post(change_keys))
        .with_state(certificates)
}

async fn list(State(certificates): State<Arc<dyn Certificates>>) -> Response {
    Json(certificates.list()).into_response()
}

async fn renew(
    State(certificates): State<Arc<dyn Certificates>>,
    order: Result<Json<RenewOrder>, JsonRejection>,
) -> Response {
    let renewed = match order {
        Ok(Json(order)) => certificates.renew(order.name).await,
        Err(rejection) => Err(rejection.body_text()),
    };
    answer(renewed)
}

async fn change_keys(State(certificates): State<Arc<dyn Certificates>>) -> Response {
    answer(certificates.change_keys().await)
}

fn answer(done: Result<impl Serialize, String>) -> Response {
    match done {
        Ok(done) => Json(done).into_response(),
        Err(reason) => error(StatusCode::UNPROCESSABLE_ENTITY, &reason),
    }
}
