//! The body of an answer on its way to a client, and what is left of the request meanwhile.
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use kube_contract::BoxError;

use super::{
    line::Line,
    outgoing::{Outgoing, Stopped},
    said,
    target::{Target, Visit},
    wire::{Framing, Piece},
};
use crate::metrics::Metrics;

/// The body of an answer. The connection that it comes over is kept for the next request as soon as the body is over.
pub(crate) struct Download {
    source: Source,
    /// What was taken of the body already.
    ahead: Option<Result<Frame<Bytes>, BoxError>>,
    /// `None` once it is over.
    visit: Option<Visit>,
    target: Arc<Target>,
    metrics: Arc<Metrics>,
}

/// Where a body comes from.
#[expect(clippy::large_enum_variant, reason = "almost all are large, and a box for each costs more")]
pub(crate) enum Source {
    Own(Own),
    /// A connection that others use too.
    Shared(Incoming),
}

/// A connection that the answer has to itself.
pub(crate) struct Own {
    /// `None` once it is of no more use here.
    pub line: Option<Line>,
    pub framing: Framing,
    pub outgoing: Outgoing,
    /// Whether the program takes nothing more of the request.
    pub is_stopped: bool,
    /// Whether the connection may serve another request.
    pub keeps: bool,
}

impl Source {
    /// How much comes, where that is known.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::Own(own) => own.framing.size(),
            Self::Shared(body) => body.size_hint().exact(),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Own(own) => own.line.is_none() || own.framing.is_over(),
            Self::Shared(body) => body.is_end_stream(),
        }
    }
}

impl Own {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(line) = &mut self.line else { return Poll::Ready(None) };
        if !self.outgoing.is_over() && !self.is_stopped {
            match line.poll_send(&mut self.outgoing, cx) {
                Poll::Ready(Ok(())) | Poll::Pending => {}
                Poll::Ready(Err(Stopped::Client)) => return Poll::Ready(Some(Err("the client did not go on".into()))),
                // It has seen enough; what it says may still come.
                Poll::Ready(Err(Stopped::Program(_))) => self.is_stopped = true,
            }
        }
        Poll::Ready(match ready!(line.poll_piece(&mut self.framing, cx)) {
            Ok(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(Piece::End | Piece::More) => None,
            Err(error) => Some(Err(error.into())),
        })
    }
}

impl Download {
    pub(crate) fn new(source: Source, visit: Visit, target: &Arc<Target>, metrics: &Arc<Metrics>) -> Self {
        let (target, metrics) = (Arc::clone(target), Arc::clone(metrics));
        Self { source, ahead: None, visit: Some(visit), target, metrics }
    }

    /// All of it, if it is here already: most answers arrive with their heads.
    pub(crate) fn all(&mut self) -> Option<Bytes> {
        if self.source.is_over() {
            self.end();
            return Some(Bytes::new());
        }
        let Source::Own(Own { line: Some(line), framing, .. }) = &mut self.source else { return None };
        match line.piece(framing) {
            Ok(Piece::Data(data)) if framing.is_over() => {
                self.end();
                return Some(data);
            }
            Ok(Piece::End) => {
                self.end();
                return Some(Bytes::new());
            }
            Ok(Piece::Data(data)) => self.ahead = Some(Ok(Frame::data(data))),
            Ok(Piece::Trailers(trailers)) => self.ahead = Some(Ok(Frame::trailers(trailers))),
            Ok(Piece::More) => {}
            Err(broken) => self.ahead = Some(Err(broken.into())),
        }
        None
    }

    /// Whether nothing is left to do, for the request neither.
    pub(crate) fn is_settled(&self) -> bool {
        match &self.source {
            Source::Own(own) => own.line.is_none(),
            Source::Shared(_) => false,
        }
    }

    /// Nothing more comes: the connection is for others, unless it still has to do with the request.
    fn end(&mut self) {
        let Some(visit) = self.visit.take() else { return };
        if let Source::Own(own) = &mut self.source
            && own.outgoing.is_over()
            && let Some(line) = own.line.take()
            && own.keeps
            && own.framing.is_over()
        {
            visit.instance().keep(line);
        }
    }

    fn failed(&mut self, error: &BoxError) {
        self.visit = None;
        if let Source::Own(own) = &mut self.source {
            own.line = None;
            if own.outgoing.has_failed() {
                // It is the client who did.
                return;
            }
        }
        self.metrics.proxy.failures.cut.inc();
        self.target.told.tell(&self.target.process, &format!("its answer broke off: {}", said(&**error)), "none");
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let frame = match (this.ahead.take(), &mut this.source) {
            (Some(ahead), _) => Some(ahead),
            (None, Source::Own(own)) => ready!(own.poll(cx)),
            (None, Source::Shared(body)) => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(Into::into))
            }
        };
        match &frame {
            // Behind trailers nobody looks for an end.
            Some(Ok(frame)) if !frame.is_trailers() && !this.source.is_over() => {}
            Some(Ok(_)) | None => this.end(),
            Some(Err(error)) => this.failed(error),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.source.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = match &self.ahead {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len) as u64,
            Some(Err(_)) | None => 0,
        };
        self.source.size().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + ahead))
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("target", &self.target.process).finish_non_exhaustive()
    }
}
