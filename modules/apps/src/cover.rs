//! Which folders are watched, and whom a change at a path concerns.
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::{
    name::Name,
    tree::{Place, is_hidden},
};

/// What is watched, by canonical paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cover {
    /// The apps folder.
    folder: PathBuf,
    /// Apps whose folder is a link to somewhere else.
    places: BTreeMap<Name, Place>,
}

/// Whom a change concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Concern {
    /// These apps, none when it is nothing that is served.
    Apps(Vec<Name>),
    /// An entry of the apps folder that has no app's name.
    Stranger,
    /// A watched folder itself: it is not where it was.
    Watched,
}

impl Cover {
    /// Watches `folder`, and what its links lead to.
    pub(crate) fn new(folder: PathBuf, places: BTreeMap<Name, Place>) -> Self {
        Self { folder, places }
    }

    /// The folders that are watched with all that is in them. None is in another.
    pub(crate) fn deep(&self) -> BTreeSet<&Path> {
        let elsewhere = self.places.values().filter_map(|place| place.real.as_deref());
        let all: BTreeSet<&Path> = elsewhere.chain([self.folder.as_path()]).collect();
        let is_inner = |path: &Path| path.ancestors().skip(1).any(|above| all.contains(above));
        all.iter().copied().filter(|path| !is_inner(path)).collect()
    }

    /// The folders that are watched alone, for a link in them.
    pub(crate) fn flat(&self) -> BTreeSet<&Path> {
        let deep = self.deep();
        let links = self.places.values().flat_map(|place| &place.links).filter_map(|link| link.parent());
        links.filter(|folder| !folder.ancestors().any(|above| deep.contains(above))).collect()
    }

    /// Whom a change at `path` concerns.
    pub(crate) fn concern(&self, path: &Path) -> Concern {
        if path == self.folder || self.places.values().any(|place| place.real.as_deref() == Some(path)) {
            return Concern::Watched;
        }
        let mut apps = Vec::new();
        if let Ok(below) = path.strip_prefix(&self.folder) {
            let mut parts = below.iter();
            match parts.next().and_then(|part| part.to_str()?.parse::<Name>().ok()) {
                Some(name) if !parts.any(is_hidden) => apps.push(name),
                Some(_) => {}
                None if below.iter().count() == 1 && !below.iter().any(is_hidden) => return Concern::Stranger,
                None => {}
            }
        }
        for (name, place) in &self.places {
            let below = place.real.as_ref().and_then(|real| path.strip_prefix(real).ok());
            if below.is_some_and(|below| !below.iter().any(is_hidden)) || place.links.iter().any(|link| link == path) {
                apps.push(name.clone());
            }
        }
        apps.dedup();
        Concern::Apps(apps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn cover() -> Cover {
        let place = |real: &str, links: &[&str]| Place {
            real: Some(real.into()),
            links: links.iter().map(PathBuf::from).collect(),
        };
        let places = BTreeMap::from([
            (name("shop"), place("/srv/shop/releases/5", &["/apps/shop", "/srv/shop/current"])),
            (name("twin"), place("/srv/shop/releases/5/docs", &["/apps/twin"])),
        ]);
        Cover::new("/apps".into(), places)
    }

    #[test]
    fn no_folder_is_watched_twice() {
        let cover = cover();
        assert_eq!(cover.deep(), BTreeSet::from([Path::new("/apps"), Path::new("/srv/shop/releases/5")]));
        assert_eq!(cover.flat(), BTreeSet::from([Path::new("/srv/shop")]));
    }

    #[test]
    fn a_change_concerns_every_app_that_it_is_in() {
        let cover = cover();
        for (path, apps) in [
            ("/apps/notes/index.html", vec!["notes"]),
            ("/apps/notes", vec!["notes"]),
            ("/apps/notes/.git/index", vec![]),
            ("/apps/notes/.well-known/x", vec!["notes"]),
            ("/apps/shop", vec!["shop"]),
            ("/srv/shop/current", vec!["shop"]),
            ("/srv/shop/other", vec![]),
            ("/srv/shop/releases/5/a.css", vec!["shop"]),
            ("/srv/shop/releases/5/docs/a.css", vec!["shop", "twin"]),
            ("/apps/Bad Name/index.html", vec![]),
            ("/apps/.staging", vec![]),
        ] {
            let apps = apps.into_iter().map(name).collect();
            assert_eq!(cover.concern(Path::new(path)), Concern::Apps(apps), "{path}");
        }
        assert_eq!(cover.concern(Path::new("/apps/Bad Name")), Concern::Stranger);
        for watched in ["/apps", "/srv/shop/releases/5", "/srv/shop/releases/5/docs"] {
            assert_eq!(cover.concern(Path::new(watched)), Concern::Watched, "{watched}");
        }
    }
}
