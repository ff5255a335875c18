//! The frames out of one connection.
use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, stream::SplitSink};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite::{
    Error, Message,
    protocol::{
        CloseFrame,
        frame::{
            Frame,
            coding::{CloseCode, Data, OpCode},
        },
    },
};

use super::Socket;
use crate::{
    chain::Chain,
    config::Config,
    hub::Hub,
    outbox::{Close, Next, Outbox},
    wire,
};

/// How fast a peer must be to read a long message, in bytes a second.
const SLOWEST: u64 = 64 << 10;
/// Longer messages are sent in frames of this size. What is written is copied first, into memory that the connection keeps,
/// and what is left of a frame is moved with each write.
const PIECE: usize = 64 << 10;

/// Writes what waits in the outbox until the connection ends.
pub(super) async fn write<S: Socket>(
    hub: Arc<Hub>,
    config: Arc<Config>,
    mut sink: SplitSink<S, Message>,
    outbox: Arc<Outbox>,
) {
    let mut keep_alive = interval_at(Instant::now() + config.keep_alive, config.keep_alive);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let patience = |len: usize| config.write_timeout + Duration::from_secs(len as u64 / SLOWEST);
    loop {
        let written = tokio::select! {
            next = outbox.next() => match next {
                Next::Send(frames) => {
                    let mut written = Ok(Ok(()));
                    for frame in frames {
                        let len = frame.len();
                        hub.metrics.sent_bytes.inc_by(len as u64);
                        written = timeout(patience(len), feed(&mut sink, frame)).await;
                        outbox.sent(len);
                        if !matches!(written, Ok(Ok(()))) {
                            break;
                        }
                    }
                    match written {
                        Ok(Ok(())) => timeout(patience(0), sink.flush()).await,
                        failed => failed,
                    }
                }
                Next::Close(why) => {
                    drop(timeout(config.write_timeout, farewell(&hub, &mut sink, why)).await);
                    return;
                }
            },
            _ = keep_alive.tick() => timeout(patience(0), sink.send(Message::Ping(Bytes::new()))).await,
        };
        match written {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return outbox.close(Close::Left),
            Err(_) => {
                hub.metrics.refuse("slow_reader");
                return outbox.close(Close::Left);
            }
        }
    }
}

/// Writes a message, in several frames if it is long or has several parts.
async fn feed<S: Socket>(sink: &mut SplitSink<S, Message>, message: Chain) -> Result<(), Error> {
    let mut kind = Data::Binary;
    let parts = message.parts();
    for (number, part) in (1..).zip(parts) {
        let mut part = part.clone();
        loop {
            let piece = part.split_to(part.len().min(PIECE));
            let is_last = number == parts.len() && part.is_empty();
            sink.feed(Message::Frame(Frame::message(piece, OpCode::Data(kind), is_last))).await?;
            kind = Data::Continue;
            if part.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

async fn farewell<S: Socket>(hub: &Hub, sink: &mut SplitSink<S, Message>, why: Close) -> Result<(), Error> {
    let code = match why {
        Close::Left => CloseCode::Normal,
        Close::Stopping => CloseCode::Away,
        Close::Refused(text) => {
            hub.metrics.sent.with_label_values(&["error"]).inc();
            sink.send(Message::Binary(wire::error(&hub.peer, "", &text))).await?;
            CloseCode::Policy
        }
    };
    sink.send(Message::Close(Some(CloseFrame { code, reason: "".into() }))).await?;
    sink.close().await
}
