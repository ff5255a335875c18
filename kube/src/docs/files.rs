//! Documents into files, and back.
use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use admin::{DocumentName, Imported, LONGEST_FILE};
use anyhow::Context as _;
use indicatif::ProgressBar;
use serde::Serialize;

use super::{Desk, List, Scope, Stop, bar, path, words};
use crate::terminal;

/// How an automerge file's name ends.
const ENDING: &str = "automerge";

#[derive(Serialize)]
struct Written {
    #[serde(flatten)]
    name: DocumentName,
    file: PathBuf,
    bytes: u64,
}

#[derive(Serialize)]
struct Taken {
    file: PathBuf,
    #[serde(flatten)]
    imported: Imported,
}

pub(super) async fn export(desk: &Desk, mut words: Vec<String>, all: bool, scope: &Scope) -> Result<(), Stop> {
    let to = PathBuf::from(words.pop().unwrap_or_default());
    let space = scope.space.as_deref();
    if all != words.is_empty() {
        let text = "say which documents and then where to: `kube docs export ID... TO`, or `kube docs export --all TO`";
        return Err(Stop::Usage(text.to_owned()));
    }
    let mut writer = Writer { desk, shown: List::new(scope.json), count: 0, bytes: 0 };
    if all {
        // The spaces come one after the other, so this sees whether there are several.
        let (mut pages, mut spaces, mut count) = (desk.pages(space), Vec::new(), 0);
        while let Some(page) = pages.next().await? {
            count += page.len() as u64;
            spaces.extend(page.into_iter().map(|document| document.name.space));
            spaces.dedup();
        }
        let (bar, mut pages) = (bar(count), desk.pages(space));
        while let Some(page) = pages.next().await? {
            for document in page {
                let folder = if spaces.len() > 1 { to.join(&document.name.space) } else { to.clone() };
                writer.write(document.name, &folder, None, &bar).await?;
            }
        }
        bar.finish_and_clear();
    } else {
        let is_file = words.len() == 1 && to.extension() == Some(OsStr::new(ENDING)) && !to.is_dir();
        let mut names = Vec::new();
        for id in &words {
            names.push(desk.find(id, space).await?.name);
        }
        let several = names.iter().any(|name| name.space != names[0].space);
        let bar = bar(names.len() as u64);
        for name in names {
            if is_file {
                let folder = to.parent().unwrap_or(Path::new("")).to_owned();
                writer.write(name, &folder, to.file_name(), &bar).await?;
            } else {
                let folder = if several { to.join(&name.space) } else { to.clone() };
                writer.write(name, &folder, None, &bar).await?;
            }
        }
        bar.finish_and_clear();
    }
    let Writer { shown, count, bytes, .. } = writer;
    if !scope.json {
        terminal::note(format!("{count} written, {}", words::size(bytes)));
    }
    Ok(shown.done("")?)
}

struct Writer<'a> {
    desk: &'a Desk,
    shown: List,
    count: u64,
    bytes: u64,
}

impl Writer<'_> {
    /// Writes one document: the file is there whole, or as it was before.
    async fn write(
        &mut self,
        name: DocumentName,
        folder: &Path,
        file: Option<&OsStr>,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let cannot = || format!("cannot write into {}", folder.display());
        fs::create_dir_all(folder).with_context(cannot)?;
        let mut new = tempfile::Builder::new().prefix(".").suffix(".new").tempfile_in(folder).with_context(cannot)?;
        match self.desk.client.copy(&format!("{}/file", path(&name)), new.as_file_mut()).await {
            Ok(()) => {}
            // It was deleted since it was listed.
            Err(admin::ClientError::Refused(why)) if why.starts_with("there is no document") => {
                bar.suspend(|| terminal::warn(why));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        let bytes = new.as_file().metadata().with_context(cannot)?.len();
        new.as_file_mut().flush().and_then(|()| new.as_file().sync_all()).with_context(cannot)?;
        let path = folder.join(file.map_or_else(|| format!("{}.{ENDING}", name.id).into(), OsStr::to_owned));
        new.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
        (self.count, self.bytes) = (self.count + 1, self.bytes + bytes);
        bar.inc(1);
        bar.suspend(|| {
            self.shown.row("", &Written { name, file: path, bytes }, |written| written.file.display().to_string())
        })
    }
}

pub(super) async fn import(desk: &Desk, paths: &[PathBuf], scope: &Scope) -> anyhow::Result<()> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            find(path, None, &mut files)?;
        } else {
            files.push((path.clone(), None));
        }
    }
    anyhow::ensure!(!files.is_empty(), "there are no .{ENDING} files there");
    let (mut shown, mut failed, bar) = (List::new(scope.json), 0, bar(files.len() as u64));
    for (file, folder) in &files {
        let space = scope.space.as_deref().or(folder.as_deref());
        match take(desk, file, space).await {
            Ok(imported) => bar.suspend(|| {
                shown.row("", &Taken { file: file.clone(), imported }, |Taken { file, imported }| {
                    let Imported { name: DocumentName { space, id }, changes, .. } = imported;
                    format!("{}: {changes} new changes in {id} of the space {space:?}", file.display())
                })
            })?,
            // One that is no good is no reason to leave the others.
            Err(error) => {
                failed += 1;
                bar.suspend(|| terminal::complain(format!("{}: {error:#}", file.display())));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    shown.done("")?;
    anyhow::ensure!(failed == 0, "{failed} of {} files are not imported", files.len());
    Ok(())
}

/// The automerge files of a folder, and, by space, of the folders in it.
fn find(folder: &Path, space: Option<&str>, files: &mut Vec<(PathBuf, Option<String>)>) -> anyhow::Result<()> {
    let cannot = || format!("cannot read {}", folder.display());
    let entries = fs::read_dir(folder).with_context(cannot)?.collect::<Result<Vec<_>, _>>().with_context(cannot)?;
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if path.is_dir() && space.is_none() && words::space(name).is_ok() {
            find(&path, Some(name), files)?;
        } else if path.is_file() && path.extension() == Some(OsStr::new(ENDING)) {
            files.push((path, space.map(str::to_owned)));
        }
    }
    Ok(())
}

async fn take(desk: &Desk, file: &Path, space: Option<&str>) -> anyhow::Result<Imported> {
    let length = fs::metadata(file).context("cannot read it")?.len();
    anyhow::ensure!(length <= LONGEST_FILE as u64, "it is longer than {} MiB", LONGEST_FILE >> 20);
    let bytes = fs::read(file).context("cannot read it")?;
    let space = space.map(|space| words::space(space).map(|space| format!("space={space}"))).transpose()?;
    // Any other name says nothing.
    let name = file.file_stem().and_then(OsStr::to_str).and_then(|stem| words::id(stem).ok());
    let name = name.map(|name| format!("name={name}"));
    let query: Vec<_> = space.into_iter().chain(name).collect();
    Ok(desk.client.send(&format!("/v1/files?{}", query.join("&")), bytes.into()).await?)
}
