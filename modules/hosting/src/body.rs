//! Bodies of responses and requests.
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use kube_contract::BoxError;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, Sleep, sleep, timeout},
};

use crate::{
    answer::Piece,
    contents::{Blob, Content},
    metrics::Metrics,
    proxy::download::Download,
    pulse::Turn,
};

/// How much of a blob is read at once. HTTP/2 holds a chunk for each of its many streams, so it has smaller ones.
const CHUNK: usize = 64 * 1024;
const CHUNK_OF_STREAM: usize = 32 * 1024;

/// The body of a response, and the request that it ends with.
pub(crate) struct Response {
    source: Source,
    turn: Option<InFlight>,
    _unread: Option<Incoming>,
}

enum Source {
    Empty,
    Whole(Bytes),
    Pieces(Pieces),
    Mounted(axum::body::Body),
    Proxied(Box<Download>),
}

/// A request in flight, on the clock of its connection.
pub(crate) struct InFlight {
    pub turn: Turn,
    pub clock: Instant,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.turn.end(self.clock.elapsed());
    }
}

impl Response {
    pub(crate) fn empty() -> Self {
        Self::of(Source::Empty)
    }

    pub(crate) fn whole(content: impl Into<Bytes>) -> Self {
        Self::of(Source::Whole(content.into()))
    }

    pub(crate) fn mounted(body: axum::body::Body) -> Self {
        Self::of(Source::Mounted(body))
    }

    pub(crate) fn proxied(body: Download) -> Self {
        Self::of(Source::Proxied(Box::new(body)))
    }

    /// Pieces of a content, with text between them.
    pub(crate) fn pieces(
        content: Content,
        mut pieces: VecDeque<Piece>,
        version: Version,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let blob = match content {
            Content::Disk(blob) => blob,
            Content::Memory(content) => {
                let slice = |range: &std::ops::Range<u64>| {
                    let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
                    content.slice(start..end)
                };
                let mut parts = pieces.iter().map(|piece| match piece {
                    Piece::Text(text) => text.clone(),
                    Piece::Slice(range) => slice(range),
                });
                if pieces.len() == 1 {
                    return Self::whole(parts.next().unwrap_or_default());
                }
                return Self::whole(parts.fold(Vec::new(), |mut all, part| {
                    all.extend_from_slice(&part);
                    all
                }));
            }
        };
        pieces.retain(|piece| piece.size() > 0);
        let left = pieces.iter().map(Piece::size).sum();
        let chunk = if version == Version::HTTP_2 { CHUNK_OF_STREAM } else { CHUNK };
        Self::of(Source::Pieces(Pieces { blob, pieces, left, chunk, reading: None, metrics: Arc::clone(metrics) }))
    }

    fn of(source: Source) -> Self {
        Self { source, turn: None, _unread: None }
    }

    /// Keeps the request in flight until this body is sent or dropped.
    ///
    /// What nobody read of the request's body is kept as long: dropped before, it cancels the HTTP/2 stream, answer and all.
    pub(crate) fn end_with(mut self, mut request: InFlight, unread: Option<Incoming>) -> Self {
        // What a program is slow to send is not the client's fault: see below.
        if self.size_hint().exact().is_some() && !matches!(self.source, Source::Proxied(_)) {
            request.turn.bound();
        }
        (self.turn, self._unread) = (Some(request), unread);
        self
    }
}

/// How much of a request's body is read for nothing, and for how long.
const DISCARD: usize = 64 << 10;
const DISCARD_WITHIN: Duration = Duration::from_secs(1);

/// Reads what nobody wants, within bounds: most clients send all of a request before they look for the answer, and take an
/// HTTP/2 stream that ends under their hands for a failure.
pub(crate) async fn discard(body: &mut Incoming) {
    let read = async {
        let mut left = DISCARD;
        while !body.is_end_stream()
            && let Some(Ok(frame)) = body.frame().await
        {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    // What is still left is cut off after the answer.
    timeout(DISCARD_WITHIN, read).await.ok();
}

impl Body for Response {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Whole(content) => {
                let content = std::mem::take(content);
                Poll::Ready((!content.is_empty()).then(|| Ok(Frame::data(content))))
            }
            Source::Pieces(pieces) => {
                pieces.poll(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data).map_err(Into::into)))
            }
            Source::Mounted(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Source::Proxied(body) => {
                let frame = Pin::new(body).poll_frame(cx);
                if let Some(InFlight { turn, .. }) = &mut self.turn {
                    // The client has to take what there is; for more it may wait for as long as it likes.
                    if frame.is_pending() { turn.unbound() } else { turn.bound() }
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Whole(content) => content.is_empty(),
            Source::Pieces(pieces) => pieces.left == 0,
            Source::Mounted(body) => body.is_end_stream(),
            Source::Proxied(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Whole(content) => SizeHint::with_exact(content.len() as u64),
            Source::Pieces(pieces) => SizeHint::with_exact(pieces.left),
            Source::Mounted(body) => body.size_hint(),
            Source::Proxied(body) => body.size_hint(),
        }
    }
}

/// A blob on its way, chunk by chunk.
struct Pieces {
    blob: Arc<Blob>,
    pieces: VecDeque<Piece>,
    left: u64,
    chunk: usize,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    metrics: Arc<Metrics>,
}

impl Pieces {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let read = match (&mut self.reading, self.pieces.front()) {
            (Some(reading), _) => {
                let read = ready!(Pin::new(reading).poll(cx));
                self.reading = None;
                read.unwrap_or_else(|error| Err(io::Error::other(error)))
            }
            (None, None) => return Poll::Ready(None),
            (None, Some(Piece::Text(text))) => {
                let text = text.clone();
                self.left -= text.len() as u64;
                self.pieces.pop_front();
                return Poll::Ready(Some(Ok(text)));
            }
            (None, Some(Piece::Slice(range))) => {
                let size = usize::try_from(range.end - range.start).map_or(self.chunk, |size| size.min(self.chunk));
                let offset = range.start;
                match self.blob.read_now(offset, size).transpose() {
                    Some(read) => read,
                    None => {
                        let blob = Arc::clone(&self.blob);
                        self.reading = Some(spawn_blocking(move || blob.read(offset, size)));
                        return self.poll(cx);
                    }
                }
            }
        };
        Poll::Ready(Some(
            read.inspect(|chunk| self.advance(chunk.len() as u64)).inspect_err(|error| self.failed(error)),
        ))
    }

    fn advance(&mut self, count: u64) {
        self.left -= count;
        if let Some(Piece::Slice(range)) = self.pieces.front_mut() {
            range.start += count;
            if range.start == range.end {
                self.pieces.pop_front();
            }
        }
    }

    fn failed(&self, error: &io::Error) {
        self.metrics.errors.blob.inc();
        tracing::error!(path = %self.blob.path().display(), %error, "cannot read on: the response is cut off");
    }
}

/// The body of a request to a mount, which fails when the peer gives nothing of it for too long.
pub(crate) struct Request {
    body: Incoming,
    patience: Duration,
    /// Runs while the peer is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
    metrics: Arc<Metrics>,
}

impl Request {
    pub(crate) fn new(body: Incoming, patience: Duration, metrics: &Arc<Metrics>) -> Self {
        Self { body, patience, waiting: None, metrics: Arc::clone(metrics) }
    }

    pub(crate) fn into_inner(self) -> Incoming {
        self.body
    }
}

impl Body for Request {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(sleep(this.patience)));
        ready!(waiting.as_mut().poll(cx));
        this.metrics.cut.body.inc();
        Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
