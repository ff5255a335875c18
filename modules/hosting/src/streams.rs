//! The streams of an HTTP/2 connection, run by the task of the connection.
//!
//! What several of them answer at about the same time is then written at once, and none costs a task of its own.
use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures_util::{FutureExt as _, StreamExt as _, future::CatchUnwind, stream::FuturesUnordered};
use hyper::rt::Executor;

/// A panic ends a stream alone.
type Stream = CatchUnwind<AssertUnwindSafe<Pin<Box<dyn Future<Output = ()> + Send>>>>;

/// What a connection begins its streams with. All clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Beginner(Arc<Mutex<Vec<Stream>>>);

impl Beginner {
    /// The streams that began since this was asked last.
    fn begun(&self) -> Vec<Stream> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Beginner {
    fn execute(&self, stream: F) {
        let stream: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(stream);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(AssertUnwindSafe(stream).catch_unwind());
    }
}

/// A connection and its streams, which end with it.
pub(crate) struct WithStreams<C> {
    pub connection: C,
    beginner: Beginner,
    streams: FuturesUnordered<Stream>,
}

impl<C> WithStreams<C> {
    /// `beginner` is what `connection` begins streams with.
    pub(crate) fn new(connection: C, beginner: Beginner) -> Self {
        Self { connection, beginner, streams: FuturesUnordered::new() }
    }
}

impl<C: Future + Unpin> Future for WithStreams<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        loop {
            // Before the connection, which writes what they have to say.
            while let Poll::Ready(Some(_)) = self.streams.poll_next_unpin(cx) {}
            if let Poll::Ready(ended) = self.connection.poll_unpin(cx) {
                return Poll::Ready(ended);
            }
            let begun = self.beginner.begun();
            if begun.is_empty() {
                return Poll::Pending;
            }
            self.streams.extend(begun);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_panic_ends_a_stream_alone() {
        let beginner = Beginner::default();
        let (done, mut is_done) = oneshot::channel();
        beginner.execute(async { panic!("as a handler may") });
        beginner.execute(async { done.send(7).unwrap() });
        // It is over once its second stream has answered.
        let connection = poll_fn(move |cx| is_done.poll_unpin(cx));
        assert_eq!(WithStreams::new(connection, beginner).await, Ok(7));
    }
}
