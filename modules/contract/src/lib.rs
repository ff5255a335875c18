//! What a module of KUBE is, and the supervisor that runs them.
//!
//! # What it does
//! A [`Module`] is one capability: it is bound, run, reloaded and stopped. An [`Appliance`] is a list of bound modules;
//! starting it gives [`Running`], which supervises, reloads and stops them.
//!
//! # What it promises
//! - *The bind rule*: nothing is spawned before every module is bound, so every start-up failure appears before anyone
//!   is served.
//! - *The reload rule*: a reload happens completely or not at all.
//! - *The fall rule*: a module that falls (error, panic, early return) loses its own tasks, and never another's.
//! - *The drain rule*: one signal asks all modules to stop, one deadline cuts off what remains.
//!
//! # How it works
//! ```text
//!   bind ----> add ----> start --+--> supervise(module 1) --> run(cx) --falls--> back-off --> run(cx) ...
//!                                +--> supervise(module 2) --> ...
//!                                             | health
//!                                             v
//!                                           Board ----> metrics, admin, systemd
//! ```
//!
//! # What a person can set
//! Nothing: [`Limits`] has good numbers.
//!
//! # What it deliberately does not do
//! It knows no module, no config format, no signal and no process: those are the binary's.
mod context;
mod health;
mod module;
mod supervisor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use context::Context;
pub use health::{Board, Health, Report, Reporter};
pub use module::{Commit, Module};
pub use supervisor::{Appliance, Fell, Limits, Refused, Running};

/// Any error, once it has left the module that typed it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
