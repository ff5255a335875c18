//! What can be asked.
use std::{fmt::Write as _, sync::Arc};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use kube_contract::Board;
use prometheus::{Encoder, Registry, TEXT_FORMAT, TextEncoder, process_collector::ProcessCollector};

use crate::{BuildInfo, metrics::Counted, modules::Modules};

struct Page {
    registry: Registry,
    /// What is not a module's own; apart, so that a module's registry holds what carries its name.
    process: Registry,
    board: Board,
    counted: Counted,
}

pub(crate) fn router(registry: Registry, counted: Counted, board: Board, build: BuildInfo) -> Router {
    let process = Registry::new();
    process.register(Box::new(Modules::new(board.clone(), build))).expect("the registry is new");
    process.register(Box::new(ProcessCollector::for_self())).expect("the registry is new");
    Router::new()
        .route("/", get(async || "KUBE: /metrics, /healthz, /readyz\n"))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .layer(DefaultBodyLimit::max(1 << 10))
        .with_state(Arc::new(Page { registry, process, board, counted }))
}

async fn metrics(State(page): State<Arc<Page>>) -> Response {
    page.counted.scrapes.inc();
    let mut families = page.registry.gather();
    families.extend(page.process.gather());
    let mut text = Vec::new();
    match TextEncoder::new().encode(&families, &mut text) {
        Ok(()) => ([(CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn ready(State(page): State<Arc<Page>>) -> Response {
    let board = page.board.now();
    let mut text = String::new();
    for report in &board {
        writeln!(text, "{} {}", report.module, report.health).expect("a string takes everything");
    }
    let serving = board.iter().all(|report| report.health.is_serving());
    (if serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text).into_response()
}
