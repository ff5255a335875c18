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
        for folder in folders.ancestors().take(2) {
            let mode = fs::metadata(folder)?.mode();
            if mode & 0o001 == 0 {
                fs::set_permissions(folder, Permissions::from_mode(mode & 0o7777 | 0o001))?;
            }
        }
    }
    Ok(())
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
