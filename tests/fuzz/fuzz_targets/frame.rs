//! Frames of the automerge-repo wire: what is understood can be said again, and means the same.
#![no_main]

use kube_echo::wire::{Inbound, decode, doc_unavailable, ephemeral, remote_heads_changed, request, sync};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    let Ok(read) = decode(frame) else { return };
    let said = match &read {
        Inbound::Sync { document, data, request: false } => sync("me", "you", *document, data),
        Inbound::Sync { document, data, request: true } => request("me", "you", *document, data),
        Inbound::Unavailable { document } => doc_unavailable("me", "you", *document),
        Inbound::Ephemeral(message) if message.count < 1 << 53 => ephemeral("you", message),
        Inbound::RemoteHeadsChanged { document, heads } if heads.iter().all(|heads| heads.timestamp < 1 << 53) => {
            remote_heads_changed("me", "you", *document, heads)
        }
        Inbound::Ephemeral(_)
        | Inbound::RemoteHeadsChanged { .. }
        | Inbound::Join(_)
        | Inbound::RemoteSubscriptionChange { .. }
        | Inbound::Leave
        | Inbound::Unknown(_) => return,
    };
    assert_eq!(decode(&said), Ok(read));
});
