//! Pure: from a host and a path to the route that has them.
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Routes by host. The longest path that leads to a request's path wins.
#[derive(Clone, Debug)]
pub(crate) struct Table<T> {
    hosts: Arc<BTreeSet<String>>,
    /// The routes of each host, the longest path first. A path has no final slash; that of a whole host is empty.
    routes: HashMap<String, Vec<(String, T)>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { hosts: Arc::default(), routes: HashMap::new() }
    }
}

impl<T> Table<T> {
    /// A table of hosts, paths and where they lead. Of two routes with one host and path the first counts.
    pub(crate) fn new(routes: impl IntoIterator<Item = (String, String, T)>) -> Self {
        let mut table = Self::default();
        for (host, path, to) in routes {
            let path = path.trim_end_matches('/').to_owned();
            table.routes.entry(host.to_ascii_lowercase()).or_default().push((path, to));
        }
        for routes in table.routes.values_mut() {
            routes.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        }
        table.hosts = Arc::new(table.routes.keys().cloned().collect());
        table
    }

    /// The hosts that have routes.
    pub(crate) fn hosts(&self) -> &Arc<BTreeSet<String>> {
        &self.hosts
    }

    /// Where a request for `path`, as it was sent, goes on `host`, a label in lower case.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<&T> {
        let routes = self.routes.get(host)?;
        routes.iter().find(|(prefix, _)| leads_to(prefix, path)).map(|(_, to)| to)
    }
}

/// Whether `path` is `prefix`, or below it.
fn leads_to(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) || prefix.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(routes: &[(&str, &str)]) -> Table<usize> {
        Table::new(routes.iter().enumerate().map(|(index, (host, path))| (host.to_string(), path.to_string(), index)))
    }

    #[test]
    fn the_longest_path_wins_and_ends_at_a_segment() {
        let table = table(&[("up", "/"), ("up", "/api"), ("up", "/api/v2/"), ("Shop", "/cart"), ("up", "/api")]);
        for (host, path, want) in [
            ("up", "/", Some(0)),
            ("up", "*", Some(0)),
            ("up", "/apix", Some(0)),
            ("up", "/API", Some(0)),
            ("up", "/%61pi", Some(0)),
            ("up", "//api", Some(0)),
            ("up", "/api", Some(1)),
            ("up", "/api/", Some(1)),
            ("up", "/api/v1", Some(1)),
            ("up", "/api/v22", Some(1)),
            ("up", "/api/v2", Some(2)),
            ("up", "/api/v2/x", Some(2)),
            ("shop", "/", None),
            ("shop", "/cart/1", Some(3)),
            ("other", "/", None),
        ] {
            assert_eq!(table.find(host, path), want.as_ref(), "{host} {path}");
        }
        assert_eq!(table.hosts().iter().collect::<Vec<_>>(), ["shop", "up"]);
    }

    proptest! {
        #[test]
        fn what_is_found_begins_with_the_path_of_the_route(
            prefixes in proptest::collection::vec("(/[ab]{1,2}){0,3}/?", 0..6),
            path in "(/[ab]{0,2}){1,4}",
        ) {
            let routes: Vec<_> = prefixes.iter().map(|path| ("h", &**path)).collect();
            let segments = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
            let fits = |prefix: &str| segments(&path).starts_with(&segments(prefix.trim_end_matches('/')));
            let want = prefixes.iter().filter(|prefix| fits(prefix)).map(|prefix| prefix.trim_end_matches('/').len()).max();
            let found = table(&routes).find("h", &path).map(|index| prefixes[*index].trim_end_matches('/').len());
            prop_assert_eq!(found, want);
        }
    }
}
