//! Pure: the text of an `env_file`.
//!
//! What systemd.exec(5) reads from an `EnvironmentFile`, and Docker from an `--env-file`, is read here too:
//!
//! - `NAME=value`, one a line. Blanks around the name and around the value are left out. `export ` may stand before it.
//! - Empty lines, and lines that begin with `#` or `;`, say nothing. A `#` further on is part of a value.
//! - `'...'` is a value as it stands, and `"..."` one in which `\"`, `\\`, `\$` and `` \` `` are the character and `\n` is
//!   the end of a line. Both may go over several lines. Outside of them a `\` is a `\`.
//!
//! Nothing is expanded: `$HOME` is five characters. No line is continued by a `\` at its end, except between `"`, where
//! both are left out. Where a name is there twice, the later one counts.
use std::{iter::Peekable, str::CharIndices};

/// Longest text, in bytes.
pub const LONGEST: usize = 64 << 10;

/// Why a text is no environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvFileError {
    /// Longer than [`LONGEST`].
    #[error("longer than {LONGEST} bytes")]
    Long,
    /// A line that says nothing about a variable.
    #[error("line {line}: {wrong}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        wrong: Wrong,
    },
}

/// What can be wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It has no `=`.
    #[error("write NAME=value")]
    Form,
    /// Its name has other characters than letters, digits and `_`, or begins with a digit.
    #[error("a name has letters, digits and `_`, and does not begin with a digit")]
    Name,
    /// A quote that is not closed.
    #[error("the {0} that begins here has no end")]
    Open(char),
    /// Something after the quote that ends a value.
    #[error("nothing comes after the closing {0}")]
    After(char),
    /// A NUL, which no variable can have.
    #[error("a value has no NUL")]
    Nul,
}

/// The variables that a text says, in its order.
///
/// # Errors
/// What the first line is that says none, and why.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, EnvFileError> {
    if text.len() > LONGEST {
        return Err(EnvFileError::Long);
    }
    let mut variables = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while !rest.is_empty() {
        let before = text.len() - rest.len();
        rest = entry(rest, &mut variables).map_err(|wrong| {
            let line = text[..before].matches('\n').count() + 1;
            EnvFileError::Line { line, wrong }
        })?;
    }
    Ok(variables)
}

/// Reads what begins with this line; returns the text after it.
fn entry<'a>(text: &'a str, variables: &mut Vec<(String, String)>) -> Result<&'a str, Wrong> {
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(after);
    }
    let (name, _) = line.split_once('=').ok_or(Wrong::Form)?;
    let name = name.trim_end();
    let name = name.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])).unwrap_or(name).trim_start();
    let is_name = |(at, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || at > 0 && c.is_ascii_digit();
    if name.is_empty() || !name.char_indices().all(is_name) {
        return Err(Wrong::Name);
    }
    let (_, value) = text.split_once('=').ok_or(Wrong::Form)?;
    let value = value.trim_start_matches([' ', '\t']);
    let (value, after) = match value.chars().next() {
        Some(quote @ ('\'' | '"')) => quoted(&value[1..], quote)?,
        _ => (value.split('\n').next().unwrap_or_default().trim_end().to_owned(), after),
    };
    if value.contains('\0') {
        return Err(Wrong::Nul);
    }
    variables.push((name.to_owned(), value));
    Ok(after)
}

/// The value up to the quote that closes it, and the text after its line.
fn quoted(text: &str, quote: char) -> Result<(String, &str), Wrong> {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        match c {
            _ if c == quote => {
                let after = &text[at + 1..];
                let (line, after) = after.split_once('\n').unwrap_or((after, ""));
                return if line.trim().is_empty() { Ok((value, after)) } else { Err(Wrong::After(quote)) };
            }
            '\\' if quote == '"' => escaped(&mut characters, &mut value),
            _ => value.push(c),
        }
    }
    Err(Wrong::Open(quote))
}

