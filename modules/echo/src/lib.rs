//! Stub.
#[doc(hidden)]
pub mod wire;
