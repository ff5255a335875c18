use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
};

use futures_util::{Sink, SinkExt, Stream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::*;
use crate::line::frames;

/// What a socket took, and how much it takes.
#[derive(Default)]
struct Peer {
    /// Messages that wait until there is room for them.
    buffered: VecDeque<Vec<u8>>,
    taken: Vec<Vec<u8>>,
    room: usize,
    waits: Option<Waker>,
}

/// A socket that takes only as many messages as its peer reads.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<Peer>>);

impl Slow {
    fn with_room(room: usize) -> Self {
        let slow = Self::default();
        slow.read(room);
        slow
    }

    fn read(&self, more: usize) {
        let mut peer = self.0.lock().unwrap();
        peer.room += more;
        let waker = peer.waits.take();
        drop(peer);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn taken(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().taken.clone()
    }
}

impl Stream for Slow {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

impl Sink<Message> for Slow {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.0.lock().unwrap().buffered.push_back(message.into_data().to_vec());
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut peer = self.0.lock().unwrap();
        while peer.room > 0
            && let Some(message) = peer.buffered.pop_front()
        {
            peer.room -= 1;
            peer.taken.push(message);
        }
        if peer.buffered.is_empty() {
            return Poll::Ready(Ok(()));
        }
        peer.waits = Some(task.waker().clone());
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_flush(task)
    }
}

/// Does what the task of a connection does with its outbox.
async fn write(outbox: Arc<Outbox>) {
    let mut line = &outbox.line;
    loop {
        match outbox.next().await {
            Next::Send(messages, before) => {
                for message in messages {
                    for frame in frames(&message) {
                        line.feed(frame).await.unwrap();
                    }
                    outbox.sent(message.len());
                }
                line.flush().await.unwrap();
                outbox.sent(before);
            }
            Next::Ask => {}
            Next::Close(_) => return,
        }
        outbox.done();
    }
}

#[tokio::test]
async fn answers_always_fit_and_room_returns_with_what_is_sent() {
    let outbox = Outbox::new(4);
    assert!(outbox.has_room());
    outbox.push(Bytes::from_static(b"12345"));
    outbox.push(Bytes::from_static(b"67890"));
    assert!(!outbox.has_room());
    let Next::Send(frames, 0) = outbox.next().await else { panic!("frames wait") };
    assert_eq!(frames.len(), 2);
    outbox.sent(5);
    assert!(!outbox.has_room());
    outbox.sent(5);
    outbox.room().await;
}

#[tokio::test]
async fn what_waits_is_sent_before_the_close_and_the_first_reason_counts() {
    let outbox = Outbox::new(4);
    outbox.push(Bytes::from_static(b"last"));
    outbox.close(Close::Refused("why".to_owned()));
    outbox.close(Close::Left);
    outbox.push(Bytes::from_static(b"too late"));
    outbox.closed().await;
    assert!(matches!(outbox.next().await, Next::Send(frames, 0) if frames.len() == 1));
    outbox.done();
    assert!(matches!(outbox.next().await, Next::Close(Close::Refused(why)) if why == "why"));
}

#[tokio::test]
async fn what_is_delivered_is_written_at_once_and_what_comes_after_something_that_waits_is_not() {
    let (outbox, slow) = (Outbox::new(100), Slow::with_room(9));
    let open = outbox.line.open(slow.clone());
    outbox.lay(Bytes::from_static(b"one"));
    assert_eq!(outbox.deliver(), 3);
    assert_eq!(slow.taken(), [b"one"]);
    outbox.push(Bytes::from_static(b"two"));
    outbox.lay(Bytes::from_static(b"three"));
    assert_eq!(outbox.deliver(), 0);
    let Next::Send(frames, 0) = outbox.next().await else { panic!("frames wait") };
    assert_eq!(frames.len(), 2);
    // It is being written.
    outbox.lay(Bytes::from_static(b"four"));
    assert_eq!(outbox.deliver(), 0);
    outbox.done();
    assert!(matches!(outbox.next().await, Next::Send(frames, 0) if frames.len() == 1));
    assert_eq!(slow.taken(), [b"one"]);
    drop(open);
    outbox.done();
    outbox.lay(Bytes::from_static(b"five"));
    assert_eq!(outbox.deliver(), 0, "the connection is gone");
}

#[tokio::test]
async fn what_a_socket_does_not_take_at_once_takes_room_until_the_writer_has_flushed_it() {
    let (outbox, slow) = (Outbox::new(4), Slow::with_room(0));
    let _open = outbox.line.open(slow.clone());
    outbox.lay(Bytes::from_static(b"first"));
    assert_eq!(outbox.deliver(), 5);
    assert!(!outbox.has_room());
    outbox.lay(Bytes::from_static(b"next"));
    assert_eq!(outbox.deliver(), 0);
    let Next::Send(frames, 5) = outbox.next().await else { panic!("five bytes are not flushed") };
    assert_eq!(frames.len(), 1);
    slow.read(1);
    (&outbox.line).flush().await.unwrap();
    outbox.sent(5);
    assert!(!outbox.has_room());
    outbox.sent(4);
    outbox.room().await;
    assert_eq!(slow.taken(), [b"first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_of_each_sender_arrive_once_and_in_order_whoever_writes_them() {
    const SENDERS: u8 = 4;
    const EACH: u32 = 500;
    let (outbox, slow) = (Arc::new(Outbox::new(usize::MAX)), Slow::with_room(7));
    let _open = outbox.line.open(slow.clone());
    let (mut writer, mut senders) = (JoinSet::new(), JoinSet::new());
    writer.spawn(write(Arc::clone(&outbox)));
    for sender in 0..SENDERS {
        let (outbox, slow) = (Arc::clone(&outbox), slow.clone());
        senders.spawn(async move {
            for number in 0..EACH {
                let mut message = vec![sender];
                message.extend(number.to_be_bytes());
                if number % 3 == 0 {
                    outbox.push(Bytes::from(message));
                } else {
                    outbox.lay(Bytes::from(message));
                    outbox.deliver();
                }
                // Less than comes, so that much waits.
                if number % 2 == 0 {
                    slow.read(1);
                }
                if number % 16 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    senders.join_all().await;
    slow.read(usize::from(SENDERS) * EACH as usize);
    outbox.close(Close::Left);
    writer.join_all().await;
    let mut next = HashMap::new();
    for message in slow.taken() {
        let number = u32::from_be_bytes(message[1..].try_into().unwrap());
        let expected = next.entry(message[0]).or_insert(0);
        assert_eq!(number, *expected, "of sender {}", message[0]);
        *expected += 1;
    }
    assert_eq!(next, (0..SENDERS).map(|sender| (sender, EACH)).collect());
    assert_eq!(outbox.queue().bytes, 0);
}
