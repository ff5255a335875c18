//! Pure: from the path of a request to the path of a file.
use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Why a path names nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is not a path: a broken escape, bytes that are not UTF-8, a control character, a `.` or `..` segment.
    Malformed,
    /// It is below a name that begins with a dot, which only `/.well-known` may.
    Hidden,
}

/// Decodes the path of a request to a path of a manifest: relative, a final `/` for a folder, empty for the root.
///
/// Escapes are decoded once. A manifest has no way out, yet what would climb out of a folder on a disk is refused,
/// however often it is escaped: a proxy in front, or whoever reads the log, may decode again.
pub(crate) fn decode(raw: &str) -> Result<Cow<'_, str>, Refused> {
    let raw = raw.strip_prefix('/').ok_or(Refused::Malformed)?;
    if !raw.contains('%') {
        return contained(raw).map(|()| raw.into());
    }
    if !escapes_are_whole(raw) {
        return Err(Refused::Malformed);
    }
    let once = percent_decode_str(raw).decode_utf8().map_err(|_| Refused::Malformed)?;
    contained(&once)?;
    if once.contains('%') {
        contained(&percent_decode_str(&once).decode_utf8_lossy())?;
    }
    Ok(once)
}

fn escapes_are_whole(raw: &str) -> bool {
    raw.split('%').skip(1).all(|after| after.len() >= 2 && after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
}

fn contained(path: &str) -> Result<(), Refused> {
    if path.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(Refused::Malformed);
    }
    let mut hidden = false;
    for (index, segment) in path.split(['/', '\\']).enumerate() {
        if segment == "." || segment == ".." {
            return Err(Refused::Malformed);
        }
        hidden |= segment.starts_with('.') && (index, segment) != (0, ".well-known");
    }
    if hidden { Err(Refused::Hidden) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_and_escaped_paths_are_decoded_once() {
        for (raw, path) in [
            ("/", ""),
            ("/index.html", "index.html"),
            ("/docs/", "docs/"),
            ("/a%20b/%C3%BC.txt", "a b/ü.txt"),
            ("/a%2Fb", "a/b"),
            ("/100%25", "100%"),
            ("/%2541", "%41"),
            ("/.well-known/security.txt", ".well-known/security.txt"),
            ("//evil.example", "/evil.example"),
            ("/a...b/..c", "a...b/..c"),
        ] {
            let hidden = path.split('/').any(|segment| segment.starts_with('.') && segment != ".well-known");
            let want = if hidden { Err(Refused::Hidden) } else { Ok(Cow::Borrowed(path)) };
            assert_eq!(decode(raw), want, "{raw}");
        }
    }

    #[test]
    fn every_way_out_is_refused() {
        for raw in [
            "",
            "a",
            "*",
            "/..",
            "/../etc/passwd",
            "/a/../b",
            "/./a",
            "/%2e%2e/etc",
            "/%2E./etc",
            "/..%2fetc",
            "/..%5cetc",
            "/..\\etc",
            "/a/%2e%2e%2f%2e%2e/etc",
            "/%252e%252e/etc",
            "/%252e%252e%252fetc",
            "/a%00b",
            "/a%2500b",
            "/%c0%ae%c0%ae/etc",
            "/%e0%80%ae/x",
            "/%ff",
            "/%",
            "/%2",
            "/%zz",
            "/a%0d%0aX:y",
            "/%7f",
        ] {
            assert_eq!(decode(raw), Err(Refused::Malformed), "{raw}");
        }
    }

    #[test]
    fn names_with_a_dot_are_hidden_but_for_well_known() {
        for raw in ["/.git/config", "/.env", "/a/.ssh/id", "/%2egit/x", "/%252egit", "/a%2f.git", "/x/.well-known/y"] {
            assert_eq!(decode(raw), Err(Refused::Hidden), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn no_decoded_path_escapes(raw in "/([a-z./\\\\%]|%2e|%2E|%2f|%5c|%25|%00|%c0%ae|\\.\\.){0,24}") {
            if let Ok(path) = decode(&raw) {
                for segment in path.split(['/', '\\']) {
                    prop_assert!(segment != ".." && segment != ".");
                    prop_assert!(!segment.contains('\0'));
                }
            }
        }

        #[test]
        fn any_string_is_decoded_or_refused(raw in ".{0,64}") {
            if let Ok(path) = decode(&raw) {
                let disk = std::path::Path::new("/blobs").join(path.trim_start_matches('/'));
                prop_assert!(disk.starts_with("/blobs"));
                prop_assert!(disk.components().all(|part| part != std::path::Component::ParentDir));
            }
        }
    }
}
