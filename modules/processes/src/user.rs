//! Users, and the folders that processes have for themselves.
use std::{
    ffi::CString,
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown},
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Uid, User, getgrouplist};

use crate::{Name, entry::Identity};

/// Most files of a process's folder that change hands; a folder with more is left to a person.
const MOST: usize = 1_000_000;

/// The user of that name or number, with its groups; a number that no user has is in a group of the same number.
pub(crate) fn find(text: &str) -> io::Result<Option<Identity>> {
    let number = text.parse::<u32>().ok();
    let found = match number {
        Some(uid) => User::from_uid(Uid::from_raw(uid))?,
        None => User::from_name(text)?,
    };
    let Some(user) = found else {
        return Ok(number.map(|uid| Identity { uid, gid: uid, groups: Vec::new() }));
    };
    let groups = getgrouplist(&CString::new(user.name)?, user.gid)?;
    Ok(Some(Identity {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.into_iter().map(Gid::as_raw).collect(),
    }))
}

/// Makes the folder of folders. With `shared`, other users may walk through it and through the folder above, and not list them.
pub(crate) fn prepare(folders: &Path, shared: bool) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folders)?;
    if shared {
        // The one above first: it closes what is in it.
        folders.parent().map_or(Ok(()), open)?;
        open(folders)?;
    }
    Ok(())
}

/// Lets other users walk through a folder. What is in it was out of their reach by that alone, and stays so by itself.
fn open(folder: &Path) -> io::Result<()> {
    let mode = fs::metadata(folder)?.mode() & 0o7777;
    if mode & 0o001 != 0 {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.metadata()?;
        if !found.is_symlink() && found.mode() & 0o007 != 0 {
            fs::set_permissions(entry.path(), Permissions::from_mode(found.mode() & 0o7770))?;
        }
    }
    fs::set_permissions(folder, Permissions::from_mode(mode | 0o001))
}

/// A folder above `folder` that the user `uid` cannot walk through, unless by a group.
pub(crate) fn closed(folder: &Path, uid: u32) -> Option<PathBuf> {
    let closed = |folder: &&Path| fs::metadata(folder).is_ok_and(|it| it.mode() & 0o001 == 0 && it.uid() != uid);
    folder.ancestors().find(closed).map(Path::to_owned)
}

/// Makes the folder of a process, or gives it to `owner` if another had it.
pub(crate) fn folder(folders: &Path, name: &Name, owner: Option<&Identity>) -> io::Result<PathBuf> {
    let folder = folders.join(name.as_str());
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let found = fs::symlink_metadata(&folder)?;
    if !found.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let uid = owner.map_or_else(|| Uid::effective().as_raw(), |it| it.uid);
    let gid = owner.map_or_else(|| Gid::effective().as_raw(), |it| it.gid);
    if found.uid() != uid {
        give(&folder, found.uid(), (uid, gid))?;
    }
    Ok(folder)
}

/// Gives `folder` and what `from` had in it to another; what a third had there (a hard link, say) stays theirs.
///
/// The folder itself is last: what was cut off half-way goes on the next time.
fn give(folder: &Path, from: u32, (uid, gid): (u32, u32)) -> io::Result<()> {
    let mut left = vec![folder.to_owned()];
    let mut given = Vec::new();
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten() {
            let entry = entry?;
            let found = entry.metadata()?;
            if found.is_dir() {
                left.push(entry.path());
            }
            if found.uid() == from {
                given.push(entry.path());
            }
            if given.len() > MOST {
                return Err(io::Error::other(format!(
                    "it has more than {MOST} files of user {from}: chown it by hand"
                )));
            }
        }
    }
    given.iter().try_for_each(|path| lchown(path, Some(uid), Some(gid)))?;
    lchown(folder, Some(uid), Some(gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_folder_is_opened_and_what_is_in_it_is_closed() {
        let data = tempfile::tempdir().unwrap();
        fs::set_permissions(data.path(), Permissions::from_mode(0o700)).unwrap();
        fs::create_dir(data.path().join("apps")).unwrap();
        fs::write(data.path().join("lock"), "").unwrap();
        for (name, mode) in [("apps", 0o755), ("lock", 0o644)] {
            fs::set_permissions(data.path().join(name), Permissions::from_mode(mode)).unwrap();
        }
        let folders = data.path().join("processes");
        prepare(&folders, false).unwrap();
        assert_eq!((mode(data.path()), mode(&folders)), (0o700, 0o700));
        prepare(&folders, true).unwrap();
        assert_eq!((mode(data.path()), mode(&folders)), (0o701, 0o701));
        assert_eq!((mode(&data.path().join("apps")), mode(&data.path().join("lock"))), (0o750, 0o640));
        assert_eq!(closed(&folders, u32::MAX), None);
        fs::set_permissions(data.path(), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(closed(&folders, u32::MAX).as_deref(), Some(data.path()));
    }

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let root = find("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(find("0").unwrap().unwrap().uid, 0);
        let nobody = Identity { uid: 1_999_999_999, gid: 1_999_999_999, groups: Vec::new() };
        assert_eq!(find("1999999999").unwrap(), Some(nobody));
        assert_eq!(find("no-such-user-here").unwrap(), None);
    }

    #[test]
    fn a_folder_follows_its_owner() {
        let folders = tempfile::tempdir().unwrap();
        let name = "bot".parse().unwrap();
        let made = folder(folders.path(), &name, None).unwrap();
        assert_eq!(mode(&made), 0o700);
        fs::write(made.join("file"), "").unwrap();
        if !Uid::effective().is_root() {
            // Nobody else may give a file away (chown(2)).
            return;
        }
        let owner = Identity { uid: 1_999_999_999, gid: 1_999_999_998, groups: Vec::new() };
        assert_eq!(folder(folders.path(), &name, Some(&owner)).unwrap(), made);
        for path in [made.clone(), made.join("file")] {
            let found = fs::metadata(path).unwrap();
            assert_eq!((found.uid(), found.gid()), (owner.uid, owner.gid));
        }
        // What another has there stays theirs.
        lchown(made.join("file"), Some(7), Some(7)).unwrap();
        folder(folders.path(), &name, None).unwrap();
        assert_eq!(fs::metadata(made.join("file")).unwrap().uid(), 7);
    }
}
