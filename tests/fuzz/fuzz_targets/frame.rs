//! Frames of the automerge-repo wire: what is understood can be said again, and means the same.
#![no_main]

use kube_echo::wire::{
    Answer, Inbound, Join, VERSION, decided, decode, doc_unavailable, ephemeral, error, follow, join, peer, position,
    remote_heads_changed, remote_subscription_change, request, sync,
};
use libfuzzer_sys::fuzz_target;

/// From where on JavaScript, and so the wire, has no whole numbers.
const INEXACT: u64 = 1 << 53;

fuzz_target!(|frame: &[u8]| {
    let Ok(read) = decode(frame) else { return };
    let said = match &read {
        Inbound::Join(Join { sender, storage_id: Some(storage), ephemeral: false, versions, kube: Some(longest) })
            if *versions == [VERSION] && *longest < INEXACT =>
        {
            join(sender, storage, *longest)
        }
        Inbound::Peer(Answer { sender, storage_id: Some(storage), kube })
            if kube.is_none_or(|longest| longest < INEXACT) =>
        {
            peer(sender, "you", storage, *kube)
        }
        Inbound::Sync { document, data, request: false } => sync("me", "you", *document, data),
        Inbound::Sync { document, data, request: true } => request("me", "you", *document, data),
        Inbound::Unavailable { document } => doc_unavailable("me", "you", *document),
        Inbound::Ephemeral(message) if message.count < INEXACT => ephemeral("you", message),
        Inbound::RemoteHeadsChanged { document, heads } if heads.iter().all(|heads| heads.timestamp < INEXACT) => {
            remote_heads_changed("me", "you", *document, heads)
        }
        Inbound::RemoteSubscriptionChange { add, remove } => remote_subscription_change("me", "you", add, remove),
        Inbound::Decided { document, deleted, at } if *at < INEXACT => decided("me", "you", *document, *deleted, *at),
        Inbound::Follow { since } if since.is_none_or(|since| since < INEXACT) => follow("me", "you", *since),
        Inbound::Position { position: at } if *at < INEXACT => position("me", "you", *at),
        Inbound::Error(why) => error("me", "you", why),
        // These are only read here, or cannot be said exactly.
        Inbound::Join(_)
        | Inbound::Peer(_)
        | Inbound::Ephemeral(_)
        | Inbound::RemoteHeadsChanged { .. }
        | Inbound::Follow { .. }
        | Inbound::Position { .. }
        | Inbound::Decided { .. }
        | Inbound::Leave
        | Inbound::Unknown(_) => return,
    };
    assert_eq!(decode(&said), Ok(read));
});
