//! Pure: reads a TOML text strictly and finds *every* problem in it, each with its line.
//!
//! serde stops at the first error. So what it complains about is cut out of the document and the rest is read again, until
//! nothing is left to complain about: each round removes at least one entry, so it ends.
use std::{collections::BTreeSet, ops::Range};

use serde::{Deserialize, de::DeserializeOwned};
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer, Error},
};

/// One thing that is wrong, or worth a look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The line of the file, from 1; none when it is not about one line.
    pub line: Option<usize>,
    /// The option (`tls.issuer`), when it is known.
    pub option: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
}

/// A parsed text, which remembers where each option stands.
pub struct Source<'a> {
    text: &'a str,
    document: Spanned<DeTable<'a>>,
}

/// A text that breaks in more places than this is not a config file.
const MOST_PROBLEMS: usize = 100;

impl<'a> Source<'a> {
    /// Parses `text`; returns what could be understood, and what could not.
    pub fn parse(text: &'a str) -> (Self, Vec<Problem>) {
        let (document, errors) = DeTable::parse_recoverable(text);
        let source = Self { text, document };
        let problems = errors.iter().take(MOST_PROBLEMS).map(|error| source.problem(error, None)).collect();
        (source, problems)
    }

    /// Holds the text to the shape of `C`; removes what does not fit, and returns it as problems.
    pub fn fit<C: DeserializeOwned>(&mut self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut removed = BTreeSet::new();
        while let Err(error) = C::deserialize(Deserializer::from(self.document.clone())) {
            let span = error.span().unwrap_or_default();
            let option = remove(self.document.get_mut(), &span, "");
            let missing = error.message().strip_prefix("missing field `").and_then(|m| m.strip_suffix('`'));
            // An option that was cut out because it was wrong is not missing as well.
            let was_cut = |name| removed.contains(&join(option.as_deref().unwrap_or_default(), name));
            if !missing.is_some_and(was_cut) {
                problems.push(self.problem(&error, option.clone()));
            }
            match option {
                Some(option) if problems.len() < MOST_PROBLEMS => removed.insert(option),
                _ => break,
            };
        }
        problems
    }

    /// Where the option at this dotted path stands; its nearest parent, if it is not written.
    pub fn line_of(&self, option: &str) -> Option<usize> {
        self.walk(option).last().map(|start| self.line(start))
    }

    /// Whether the option or table at this dotted path is written.
    pub fn has(&self, option: &str) -> bool {
        self.walk(option).count() == option.split('.').count()
    }

    /// Where each name of the path stands, as far as the path is written.
    fn walk<'s>(&'s self, option: &'s str) -> impl Iterator<Item = usize> + 's {
        let mut table = Some(self.document.get_ref());
        option.split('.').map_while(move |name| {
            let (key, value) = table?.iter().find(|(key, _)| key.get_ref() == name)?;
            table = value.get_ref().as_table();
            Some(key.span().start)
        })
    }

    /// What is left, as plain values.
    pub fn table(&self) -> toml::Table {
        // Every TOML document is a table of values, so there is nothing in it that does not fit.
        toml::Table::deserialize(Deserializer::from(self.document.clone())).unwrap_or_default()
    }

    fn problem(&self, error: &Error, option: Option<String>) -> Problem {
        let line = error.span().map(|span| self.line(span.start));
        Problem { line, option, message: error.message().replace('\n', " ") }
    }

    fn line(&self, offset: usize) -> usize {
        self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
    }
}

/// Removes the innermost entry that `span` points at; returns its dotted path.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>, path: &str) -> Option<String> {
    let mut guilty = None;
    for (key, value) in table.iter_mut() {
        let name = join(path, key.get_ref());
        if let DeValue::Table(inner) = value.get_mut()
            && let Some(found) = remove(inner, span, &name)
        {
            return Some(found);
        }
        if touches(&key.span(), span) || touches(&value.span(), span) {
            guilty = Some((key.clone(), name));
        }
    }
    let (key, name) = guilty?;
    table.remove(&key);
    Some(name)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn touches(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end && !outer.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Default)]
    #[serde(deny_unknown_fields, default)]
    struct Shape {
        name: String,
        inner: Inner,
        list: Vec<std::net::IpAddr>,
        items: std::collections::BTreeMap<String, Item>,
    }

    #[derive(Deserialize, Default)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        port: u16,
        on: bool,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape is used")]
    struct Item {
        command: Vec<String>,
    }

    fn lines(text: &str) -> Vec<(usize, Option<String>)> {
        let (mut source, mut problems) = Source::parse(text);
        problems.extend(source.fit::<Shape>());
        problems.sort();
        problems.into_iter().map(|p| (p.line.unwrap(), p.option)).collect()
    }

    #[test]
    fn every_problem_is_found_with_its_line() {
        let text = "name = 7\nlist = [\"127.0.0.1\", \"x\"]\ncolour = 1\n\n[inner]\nport = 99999\non = \"yes\"\nsize = 1\n\n[items.a]\ncommand = 3\n[items.b]\n[unknown]\nx = 1\n";
        let found = lines(text);
        let expected = [
            (1, "name"),
            (2, "list"),
            (3, "colour"),
            (6, "inner.port"),
            (7, "inner.on"),
            (8, "inner.size"),
            (11, "items.a.command"),
            (12, "items.b"),
            (13, "unknown"),
        ];
        assert_eq!(found, expected.map(|(line, option)| (line, Some(option.to_owned()))));
    }

    #[test]
    fn a_syntax_error_does_not_hide_the_rest() {
        let found: Vec<_> = lines("name = \n[inner]\nport = \"x\"\n").into_iter().map(|(line, _)| line).collect();
        assert_eq!(found, [1, 3]);
    }

    #[test]
    fn the_line_of_an_option_that_is_not_written_is_its_tables() {
        let (source, _) = Source::parse("name = \"a\"\n[inner]\nport = 1\n");
        assert_eq!(source.line_of("inner.port"), Some(3));
        assert_eq!(source.line_of("inner.on"), Some(2));
        assert_eq!(source.line_of("items"), None);
    }
}
