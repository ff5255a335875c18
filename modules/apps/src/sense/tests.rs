use notify::event::{DataChange, MetadataKind, RemoveKind};
use proptest::prelude::*;

use super::*;

const CREATE: EventKind = EventKind::Create(CreateKind::File);
const OPEN: EventKind = EventKind::Access(AccessKind::Open(AccessMode::Any));
const WRITE: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
const CLOSE: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

fn feel(sense: &mut Sense, kind: EventKind, path: &str) -> Option<Touch> {
    sense.touch(Event::new(kind).add_path(path.into()))
}

#[test]
fn a_file_that_is_made_by_opening_it_will_be_closed() {
    let mut sense = Sense::default();
    assert_eq!(feel(&mut sense, CREATE, "a"), Some(Touch::Changed("a".into())));
    assert_eq!(feel(&mut sense, OPEN, "a"), Some(Touch::Written("a".into())));
    assert_eq!(feel(&mut sense, OPEN, "a"), None, "somebody reads it");
    assert_eq!(feel(&mut sense, WRITE, "a"), Some(Touch::Written("a".into())));
    assert_eq!(feel(&mut sense, CLOSE, "a"), Some(Touch::Closed("a".into())));
}

#[test]
fn opening_a_file_that_was_there_means_nothing() {
    assert_eq!(feel(&mut Sense::default(), OPEN, "a"), None);
}

#[test]
fn what_leaves_its_path_is_gone_and_what_comes_is_changed() {
    let mut sense = Sense::default();
    let rename = |mode| EventKind::Modify(ModifyKind::Name(mode));
    assert_eq!(feel(&mut sense, rename(RenameMode::From), "a"), Some(Touch::Gone("a".into())));
    assert_eq!(feel(&mut sense, rename(RenameMode::To), "b"), Some(Touch::Changed("b".into())));
    assert_eq!(feel(&mut sense, rename(RenameMode::Both), "a"), None);
    assert_eq!(feel(&mut sense, EventKind::Remove(RemoveKind::Folder), "d"), Some(Touch::Gone("d".into())));
    let rights = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
    assert_eq!(feel(&mut sense, rights, "a"), Some(Touch::Changed("a".into())));
    assert_eq!(feel(&mut sense, EventKind::Create(CreateKind::Folder), "d"), Some(Touch::Changed("d".into())));
    assert_eq!(sense.touch(Event::new(EventKind::Any)), None, "an event without a path");
}

proptest! {
    #[test]
    fn what_is_remembered_is_bounded(paths in proptest::collection::vec("[a-z]{1,3}", 0..300)) {
        let mut sense = Sense::default();
        for path in paths {
            feel(&mut sense, CREATE, &path);
        }
        prop_assert!(sense.created.len() <= MOST_CREATED);
    }
}
