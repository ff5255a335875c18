//! Pure: what can go wrong, and the order in which it does.
use kube_peer::dice::Dice;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// `kill -9`, at any moment.
    Kill,
    /// `kill -9` while a commit is being flushed.
    KillInCommit,
    /// `kill -9` while documents are compacted, or their snapshots committed.
    KillInCompaction,
    /// A power cut at a flush of the log.
    CutInCommit,
    /// A power cut while the log is moved into the database.
    CutInCheckpoint,
    /// A power cut while the snapshots of a compaction are committed.
    CutInCompaction,
    /// It is asked to stop, and started again.
    Stop,
    /// Clients lose their connections, and go on writing.
    Disconnect,
    /// Clients read nothing for a while.
    Stall,
    /// The disk is full, but for a few pages.
    Full,
    /// The disk is mounted read-only.
    ReadOnly,
    /// Writes fail.
    BrokenWrites,
    /// Flushes fail.
    BrokenFlushes,
    /// Reads fail.
    BrokenReads,
    /// Every flush takes long.
    Slow,
    /// Some flushes take seconds.
    Hiccups,
    /// The clock jumps.
    Clock,
    /// The whole process stands still for a while, as a paused machine does.
    Freeze,
    /// A bit of a copy of the data flips.
    BitRot,
}

impl Fault {
    pub(crate) const ALL: [Self; 19] = [
        Self::Kill,
        Self::KillInCommit,
        Self::KillInCompaction,
        Self::CutInCommit,
        Self::CutInCheckpoint,
        Self::CutInCompaction,
        Self::Stop,
        Self::Disconnect,
        Self::Stall,
        Self::Full,
        Self::ReadOnly,
        Self::BrokenWrites,
        Self::BrokenFlushes,
        Self::BrokenReads,
        Self::Slow,
        Self::Hiccups,
        Self::Clock,
        Self::Freeze,
        Self::BitRot,
    ];

    /// Whether the process is another one after it.
    pub(crate) fn ends_process(self) -> bool {
        use Fault::{
            BitRot, CutInCheckpoint, CutInCommit, CutInCompaction, Kill, KillInCommit, KillInCompaction, Stop,
        };
        [Kill, KillInCommit, KillInCompaction, CutInCommit, CutInCheckpoint, CutInCompaction, Stop, BitRot]
            .contains(&self)
    }
}

/// All faults in a random order, then all again in another.
#[derive(Debug)]
pub(crate) struct Deck {
    dice: Dice,
    left: Vec<Fault>,
}

impl Deck {
    pub(crate) fn new(dice: Dice) -> Self {
        Self { dice, left: Vec::new() }
    }

    /// The next one; one that leaves the process alone, if it is to.
    pub(crate) fn draw(&mut self, keeps_process: bool) -> Fault {
        loop {
            let Some(fault) = self.left.pop() else {
                self.left = Fault::ALL.to_vec();
                self.dice.shuffle(&mut self.left);
                continue;
            };
            if !(keeps_process && fault.ends_process()) {
                return fault;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_gives_one_order_in_which_every_fault_comes_once() {
        let draw = |seed, keeps| {
            let mut deck = Deck::new(Dice::new(seed));
            (0..Fault::ALL.len()).map(|_| deck.draw(keeps)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, false), draw(7, false));
        assert_ne!(draw(7, false), draw(8, false));
        assert_eq!(draw(7, false).into_iter().collect::<BTreeSet<_>>().len(), Fault::ALL.len());
        assert!(draw(7, true).iter().all(|fault| !fault.ends_process()));
    }
}
