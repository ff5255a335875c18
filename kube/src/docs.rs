//! `kube docs`: lists the documents of a running KUBE, and looks after them.
//!
//! Each request is about one document or one page, so that neither side holds more, however many there are.
mod files;
mod words;

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use admin::{At, Client, DocumentName, DocumentStatus, Findings, HistoryPage, Page};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{outcome::Outcome, terminal};

pub(crate) use words::{minute, size};

/// Without a command it lists them.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Docs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: Scope,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, as `kube docs` alone does
    List(Scope),
    /// Print what a document holds, as JSON
    Get {
        #[command(flatten)]
        one: One,
        /// As it was then: a time (UTC), `2h` ago, or hashes as `kube docs history` shows them
        #[arg(long, value_name = "TIME|HEADS", value_parser = point)]
        at: Option<At>,
    },
    /// Show the changes of a document, the newest first
    History {
        #[command(flatten)]
        one: One,
        /// Not more than so many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// Write documents into automerge files
    Export {
        /// The documents, then the folder to write into; for one document also a file that ends with .automerge
        #[arg(required = true, value_name = "ID... TO")]
        words: Vec<String>,
        /// All documents
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        scope: Scope,
    },
    /// Take automerge files in, and merge them with what is there
    Import {
        /// Files, or folders of .automerge files; a file that is named by an id is that document, any other a new one
        #[arg(required = true, value_name = "FILE|FOLDER")]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        scope: Scope,
    },
    /// Delete documents for good: who still has them does not bring them back
    Delete {
        /// The documents
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        scope: Scope,
    },
    /// Make a document as it was, by a change on top: its history stays
    Restore {
        #[command(flatten)]
        one: One,
        /// When: a time (UTC), `2h` ago, or hashes as `kube docs history` shows them
        #[arg(long, value_name = "TIME|HEADS", value_parser = point)]
        at: At,
    },
    /// Check what is stored of all documents, or of some; exit code 1 when something is damaged
    Verify {
        /// The documents [default: all]
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        /// Set aside what is damaged, so that the rest is served
        #[arg(long)]
        repair: bool,
        #[command(flatten)]
        scope: Scope,
    },
}

