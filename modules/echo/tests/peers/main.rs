//! The peer from outside: real WebSockets, a real server, and clients that speak automerge's sync protocol.
mod access;
mod faults;
mod harness;
mod junk;
mod sync;
