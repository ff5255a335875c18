//! The frames out of one connection.
use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::SinkExt;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite::{
    Error, Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::{
    chain::Chain,
    config::Config,
    hub::Hub,
    line::{Line, frames},
    outbox::{Close, Next, Outbox},
    wire,
};

/// How fast a peer must be to read a long message, in bytes a second.
const SLOWEST: u64 = 64 << 10;

/// Writes what waits in the outbox until the connection ends.
pub(super) async fn write(hub: Arc<Hub>, config: Arc<Config>, outbox: Arc<Outbox>) {
    let mut line = &outbox.line;
    let mut keep_alive = interval_at(Instant::now() + config.keep_alive, config.keep_alive);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let patience = |len: usize| config.write_timeout + Duration::from_secs(len as u64 / SLOWEST);
    loop {
        let next = tokio::select! {
            next = outbox.next() => next,
            _ = keep_alive.tick() => {
                outbox.ask();
                continue;
            }
        };
        let written = match next {
            Next::Send(frames, before) => {
                let mut written = Ok(Ok(()));
                for frame in frames {
                    let len = frame.len();
                    hub.metrics.sent_bytes.inc_by(len as u64);
                    written = timeout(patience(len), feed(&mut line, &frame)).await;
                    outbox.sent(len);
                    if !matches!(written, Ok(Ok(()))) {
                        break;
                    }
                }
                match written {
                    Ok(Ok(())) => {
                        let flushed = timeout(patience(before), line.flush()).await;
                        if before > 0 {
                            outbox.sent(before);
                        }
                        flushed
                    }
                    failed => failed,
                }
            }
            Next::Ask => timeout(patience(0), line.send(Message::Ping(Bytes::new()))).await,
            Next::Close(why) => {
                drop(timeout(config.write_timeout, farewell(&hub, &mut line, why)).await);
                return;
            }
        };
        outbox.done();
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
async fn feed(line: &mut &Line, message: &Chain) -> Result<(), Error> {
    for frame in frames(message) {
        line.feed(frame).await?;
    }
    Ok(())
}

async fn farewell(hub: &Hub, line: &mut &Line, why: Close) -> Result<(), Error> {
    let code = match why {
        Close::Left => CloseCode::Normal,
        Close::Stopping => CloseCode::Away,
        Close::Refused(text) => {
            hub.metrics.sent.with_label_values(&["error"]).inc();
            line.send(Message::Binary(wire::error(&hub.peer, "", &text))).await?;
            CloseCode::Policy
        }
    };
    line.send(Message::Close(Some(CloseFrame { code, reason: "".into() }))).await?;
    line.close().await
}