/// Which documents, and for whom.
#[derive(Debug, Args)]
struct Scope {
    /// Those of one space
    #[arg(long, value_name = "NAME")]
    space: Option<String>,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// One document.
#[derive(Debug, Args)]
struct One {
    /// The document, as `kube docs` or an automerge: address names it
    id: String,
    #[command(flatten)]
    scope: Scope,
}

/// Why a command did not do what was asked.
enum Stop {
    /// It cannot be asked like this.
    Usage(String),
    /// Something went wrong.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

pub(crate) async fn execute(docs: Docs, socket: &Path) -> Outcome {
    match run(docs, socket).await {
        Ok(()) => Outcome::Done,
        Err(Stop::Usage(text)) => {
            terminal::complain(text);
            Outcome::Usage
        }
        // Whoever reads has seen enough.
        Err(Stop::Failed(error)) if is_broken_pipe(&error) => Outcome::Done,
        Err(Stop::Failed(error)) => Outcome::failed(format!("{error:#}")),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
}

async fn run(docs: Docs, socket: &Path) -> Result<(), Stop> {
    let desk = Desk { client: Client::connect(socket).await? };
    match docs.command {
        None => desk.list(&docs.list).await?,
        Some(Command::List(scope)) => desk.list(&scope).await?,
        Some(Command::Get { one, at }) => desk.get(&one, at).await?,
        Some(Command::History { one, limit }) => desk.history(&one, limit.unwrap_or(u64::MAX)).await?,
        Some(Command::Export { words, all, scope }) => files::export(&desk, words, all, &scope).await?,
        Some(Command::Import { paths, scope }) => files::import(&desk, &paths, &scope).await?,
        Some(Command::Delete { ids, yes, scope }) => desk.delete(&ids, yes, &scope).await?,
        Some(Command::Restore { one, at }) => desk.restore(&one, &at).await?,
        Some(Command::Verify { ids, repair, scope }) => desk.verify(&ids, repair, &scope).await?,
    }
    Ok(())
}

/// Where documents are asked for.
struct Desk {
    client: Client,
}

impl Desk {
    /// The document of this id: the only one, or the one in the space.
    async fn find(&self, id: &str, space: Option<&str>) -> anyhow::Result<DocumentStatus> {
        let id = words::id(id)?;
        let mut found: Vec<DocumentStatus> = self.client.get(&format!("/v1/documents/{id}")).await?;
        found.retain(|found| space.is_none_or(|space| space == found.name.space));
        let spaces: Vec<_> = found.iter().map(|found| found.name.space.clone()).collect();
        match (found.pop(), space) {
            (Some(only), _) if found.is_empty() => Ok(only),
            (Some(_), _) => {
                anyhow::bail!("document {id} is in the spaces {}: say which with --space", spaces.join(", "))
            }
            (None, Some(space)) => {
                anyhow::bail!("there is no document {id} in the space {space:?}: `kube docs` lists them")
            }
            (None, None) => anyhow::bail!("there is no document {id}: `kube docs` lists them"),
        }
    }

    /// The documents of one space, or of all, page by page.
    fn pages<'a>(&'a self, space: Option<&'a str>) -> Pages<'a> {
        Pages { desk: self, space, after: None, is_done: false }
    }

    /// How many documents there are.
    async fn count(&self, space: Option<&str>) -> anyhow::Result<u64> {
        let (mut pages, mut count) = (self.pages(space), 0);
        while let Some(page) = pages.next().await? {
            count += page.len() as u64;
        }
        Ok(count)
    }

    async fn list(&self, scope: &Scope) -> anyhow::Result<()> {
        let (mut pages, mut shown) = (self.pages(scope.space.as_deref()), List::new(scope.json));
        while let Some(page) = pages.next().await? {
            for document in page {
                shown.row(words::HEAD, &document, words::row)?;
            }
        }
        shown.done("there are no documents")
    }

    async fn get(&self, one: &One, at: Option<At>) -> anyhow::Result<()> {
        let path = self.path(one).await?;
        let mut out = io::BufWriter::new(io::stdout());
        match at {
            Some(at) => self.client.copy_with(&path, &at, &mut out).await?,
            None => self.client.copy(&path, &mut out).await?,
        }
        out.write_all(b"\n").and_then(|()| out.flush()).context("cannot write to standard output")
    }

    async fn history(&self, one: &One, mut left: u64) -> anyhow::Result<()> {
        let path = self.path(one).await?;
        let (mut shown, mut before) = (List::new(one.scope.json), None);
        while left > 0 {
            let from = before.map(|before: u64| format!("?before={before}")).unwrap_or_default();
            let page: HistoryPage = self.client.get(&format!("{path}/history{from}")).await?;
            for change in page.changes.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                shown.row(words::HISTORY_HEAD, change, words::change)?;
                left -= 1;
            }
            before = page.before;
            if before.is_none() {
                break;
            }
        }
        shown.done("it has no changes")
    }

    async fn delete(&self, ids: &[String], yes: bool, scope: &Scope) -> Result<(), Stop> {
        let mut found = Vec::new();
        for id in ids {
            found.push(self.find(id, scope.space.as_deref()).await?);
        }
        if !yes {
            if !io::stdin().is_terminal() {
                let text = "nothing is deleted without being asked: say --yes where nobody can answer";
                return Err(Stop::Usage(text.to_owned()));
            }
            for document in &found {
                terminal::note(words::row(document));
            }
            if !agrees(found.len())? {
                terminal::note("nothing is deleted");
                return Ok(());
            }
        }
        let mut shown = List::new(scope.json);
        for document in &found {
            let () = self.client.delete(&path(&document.name)).await?;
            shown.row("", &document.name, |name| format!("deleted {} from the space {:?}", name.id, name.space))?;
        }
        Ok(shown.done("")?)
    }

    async fn restore(&self, one: &One, at: &At) -> anyhow::Result<()> {
        let path = self.path(one).await?;
        let was_otherwise: bool = self.client.create(&format!("{path}/restore"), at).await?;
        let document = self.find(&one.id, one.scope.space.as_deref()).await?;
        if one.scope.json {
            let restored = Restored { name: &document.name, changed: was_otherwise, heads: &document.heads };
            terminal::say(serde_json::to_string_pretty(&restored)?);
        } else if was_otherwise {
            terminal::say(format!("{} is as it was; change {} did that", document.name.id, document.heads.join(", ")));
        } else {
            terminal::say(format!("{} is as it was already", document.name.id));
        }
        Ok(())
    }

    async fn verify(&self, ids: &[String], repair: bool, scope: &Scope) -> anyhow::Result<()> {
        let mut report = Report { json: scope.json, checked: 0, damaged: 0, documents: Vec::new() };
        if ids.is_empty() {
            let bar = bar(self.count(scope.space.as_deref()).await?);
            let mut pages = self.pages(scope.space.as_deref());
            while let Some(page) = pages.next().await? {
                for document in page {
                    self.check(document.name, repair, &mut report, &bar).await?;
                }
            }
            bar.finish_and_clear();
        } else {
            let bar = bar(ids.len() as u64);
            for id in ids {
                let name = self.find(id, scope.space.as_deref()).await?.name;
                self.check(name, repair, &mut report, &bar).await?;
            }
            bar.finish_and_clear();
        }
        report.done(repair)
    }

    async fn check(
        &self,
        name: DocumentName,
        repair: bool,
        report: &mut Report,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        let verb = if repair { "repair" } else { "verify" };
        let found = match self.client.post(&format!("{}/{verb}", path(&name))).await {
            Ok(found) => found,
            // It may have been deleted meanwhile; anything else is damage that cannot even be looked at.
            Err(admin::ClientError::Refused(why)) if why.starts_with("there is no document") => return Ok(()),
            Err(admin::ClientError::Refused(why)) => Findings { problems: vec![why], aside: 0, repaired: false },
            Err(error) => return Err(error.into()),
        };
        bar.inc(1);
        bar.suspend(|| report.take(name, found));
        Ok(())
    }

    /// Where the one document is asked for.
    async fn path(&self, one: &One) -> anyhow::Result<String> {
        Ok(path(&self.find(&one.id, one.scope.space.as_deref()).await?.name))
    }
}

fn path(DocumentName { space, id }: &DocumentName) -> String {
    format!("/v1/documents/{space}/{id}")
}

/// The documents, page by page.
struct Pages<'a> {
    desk: &'a Desk,
    space: Option<&'a str>,
    after: Option<DocumentName>,
    is_done: bool,
}

impl Pages<'_> {
    async fn next(&mut self) -> anyhow::Result<Option<Vec<DocumentStatus>>> {
        if self.is_done {
            return Ok(None);
        }
        let space = self.space.map(|space| words::space(space).map(|space| format!("space={space}"))).transpose()?;
        let after = self.after.as_ref().map(|after| format!("after_space={}&after_id={}", after.space, after.id));
        let query: Vec<_> = space.into_iter().chain(after).collect();
        let page: Page = self.desk.client.get(&format!("/v1/documents?{}", query.join("&"))).await?;
        self.after = page.documents.last().map(|last| last.name.clone());
        self.is_done = !page.has_more || self.after.is_none();
        Ok(Some(page.documents))
    }
}

