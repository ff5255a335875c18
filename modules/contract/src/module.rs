//! The contract between a module and the appliance.
use std::{error::Error, future::Future};

use crate::Context;

/// One capability of the appliance.
///
/// A module is built by its own `bind` constructor, which opens every socket and file it needs and spawns nothing. From
/// then on the supervisor owns it.
pub trait Module: Send + Sync + 'static {
    /// The module's table in `kube.toml`.
    type Config: PartialEq + Send + Sync + 'static;
    /// What can go wrong after `bind`.
    type Error: Error + Send + Sync + 'static;

    /// Table name, log field and metric prefix.
    const NAME: &'static str;

    /// Serves until [`Context::stopped`], finishes what it started, returns.
    ///
    /// Returning earlier, even with `Ok`, is a failure: the supervisor cancels the module's tasks and calls `run` again
    /// after a delay. It takes `&self` because sockets live in the module: a second `run` serves the same port.
    fn run(&self, cx: Context) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Makes everything `new` needs, without touching what is live.
    ///
    /// The appliance commits only when every changed module has prepared, so a reload happens completely or not at all.
    fn prepare(&self, new: &Self::Config) -> Result<Commit<'_>, Self::Error>;
}

/// The half of a reload that cannot fail.
#[must_use = "dropping a commit abandons the reload"]
pub struct Commit<'a>(Box<dyn FnOnce() + Send + 'a>);

impl<'a> Commit<'a> {
    /// A reload that still has to be applied.
    pub fn new(apply: impl FnOnce() + Send + 'a) -> Self {
        Self(Box::new(apply))
    }

    /// Applies the reload.
    pub(crate) fn apply(self) {
        (self.0)();
    }
}
