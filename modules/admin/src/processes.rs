//! Processes over the socket: how they are, who keeps them, and the routes.
use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::routes::error;

/// Whoever keeps the processes implements it.
pub trait Processes: Send + Sync + 'static {
    /// How every process is, by name.
    fn list(&self) -> BoxFuture<'_, Vec<ProcessStatus>>;

    /// Has the process of this name start, stop or start anew, and waits until that is done; or says why it is not.
    fn order(&self, name: String, order: ProcessOrder) -> BoxFuture<'_, Result<ProcessStatus, String>>;

    /// Whether the program with this number in the system is one of those that are kept apart, or was started by one: it may ask
    /// nothing here, whoever it runs as.
    fn is_apart(&self, pid: i32) -> bool;
}

/// What a process is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessOrder {
    /// Run.
    Start,
    /// End, and stay so.
    Stop,
    /// Run anew.
    Restart,
}

/// How a process is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Its name.
    pub name: String,
    /// `waiting`, `starting`, `running`, `unhealthy`, `back-off`, `stopping`, `stopped`, `completed`, `failed` or `scheduled`.
    pub state: String,
    /// Why it is so, when that is not as it should be; else what it says of itself.
    pub detail: Option<String>,
    /// Since when it is so, in seconds since 1970 (UTC).
    pub since: u64,
    /// The number of its process.
    pub pid: Option<u32>,
    /// Starts that nobody asked for.
    pub restarts: u64,
    /// How it ended last, when that was no success.
    pub last_failure: Option<String>,
    /// Where it is on the web.
    pub url: Option<String>,
    /// The loopback port that it serves that at.
    pub port: Option<u16>,
    /// When it starts next, as far as is known, in seconds since 1970 (UTC).
    pub next: Option<u64>,
    /// How it is kept apart.
    pub apart: String,
    /// Bytes of memory that it and what it has started use.
    pub memory: Option<u64>,
    /// What was asked for and cannot be had here.
    pub warnings: Vec<String>,
}

pub(crate) fn routes(processes: Arc<dyn Processes>) -> Router {
    Router::new()
        .route("/v1/processes", get(list))
        .route("/v1/processes/{name}/{order}", post(order))
        .with_state(processes)
}

async fn list(State(processes): State<Arc<dyn Processes>>) -> Response {
    Json(processes.list().await).into_response()
}

async fn order(
    State(processes): State<Arc<dyn Processes>>,
    Path((name, order)): Path<(String, ProcessOrder)>,
) -> Response {
    match processes.order(name, order).await {
        Ok(status) => Json(status).into_response(),
        Err(why) => error(StatusCode::UNPROCESSABLE_ENTITY, &why),
    }
}
