//! Pure: what a process says with
//! [sd_notify(3)](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html).
//!
//! Understood are `READY=1`, `RELOADING=1`, `STOPPING=1`, `STATUS=`, `ERRNO=`, `WATCHDOG=1`, `WATCHDOG=trigger`,
//! `WATCHDOG_USEC=` and `EXTEND_TIMEOUT_USEC=`. Everything else is passed over, as that page wants it: among it
//! `MAINPID=`, for the process is the one that KUBE started; `FDSTORE=1`, for no descriptors are kept; and `BARRIER=1`,
//! which is answered by closing the descriptor that comes with it, as is done with all of them.
mod socket;

use std::time::Duration;

pub use self::socket::{Heard, Socket};

/// Longest message, in bytes: what systemd takes.
pub const LONGEST: usize = 4096;

/// Longest status that is kept, in characters.
const LONGEST_STATUS: usize = 256;

/// Longest time that is taken at its word: what is longer is no end.
const LONGEST_TIME: Duration = Duration::from_secs(366 * 24 * 3600);

/// One thing that a process says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is ready: after its start, or after it read its config again.
    Ready,
    /// It reads its config again.
    Reloading,
    /// It ends.
    Stopping,
    /// What it does, for people: one line without control characters.
    Status(String),
    /// It fails, with this error number (errno(3)).
    Errno(i32),
    /// It is alive.
    Alive,
    /// It is to be treated as if it had not been alive in time.
    Stuck,
    /// From now on it is alive so often; zero: it is not to be watched.
    Watchdog(Duration),
    /// What it does now, start or stop, takes so long from now on.
    Extend(Duration),
}

/// Why a message is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    /// Longer than [`LONGEST`].
    #[error("longer than {LONGEST} bytes")]
    Long,
    /// Not UTF-8, or with a NUL in it.
    #[error("not text")]
    NotText,
}

/// What a message says, line by line, without what has no meaning here.
///
/// # Errors
/// It is too long, or no text.
pub fn parse(message: &[u8]) -> Result<Vec<Said>, NotifyError> {
    if message.len() > LONGEST {
        return Err(NotifyError::Long);
    }
    let text = std::str::from_utf8(message).ok().filter(|text| !text.contains('\0')).ok_or(NotifyError::NotText)?;
    Ok(text.split('\n').filter_map(said).collect())
}

fn said(line: &str) -> Option<Said> {
    match line.split_once('=')? {
        ("READY", "1") => Some(Said::Ready),
        ("RELOADING", "1") => Some(Said::Reloading),
        ("STOPPING", "1") => Some(Said::Stopping),
        ("WATCHDOG", "1") => Some(Said::Alive),
        ("WATCHDOG", "trigger") => Some(Said::Stuck),
        ("STATUS", text) => {
            let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
            Some(Said::Status(plain.take(LONGEST_STATUS).collect()))
        }
        ("ERRNO", number) => number.parse().ok().map(Said::Errno),
        ("WATCHDOG_USEC", time) => microseconds(time).map(Said::Watchdog),
        ("EXTEND_TIMEOUT_USEC", time) => microseconds(time).map(Said::Extend),
        _ => None,
    }
}

fn microseconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(|time| Duration::from_micros(time).min(LONGEST_TIME))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_line_says_one_thing() {
        let message = b"READY=1\nSTATUS=Serving 3 people\nMAINPID=4711\nWATCHDOG=1\nWATCHDOG=trigger\nRELOADING=1\n\
                        MONOTONIC_USEC=1\nSTOPPING=1\nERRNO=2\nWATCHDOG_USEC=1500000\nWATCHDOG_USEC=0\n\
                        EXTEND_TIMEOUT_USEC=2000\nBARRIER=1\nFDSTORE=1\nFDNAME=x\nX_OWN=1\n";
        let expected = [
            Said::Ready,
            Said::Status("Serving 3 people".to_owned()),
            Said::Alive,
            Said::Stuck,
            Said::Reloading,
            Said::Stopping,
            Said::Errno(2),
            Said::Watchdog(Duration::from_millis(1500)),
            Said::Watchdog(Duration::ZERO),
            Said::Extend(Duration::from_millis(2)),
        ];
        assert_eq!(parse(message), Ok(expected.into()));
    }

    #[test]
    fn what_has_no_meaning_is_passed_over() {
        for nothing in [
            "",
            "\n\n",
            "READY",
            "READY=",
            "READY=0",
            "READY=yes",
            "ready=1",
            " READY=1",
            "ERRNO=x",
            "WATCHDOG_USEC=-1",
        ] {
            assert_eq!(parse(nothing.as_bytes()), Ok(vec![]), "{nothing:?}");
        }
    }

    #[test]
    fn a_status_is_one_short_line_that_does_nothing_to_a_terminal() {
        assert_eq!(parse(b"STATUS=a\x1b[2Jb\tc\r"), Ok(vec![Said::Status("a [2Jb c ".to_owned())]));
        let long = format!("STATUS={}", "ä".repeat(300));
        assert_eq!(parse(long.as_bytes()), Ok(vec![Said::Status("ä".repeat(256))]));
        assert_eq!(parse(b"STATUS="), Ok(vec![Said::Status(String::new())]));
    }

    #[test]
    fn no_time_is_longer_than_a_year() {
        assert_eq!(parse(b"EXTEND_TIMEOUT_USEC=18446744073709551615"), Ok(vec![Said::Extend(LONGEST_TIME)]));
        assert_eq!(parse(b"EXTEND_TIMEOUT_USEC=18446744073709551616"), Ok(vec![]));
    }

    #[test]
    fn what_is_no_message_is_told() {
        assert_eq!(parse(&[b'x'; LONGEST]), Ok(vec![]));
        assert_eq!(parse(&[b'x'; LONGEST + 1]), Err(NotifyError::Long));
        assert_eq!(parse(b"READY=1\0"), Err(NotifyError::NotText));
        assert_eq!(parse(b"READY=1\n\xff"), Err(NotifyError::NotText));
    }

    proptest! {
        #[test]
        fn whatever_is_said_is_bounded(message in proptest::collection::vec(any::<u8>(), 0..LONGEST + 9)) {
            if let Ok(all) = parse(&message) {
                prop_assert!(all.len() <= message.len() / 7 + 1);
            }
        }

        #[test]
        fn lines_are_understood_each_for_itself(
            lines in proptest::collection::vec(
                prop_oneof!["(READY|STOPPING|WATCHDOG|ERRNO|STATUS|WATCHDOG_USEC)=(1|trigger|[0-9]{1,20}|.{0,9})", "[^\n]{0,9}"],
                0..9,
            ),
        ) {
            let together = parse(lines.join("\n").as_bytes());
            let apart: Result<Vec<_>, _> = lines.iter().map(|line| parse(line.as_bytes())).collect();
            prop_assert_eq!(together, apart.map(|said| said.concat()));
        }
    }
}
