//! What can be asked over the socket.
use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;

use crate::{Control, Ports, certificates, dns, documents, metrics::Metrics, processes, tokens};

type Reins = Arc<dyn Control>;

pub(crate) fn router(ports: Ports, metrics: Metrics) -> Router {
    let Ports { control, tokens, documents, zones, certificates, processes } = ports;
    Router::new()
        .route("/v1/status", get(async |State(control): State<Reins>| Json(control.status())))
        .route("/v1/reload", post(reload))
        .route("/v1/drill/{module}", post(drill))
        .with_state(control)
        .merge(tokens::routes(tokens))
        .merge(documents::routes(documents))
        .merge(dns::routes(zones))
        .merge(certificates::routes(certificates))
        .merge(processes::routes(processes))
        .fallback(async || {
            error(StatusCode::NOT_FOUND, "this KUBE does not know that request: is it an older version?")
        })
        .method_not_allowed_fallback(async || error(StatusCode::METHOD_NOT_ALLOWED, "wrong method"))
        .layer(DefaultBodyLimit::max(64 << 10))
        .layer(middleware::from_fn_with_state(metrics, count))
}

async fn reload(State(control): State<Reins>) -> Response {
    match control.reload().await {
        Ok(changed) => Json(changed).into_response(),
        Err(problems) => error(StatusCode::UNPROCESSABLE_ENTITY, &problems),
    }
}

async fn drill(State(control): State<Reins>, Path(module): Path<String>) -> Response {
    if control.drill(&module).await {
        Json(()).into_response()
    } else {
        error(StatusCode::NOT_FOUND, &format!("there is no module {module:?}: `kube status` lists them"))
    }
}

pub(crate) fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

async fn count(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let class = match response.status().as_u16() {
        200..=299 => "2xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    metrics.requests.with_label_values(&[class]).inc();
    response
}