#[derive(Serialize)]
struct Restored<'a> {
    #[serde(flatten)]
    name: &'a DocumentName,
    changed: bool,
    heads: &'a [String],
}

/// What a check found so far.
#[derive(Serialize)]
struct Report {
    #[serde(skip)]
    json: bool,
    checked: u64,
    damaged: u64,
    /// Those of which there is something to say.
    documents: Vec<Checked>,
}

#[derive(Serialize)]
struct Checked {
    #[serde(flatten)]
    name: DocumentName,
    #[serde(flatten)]
    found: Findings,
}

impl Report {
    fn take(&mut self, name: DocumentName, found: Findings) {
        self.checked += 1;
        self.damaged += u64::from(!found.problems.is_empty());
        if found.problems.is_empty() && found.aside == 0 {
            return;
        }
        if self.json {
            self.documents.push(Checked { name, found });
        } else {
            terminal::say(words::findings(&name, &found));
        }
    }

    fn done(self, repair: bool) -> anyhow::Result<()> {
        let Self { checked, damaged, .. } = self;
        if self.json {
            terminal::say(serde_json::to_string_pretty(&self)?);
        } else {
            terminal::note(format!("{checked} checked, {damaged} damaged"));
        }
        let left = if repair { "what could be served is served" } else { "`--repair` sets aside what is damaged" };
        anyhow::ensure!(damaged == 0, "{damaged} of {checked} documents are damaged: {left}");
        Ok(())
    }
}

/// Rows that are printed as they come: a table for people, an array for programs.
struct List {
    json: bool,
    is_empty: bool,
}

impl List {
    fn new(json: bool) -> Self {
        Self { json, is_empty: true }
    }

    fn row<T: Serialize>(&mut self, head: &str, row: &T, words: impl Fn(&T) -> String) -> anyhow::Result<()> {
        let is_first = std::mem::take(&mut self.is_empty);
        if self.json {
            let before = if is_first { "[\n  " } else { ",\n  " };
            print(format_args!("{before}{}", serde_json::to_string(row)?))?;
        } else {
            let head = if is_first && !head.is_empty() { format!("{head}\n") } else { String::new() };
            print(format_args!("{head}{}\n", words(row)))?;
        }
        Ok(())
    }

    /// Says what there is to say when there was nothing.
    fn done(self, nothing: &str) -> anyhow::Result<()> {
        match (self.json, self.is_empty) {
            (true, true) => terminal::say("[]"),
            (true, false) => print(format_args!("\n]\n"))?,
            (false, true) if !nothing.is_empty() => terminal::note(nothing),
            (false, _) => {}
        }
        Ok(())
    }
}

/// Prints without an end of line.
fn print(text: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    io::stdout().lock().write_fmt(text).context("cannot write to standard output")
}

/// A bar on a terminal, and nothing elsewhere.
fn bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A point in a document's history.
fn point(text: &str) -> Result<At, String> {
    words::point(text, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Asks whether so many documents are to be deleted.
fn agrees(count: usize) -> anyhow::Result<bool> {
    let what = if count == 1 { "this document".to_owned() } else { format!("these {count} documents") };
    ask(&format!("Delete {what} for everyone? Only an export brings them back. [y/N] "))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn ask(question: &str) -> anyhow::Result<()> {
    let mut out = io::stderr().lock();
    out.write_all(question.as_bytes()).and_then(|()| out.flush()).context("cannot ask")
}
