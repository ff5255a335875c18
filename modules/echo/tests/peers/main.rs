//! The peer from outside: real WebSockets, a real server, and clients that speak automerge's sync protocol.
#[cfg(test)]
mod access;
#[cfg(test)]
mod boxes;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod gossip;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod junk;
#[cfg(test)]
mod sweep;
#[cfg(test)]
mod sync;