/// What a `\` between `"` means with what follows it; itself, if nothing else.
fn escaped(characters: &mut Peekable<CharIndices<'_>>, value: &mut String) {
    match characters.next_if(|(_, c)| "\"\\$`n\n".contains(*c)) {
        Some((_, 'n')) => value.push('\n'),
        Some((_, '\n')) => {}
        Some((_, itself)) => value.push(itself),
        None => value.push('\\'),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    fn value(text: &str) -> String {
        let [(_, value)] = &read(&format!("A={text}"))[..] else { panic!("{text:?}") };
        value.clone()
    }

    #[test]
    fn lines_are_names_and_values() {
        let text = "# one\n; two\n\n A = a b \nexport B=\r\nexport\tC=c=d # e\n\t#\n_D1=x";
        let expected = [("A", "a b"), ("B", ""), ("C", "c=d # e"), ("_D1", "x")];
        assert_eq!(read(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(read("\u{feff}A=1\nA=2\n"), [("A".to_owned(), "1".to_owned()), ("A".to_owned(), "2".to_owned())]);
        assert_eq!(read("export=1"), [("export".to_owned(), "1".to_owned())]);
        assert_eq!(read(""), []);
    }

    #[test]
    fn quotes_hold_blanks_and_lines() {
        assert_eq!(value(r#"" a ""#), " a ");
        assert_eq!(value("' a '  "), " a ");
        assert_eq!(value("'a\nb'\nB=c".strip_suffix("\nB=c").unwrap()), "a\nb");
        assert_eq!(value("\"\""), "");
        assert_eq!(value("\"a # b\""), "a # b");
        assert_eq!(value("it's"), "it's");
        assert_eq!(read("A=\"x\ny\"\nB='=\n#'\n").len(), 2);
    }

    #[test]
    fn a_backslash_means_something_between_double_quotes_alone() {
        assert_eq!(value(r#""a\"b\\c\$d\`e\nf""#), "a\"b\\c$d`e\nf");
        assert_eq!(value(r#""\w\t""#), r"\w\t");
        assert_eq!(value("\"a\\\nb\""), "ab");
        assert_eq!(value(r"'a\n\'"), r"a\n\");
        assert_eq!(value(r"C:\new"), r"C:\new");
    }

    #[test]
    fn nothing_is_expanded() {
        for text in ["$HOME", "${HOME}", "`id`", "~"] {
            assert_eq!(value(text), text);
            assert_eq!(value(&format!("'{text}'")), text);
        }
        assert_eq!(value("\"$HOME\""), "$HOME");
    }

    #[test]
    fn what_is_wrong_is_told_by_line() {
        for (text, line, wrong) in [
            ("A", 1, Wrong::Form),
            ("A=1\n\nB\nC=1", 3, Wrong::Form),
            ("A='\n\n'\nB", 4, Wrong::Form),
            ("=1", 1, Wrong::Name),
            ("1A=1", 1, Wrong::Name),
            ("A B=1", 1, Wrong::Name),
            ("A-B=1", 1, Wrong::Name),
            ("#\nÄ=1", 2, Wrong::Name),
            ("A=1\nB=\"a\\\"\n", 2, Wrong::Open('"')),
            ("A='", 1, Wrong::Open('\'')),
            ("A='a' b", 1, Wrong::After('\'')),
            ("A=\"a\"b\"", 1, Wrong::After('"')),
            ("A=a\0", 1, Wrong::Nul),
        ] {
            assert_eq!(parse(text), Err(EnvFileError::Line { line, wrong }), "{text:?}");
        }
        let told = parse("A='").unwrap_err().to_string();
        assert_eq!(told, "line 1: the ' that begins here has no end");
    }

    #[test]
    fn a_long_text_is_no_environment() {
        let long = format!("A={}", "x".repeat(LONGEST));
        assert_eq!(parse(&long), Err(EnvFileError::Long));
        assert_eq!(read(&long[..LONGEST]).len(), 1);
    }

    proptest! {
        #[test]
        fn any_value_can_be_written(name in "[A-Za-z_][A-Za-z0-9_]{0,9}", wanted in "[^\0]{0,40}", after in "[ \t]{0,3}") {
            let mut escaped = wanted.clone();
            for special in ["\\", "\"", "$", "`"] {
                escaped = escaped.replace(special, &format!("\\{special}"));
            }
            let text = format!("#'\n{name}=\"{escaped}\"{after}\nLAST=x");
            prop_assert_eq!(read(&text), [(name, wanted), ("LAST".to_owned(), "x".to_owned())]);
        }

        #[test]
        fn whatever_is_written_is_read_or_refused(text in "([A=\n\r'\"\\\\ #x]|.){0,60}") {
            if let Ok(variables) = parse(&text) {
                prop_assert!(variables.len() <= text.matches('=').count());
                for (name, value) in variables {
                    prop_assert!(!name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
                }
            }
        }
    }
}
