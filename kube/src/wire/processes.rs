//! The processes, for the admin API, and what hosting does for them.
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::{FutureExt, future::BoxFuture};
use hosting::Routes;

use crate::control::Control;

/// Leads requests to processes.
#[derive(Debug)]
pub(super) struct Front(pub(super) Routes);

impl processes::Front for Front {
    fn set(&self, routes: Vec<(processes::Name, processes::Route, processes::Protocol)>) {
        let routes = routes.into_iter().map(|(process, route, protocol)| hosting::Route {
            process: process.into(),
            host: route.label,
            path: route.path,
            protocol: match protocol {
                processes::Protocol::Http1 => hosting::Protocol::Http1,
                processes::Protocol::H2c => hosting::Protocol::H2c,
            },
        });
        self.0.set(routes.collect());
    }

    fn lead(&self, process: &processes::Name, lead: processes::Lead) {
        self.0.lead(
            process.as_str(),
            match lead {
                processes::Lead::To(address) => hosting::Lead::To(address),
                processes::Lead::Soon => hosting::Lead::Soon,
                processes::Lead::Nowhere(why) => hosting::Lead::Nowhere(why),
            },
        );
    }

    fn drained(&self, process: &processes::Name, target: SocketAddr) -> BoxFuture<'static, ()> {
        self.0.drained(process.as_str(), target).boxed()
    }
}

/// Where processes are kept, and who knows where their routes are.
pub(super) struct Processes {
    pub(super) handle: processes::Handle,
    pub(super) control: Arc<Control>,
}

impl admin::Processes for Processes {
    fn list(&self) -> BoxFuture<'_, Vec<admin::ProcessStatus>> {
        async { self.handle.list().await.into_iter().map(|status| self.shown(status)).collect() }.boxed()
    }

    fn order(&self, name: String, order: admin::ProcessOrder) -> BoxFuture<'_, Result<admin::ProcessStatus, String>> {
        async move {
            let done = match order {
                admin::ProcessOrder::Start => self.handle.start(&name).await,
                admin::ProcessOrder::Stop => self.handle.stop(&name).await,
                admin::ProcessOrder::Restart => self.handle.restart(&name).await,
            };
            done.map(|status| self.shown(status)).map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn is_apart(&self, pid: i32) -> bool {
        self.handle.is_apart(pid)
    }
}

impl Processes {
    /// A process as the admin API shows it.
    fn shown(&self, status: processes::Status) -> admin::ProcessStatus {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        admin::ProcessStatus {
            name: status.name.into(),
            state: status.state.to_owned(),
            detail: status.detail,
            since: seconds(status.since),
            pid: status.pid,
            restarts: status.restarts,
            last_failure: status.last_failure,
            url: status.route.map(|route| self.control.address(&route.label, &route.path)),
            port: status.port,
            next: status.next.map(seconds),
            apart: status.apart,
            memory: status.memory,
            warnings: status.warnings,
        }
    }
}
