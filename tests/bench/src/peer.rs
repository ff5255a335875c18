//! Clients of a sync server, and those who replay what was written beforehand.
pub(crate) mod replay;

pub(crate) use kube_peer::{Client, Repo, free_port, get, history, wire};
