//! The body of an answer on its way to a client, and what is left of the request meanwhile.
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use kube_contract::BoxError;

use super::{
    line::Line,
    said,
    target::{Target, Visit},
};
use crate::metrics::Metrics;

/// The body of an answer. The connection that it comes over is kept for the next request as soon as the body is over.
pub(crate) struct Download {
    body: Incoming,
    /// What was taken of the body already.
    ahead: Option<Result<Frame<Bytes>, hyper::Error>>,
    /// The connection, if the answer has one to itself.
    line: Option<Line>,
    /// `None` once it is over.
    visit: Option<Visit>,
    target: Arc<Target>,
    metrics: Arc<Metrics>,
}

impl Download {
    pub(crate) fn new(
        body: Incoming,
        line: Option<Line>,
        visit: Visit,
        target: &Arc<Target>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let (target, metrics) = (Arc::clone(target), Arc::clone(metrics));
        Self { body, ahead: None, line, visit: Some(visit), target, metrics }
    }

    /// All of it, if its length is known and it is here already: most answers arrive with their heads.
    pub(crate) fn all(&mut self, cx: &mut Context<'_>) -> Option<Bytes> {
        if self.body.is_end_stream() {
            self.end(cx);
            return Some(Bytes::new());
        }
        if self.line.is_none() || self.body.size_hint().exact().is_none() {
            return None;
        }
        let Poll::Ready(frame) = self.arrived(cx) else { return None };
        match frame?.map(Frame::into_data) {
            Ok(Ok(content)) if self.body.is_end_stream() => {
                self.end(cx);
                Some(content)
            }
            Ok(Ok(content)) => {
                self.ahead = Some(Ok(Frame::data(content)));
                None
            }
            Ok(Err(other)) => {
                self.ahead = Some(Ok(other));
                None
            }
            Err(error) => {
                self.ahead = Some(Err(error));
                None
            }
        }
    }

    /// Whether nothing is left to do, for the request neither.
    pub(crate) fn is_over(&self) -> bool {
        self.visit.is_none() && self.line.is_none()
    }

    fn arrived(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.line.is_some() {
            // It comes from the connection, which is moved on before, and never without.
            Pin::new(&mut self.body).poll_frame(&mut Context::from_waker(Waker::noop()))
        } else {
            Pin::new(&mut self.body).poll_frame(cx)
        }
    }

    /// Nothing more comes: the connection is for others, unless it still has to do with the request.
    fn end(&mut self, cx: &mut Context<'_>) {
        if let Some(visit) = self.visit.take()
            && let Some(line) = self.line.take_if(|line| line.is_usable(cx))
        {
            visit.instance().keep(line);
        }
    }

    fn failed(&mut self, error: &hyper::Error) {
        self.visit = None;
        self.line = None;
        self.metrics.proxy.failures.cut.inc();
        self.target.told.tell(&self.target.process, &format!("its answer broke off: {}", said(error)), "none");
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(line) = &mut this.line {
            line.drive(cx);
        }
        let frame = match this.ahead.take() {
            Some(ahead) => Some(ahead),
            None => ready!(this.arrived(cx)),
        };
        match &frame {
            // Behind trailers nobody looks for an end.
            Some(Ok(frame)) if !frame.is_trailers() && !this.body.is_end_stream() => {}
            Some(Ok(_)) | None => this.end(cx),
            Some(Err(error)) => this.failed(error),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = match &self.ahead {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len) as u64,
            Some(Err(_)) | None => 0,
        };
        let hint = self.body.size_hint();
        match hint.exact() {
            Some(rest) => SizeHint::with_exact(rest + ahead),
            None => hint,
        }
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("target", &self.target.process).finish_non_exhaustive()
    }
}
