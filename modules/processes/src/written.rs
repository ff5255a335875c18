//! Pure: what a person writes about a process that is more than a number or a word.
use std::{fmt, str::FromStr};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

/// A text that is not what its option wants.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WrittenError {
    /// No signal is called so.
    #[error("{0:?} is no signal: write SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH or SIGKILL")]
    Signal(String),
    /// No share of processor time.
    #[error("{0} is no number of cores: write 0.5, say, and at least 0.01")]
    Cpus(f64),
    /// Nothing on the web is called so.
    #[error("{0:?} leads nowhere: write the label below the domain, and a path if need be: \"chat\" or \"shop/api\"")]
    Route(String),
}

/// The signal that asks a process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct StopSignal(pub Signal);

const SIGNALS: [(&str, Signal); 8] = [
    ("SIGTERM", Signal::TERM),
    ("SIGINT", Signal::INT),
    ("SIGQUIT", Signal::QUIT),
    ("SIGHUP", Signal::HUP),
    ("SIGUSR1", Signal::USR1),
    ("SIGUSR2", Signal::USR2),
    ("SIGWINCH", Signal::WINCH),
    ("SIGKILL", Signal::KILL),
];

impl Default for StopSignal {
    fn default() -> Self {
        Self(Signal::TERM)
    }
}

impl TryFrom<String> for StopSignal {
    type Error = WrittenError;

    fn try_from(text: String) -> Result<Self, WrittenError> {
        let found = SIGNALS.iter().find(|(name, _)| *name == text || name.strip_prefix("SIG") == Some(&text));
        found.map(|(_, signal)| Self(*signal)).ok_or(WrittenError::Signal(text))
    }
}

impl From<StopSignal> for String {
    fn from(signal: StopSignal) -> Self {
        let found = SIGNALS.iter().find(|(_, other)| *other == signal.0);
        found.expect("made from the list").0.to_owned()
    }
}

/// Processor time, in cores.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Cpus(f64);

impl Cpus {
    /// Microseconds in each tenth of a second, as `cpu.max` has it
    /// ([cgroup v2](https://docs.kernel.org/admin-guide/cgroup-v2.html)).
    pub fn quota(self) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0.01 and 1024")]
        let quota = (self.0 * 100_000.0) as u64;
        quota
    }
}

impl TryFrom<f64> for Cpus {
    type Error = WrittenError;

    fn try_from(cores: f64) -> Result<Self, WrittenError> {
        if (0.01..=1024.0).contains(&cores) { Ok(Self(cores)) } else { Err(WrittenError::Cpus(cores)) }
    }
}

impl From<Cpus> for f64 {
    fn from(cpus: Cpus) -> Self {
        cpus.0
    }
}

/// What on the web leads to a process: `LABEL`, or `LABEL/PATH`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Route {
    /// The label below the domain.
    pub label: String,
    /// The path, from `/` on, without one at the end.
    pub path: String,
}

impl FromStr for Route {
    type Err = WrittenError;

    fn from_str(text: &str) -> Result<Self, WrittenError> {
        let wrong = || WrittenError::Route(text.to_owned());
        let (label, path) = text.split_once('/').unwrap_or((text, ""));
        let is_label = !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.starts_with('-')
            && !label.ends_with('-');
        let path = path.trim_end_matches('/');
        let is_segment = |segment: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(is_plain)
        };
        if !is_label || !path.is_empty() && !path.split('/').all(is_segment) {
            return Err(wrong());
        }
        Ok(Self { label: label.to_owned(), path: format!("/{path}") })
    }
}

impl TryFrom<String> for Route {
    type Error = WrittenError;

    fn try_from(text: String) -> Result<Self, WrittenError> {
        text.parse()
    }
}

impl From<Route> for String {
    fn from(route: Route) -> Self {
        route.to_string()
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.label, self.path.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_a_label_and_perhaps_a_path() {
        for (text, label, path) in [("api", "api", "/"), ("shop/api", "shop", "/api"), ("a/b/c/", "a", "/b/c")] {
            let route: Route = text.parse().unwrap();
            assert_eq!((&*route.label, &*route.path), (label, path));
            assert_eq!(route.to_string(), text.trim_end_matches('/'));
        }
        for text in ["", "/", "/api", "Shop", "a b", "a//b", "a/../b", "-a", "a.b", "a/%2e"] {
            assert_eq!(text.parse::<Route>(), Err(WrittenError::Route(text.to_owned())));
        }
    }

    #[test]
    fn a_signal_has_its_name() {
        for text in ["SIGINT", "INT"] {
            assert_eq!(StopSignal::try_from(text.to_owned()), Ok(StopSignal(Signal::INT)));
        }
        assert_eq!(String::from(StopSignal::default()), "SIGTERM");
        StopSignal::try_from("SIGSTOP".to_owned()).unwrap_err();
    }

    #[test]
    fn cores_are_a_quota() {
        assert_eq!(Cpus::try_from(1.5).unwrap().quota(), 150_000);
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            Cpus::try_from(wrong).unwrap_err();
        }
    }
}
