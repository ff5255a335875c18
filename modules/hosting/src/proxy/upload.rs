//! The body of a request on its way to a program.
use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use kube_contract::BoxError;

use super::fields::Load;
use crate::body;

/// What is sent. Clones are the same: one is sent, another is kept, to look after it and to have it back.
#[derive(Clone, Debug)]
pub(crate) struct Sent(Option<Arc<Mutex<Upload>>>);

struct Upload {
    body: Option<body::Request>,
    /// Frames that the client brought.
    moved: u64,
    /// Whether the client was waited for at the last look.
    is_waited_for: bool,
    /// Whether the client failed.
    has_failed: bool,
}

impl Sent {
    pub(crate) fn nothing() -> Self {
        Self(None)
    }

    pub(crate) fn body(body: body::Request) -> Self {
        Self(Some(Arc::new(Mutex::new(Upload { body: Some(body), moved: 0, is_waited_for: false, has_failed: false }))))
    }

    pub(crate) fn load(&self) -> Load {
        match &self.0 {
            None => Load::Nothing,
            Some(_) => self.size_hint().exact().map_or(Load::Unknown, Load::Bytes),
        }
    }

    /// How many frames the client has brought.
    pub(crate) fn moved(&self) -> u64 {
        self.look(0, |upload| upload.moved)
    }

    /// Whether it is the client who has to go on.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.look(false, |upload| upload.is_waited_for)
    }

    /// Whether the client gave up, or gives nothing.
    pub(crate) fn has_failed(&self) -> bool {
        self.look(false, |upload| upload.has_failed)
    }

    /// What the client has not brought yet, for whoever answers instead.
    pub(crate) fn take_back(&self) -> Option<Incoming> {
        self.look(None, |upload| upload.body.take().map(body::Request::into_inner))
    }

    fn look<T>(&self, nothing: T, look: impl FnOnce(&mut Upload) -> T) -> T {
        self.0.as_deref().map_or(nothing, |upload| look(&mut lock(upload)))
    }
}

fn lock(upload: &Mutex<Upload>) -> MutexGuard<'_, Upload> {
    upload.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Body for Sent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(upload) = &self.0 else { return Poll::Ready(None) };
        let mut upload = lock(upload);
        let Some(body) = &mut upload.body else {
            // Never an end: what was sent would seem to be all.
            return Poll::Ready(Some(Err("the body was taken back".into())));
        };
        let frame = Pin::new(body).poll_frame(cx);
        upload.is_waited_for = frame.is_pending();
        if let Poll::Ready(frame) = &frame {
            upload.moved += 1;
            upload.has_failed |= matches!(frame, Some(Err(_)));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.look(true, |upload| upload.body.as_ref().is_some_and(Body::is_end_stream))
    }

    fn size_hint(&self) -> SizeHint {
        self.look(SizeHint::with_exact(0), |upload| upload.body.as_ref().map(Body::size_hint).unwrap_or_default())
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("moved", &self.moved).finish_non_exhaustive()
    }
}
