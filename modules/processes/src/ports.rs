//! What processes need from others.
use std::{fmt, net::SocketAddr};

use futures_util::future::BoxFuture;

use crate::{Name, Protocol, Route};

/// Whoever leads requests from the web to processes.
pub trait Front: fmt::Debug + Send + Sync + 'static {
    /// These are the routes from now on; what is led for a process that stays, stays.
    fn set(&self, routes: Vec<(Name, Route, Protocol)>);

    /// Leads the requests for `process` there from now on. Those that are under way finish where they are.
    fn lead(&self, process: &Name, lead: Lead);

    /// Waits until nothing is under way of what was led for `process` to `target`.
    fn drained(&self, process: &Name, target: SocketAddr) -> BoxFuture<'static, ()>;
}

/// Where requests for a process go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lead {
    /// To this address.
    To(SocketAddr),
    /// They wait a while: there will be an instance.
    Soon,
    /// Nowhere, and why; the team may know it.
    Nowhere(String),
}
