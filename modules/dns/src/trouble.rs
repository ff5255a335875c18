//! What a person should look at, from all parts of the module: its health is good when there is nothing.
use std::sync::{Mutex, PoisonError};

use kube_contract::Context;

/// What parts of the module say.
#[derive(Default)]
pub(crate) struct Troubles(Mutex<Said>);

#[derive(Default)]
struct Said {
    /// Whether queries are answered: before that, nothing is said.
    is_serving: bool,
    of: [Option<String>; 3],
}

/// A part of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What is written on this machine.
    Written,
    /// What others have.
    Secondary,
    /// What the zones above say.
    Delegated,
}

impl Troubles {
    /// Says whether queries are answered.
    pub(crate) fn serve(&self, cx: &Context, is_serving: bool) {
        self.say(cx, |said| said.is_serving = is_serving);
    }

    /// Says what is wrong with a part: nothing, or that.
    pub(crate) fn set(&self, cx: &Context, part: Part, trouble: Option<String>) {
        self.say(cx, |said| said.of[part as usize] = trouble);
    }

    fn say(&self, cx: &Context, change: impl FnOnce(&mut Said)) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut said);
        let troubles: Vec<_> = said.of.iter().flatten().map(String::as_str).collect();
        match (said.is_serving, &*troubles) {
            (false, _) => {}
            (true, []) => cx.ready(),
            (true, _) => cx.degraded(troubles.join("; ")),
        }
    }
}
