//! Pure: what a file system event means to an app.
use std::{collections::VecDeque, path::PathBuf};

use notify::{
    Event, EventKind,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode},
};

use crate::plan::Touch;

/// Files that were created and not opened yet: more than this at once does not happen, for creating opens at once.
const MOST_CREATED: usize = 64;

/// Turns events into touches.
///
/// A file that is created by `open` is announced twice, as created and as opened, and will be announced as closed. One
/// that is created by `link` or `symlink` is not opened: it is complete at once.
#[derive(Debug, Default)]
pub(crate) struct Sense {
    created: VecDeque<PathBuf>,
}

impl Sense {
    /// What `event` means; nothing for most openings, our own among them.
    pub(crate) fn touch(&mut self, event: Event) -> Option<Touch> {
        let kind = event.kind;
        let path = event.paths.into_iter().next()?;
        match kind {
            EventKind::Create(CreateKind::File) => {
                if self.created.len() == MOST_CREATED {
                    self.created.pop_front();
                }
                self.created.push_back(path.clone());
                Some(Touch::Changed(path))
            }
            EventKind::Access(AccessKind::Open(_)) => {
                let created = self.created.iter().position(|created| *created == path)?;
                self.created.remove(created).map(Touch::Written)
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Touch::Closed(path)),
            EventKind::Modify(ModifyKind::Data(_)) => Some(Touch::Written(path)),
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Some(Touch::Gone(path)),
            // Told before as `From` and as `To`.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) | EventKind::Access(_) => None,
            EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => {
                Some(Touch::Changed(path))
            }
        }
    }
}

#[cfg(test)]
mod tests;
