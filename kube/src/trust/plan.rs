//! Pure: which stores of authorities are changed on a machine, and by which commands.
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::config::SYSTEM_FILE;

/// Where Debian looks for authorities of this machine's own, and what then tells programs of them
/// ([update-ca-certificates(8)](https://manpages.debian.org/update-ca-certificates)).
pub(super) const SYSTEM: &str = "/usr/local/share/ca-certificates";
pub(super) const UPDATE: &str = "/usr/sbin/update-ca-certificates";
/// What changes a database of NSS.
pub(super) const CERTUTIL: &str = "certutil";
/// The database that Chromium and its kin look into, below the folder of a user
/// ([Chromium](https://chromium.googlesource.com/chromium/src/+/refs/heads/main/docs/linux/cert_management.md)).
pub(super) const SHARED: &str = ".pki/nssdb";

/// What is wanted of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The authority is to be in it.
    Install,
    /// It is not to be in it.
    Uninstall,
}

impl Order {
    fn word(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Uninstall => "uninstall",
        }
    }
}

/// What there is on a machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub is_root: bool,
    /// Whether it has Debian's store.
    pub has_debians: bool,
    /// Whether the authority, or an older one, is in that.
    pub is_in_debians: bool,
    /// Whether the folder of the user is that of who asks.
    pub is_own_home: bool,
    pub databases: Vec<Database>,
}

/// A folder with a database of NSS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Database {
    pub folder: PathBuf,
    /// Whether it has to be made.
    pub is_new: bool,
}

/// What is done about one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Debian's store is changed.
    System,
    /// A database of NSS is changed.
    Database(Database),
    /// Nothing, because of something that a person can change.
    Leave { name: &'static str, why: String },
}

const DEBIANS: &str = "Debian's store";

impl Step {
    /// What people call the store.
    pub(super) fn name(&self) -> String {
        match self {
            Self::System => DEBIANS.to_owned(),
            Self::Database(database) => database.folder.display().to_string(),
            Self::Leave { name, .. } => (*name).to_owned(),
        }
    }
}

/// What is done about each store. `again` is what root can type.
pub(super) fn plan(order: Order, machine: &Machine, again: &str) -> Vec<Step> {
    let mut steps = vec![system(order, machine, again)];
    let is_wanted = |database: &&Database| order == Order::Install || !database.is_new;
    let databases = machine.databases.iter().filter(is_wanted).cloned().map(Step::Database);
    steps.extend(databases);
    if steps.len() == 1 {
        let why = match (machine.is_own_home, order) {
            (false, _) => format!("the home folder is another user's: run `kube trust {}` as that user", order.word()),
            (true, Order::Install) => {
                "no browser has a database here yet: start Chromium or Firefox once, then again".to_owned()
            }
            (true, Order::Uninstall) => "no browser has a database here".to_owned(),
        };
        steps.push(Step::Leave { name: "Browsers", why });
    }
    steps
}

fn system(order: Order, machine: &Machine, again: &str) -> Step {
    let leave = |why: String| Step::Leave { name: DEBIANS, why };
    match order {
        Order::Install if !machine.has_debians => {
            leave(format!("there is no {UPDATE}: on Debian and Ubuntu, `apt install ca-certificates`"))
        }
        // What is not there needs no one's leave to be taken away.
        Order::Uninstall if !machine.is_in_debians => Step::System,
        Order::Install | Order::Uninstall if !machine.is_root => leave(format!("only root may change it: {again}")),
        Order::Install | Order::Uninstall => Step::System,
    }
}

/// The same command as root, by this program, with this config file; without one, with the folders of this user, which the
/// authority is in: `is_moved` when XDG_DATA_HOME says where.
pub(super) fn again(order: Order, program: &str, file: Option<&Path>, is_moved: bool) -> String {
    let word = order.word();
    let moved = if is_moved { " XDG_DATA_HOME=\"$XDG_DATA_HOME\"" } else { "" };
    match file {
        Some(file) if file == Path::new(SYSTEM_FILE) => format!("`sudo {program} trust {word}`"),
        Some(file) => format!("`sudo {program} --config {} trust {word}`", file.display()),
        None => format!("`sudo env HOME=\"$HOME\"{moved} {program} trust {word}`"),
    }
}

/// A program, and what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    pub program: &'static str,
    pub arguments: Vec<OsString>,
}

/// Tells programs what is in Debian's store now.
pub(super) fn update(order: Order) -> Tool {
    let arguments = match order {
        Order::Install => Vec::new(),
        // Else links to what is gone stay where programs look.
        Order::Uninstall => vec!["--fresh".into()],
    };
    Tool { program: UPDATE, arguments }
}

/// Makes a database that no password protects, as browsers make it.
pub(super) fn create(folder: &Path) -> Tool {
    certutil(folder, ["-N".into(), "--empty-password".into()])
}

/// Lists what is in a database; see [`count`].
pub(super) fn list(folder: &Path) -> Tool {
    certutil(folder, ["-L".into()])
}

/// Adds an authority that vouches for servers, and for nothing else.
pub(super) fn add(folder: &Path, nickname: &str, authority: &Path) -> Tool {
    certutil(
        folder,
        ["-A".into(), "-t".into(), "C,,".into(), "-n".into(), nickname.into(), "-i".into(), authority.into()],
    )
}

/// Takes away one of the certificates with this name.
pub(super) fn delete(folder: &Path, nickname: &str) -> Tool {
    certutil(folder, ["-D".into(), "-n".into(), nickname.into()])
}

fn certutil<const N: usize>(folder: &Path, arguments: [OsString; N]) -> Tool {
    let mut database = OsString::from("sql:");
    database.push(folder);
    let arguments = ["-d".into(), database].into_iter().chain(arguments).collect();
    Tool { program: CERTUTIL, arguments }
}

/// How many certificates of this name `certutil -L` listed: names, which may have spaces, and then what each is trusted for.
pub(super) fn count(listed: &str, nickname: &str) -> usize {
    let name = |line: &str| Some(line.trim_end().rsplit_once(' ')?.0.trim_end() == nickname);
    listed.lines().filter(|line| name(line) == Some(true)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGAIN: &str = "`sudo kube trust install`";

    fn machine() -> Machine {
        let database = |folder: &str, is_new| Database { folder: folder.into(), is_new };
        Machine {
            is_root: false,
            has_debians: true,
            is_in_debians: false,
            is_own_home: true,
            databases: vec![database("/home/you/.pki/nssdb", true), database("/home/you/.mozilla/firefox/x", false)],
        }
    }

    fn left(steps: &[Step]) -> Vec<(&str, &str)> {
        let left = |step| if let &Step::Leave { name, ref why } = step { Some((name, &**why)) } else { None };
        steps.iter().filter_map(left).collect()
    }

    #[test]
    fn a_user_changes_the_own_browsers_and_is_told_what_root_can_do() {
        let steps = plan(Order::Install, &machine(), AGAIN);
        assert_eq!(left(&steps), [(DEBIANS, "only root may change it: `sudo kube trust install`")]);
        assert_eq!(steps[1..], machine().databases.into_iter().map(Step::Database).collect::<Vec<_>>());
        let root = Machine { is_root: true, ..machine() };
        assert_eq!(plan(Order::Install, &root, AGAIN)[0], Step::System);
        let other = Machine { has_debians: false, ..root };
        assert!(left(&plan(Order::Install, &other, AGAIN))[0].1.contains("apt install ca-certificates"));
    }

    #[test]
    fn nothing_is_made_to_take_something_out_of_it_and_what_is_not_there_needs_no_root() {
        let steps = plan(Order::Uninstall, &machine(), AGAIN);
        assert_eq!(steps, [Step::System, Step::Database(machine().databases[1].clone())]);
        let installed = Machine { is_in_debians: true, ..machine() };
        assert_eq!(left(&plan(Order::Uninstall, &installed, AGAIN)).len(), 1);
        let root = Machine { is_root: true, ..installed };
        assert_eq!(plan(Order::Uninstall, &root, AGAIN)[0], Step::System);
    }

    #[test]
    fn where_there_is_no_browser_of_the_user_the_reason_is_told() {
        let none = Machine { databases: Vec::new(), ..machine() };
        assert!(left(&plan(Order::Install, &none, AGAIN))[1].1.contains("start Chromium or Firefox once"));
        let others = Machine { is_own_home: false, is_root: true, ..none };
        assert!(left(&plan(Order::Install, &others, AGAIN))[0].1.contains("as that user"));
    }

    #[test]
    fn root_is_told_to_use_the_same_config() {
        let again = |file: Option<&str>| again(Order::Install, "kube", file.map(Path::new), false);
        assert_eq!(again(Some("/etc/kube/kube.toml")), "`sudo kube trust install`");
        assert_eq!(again(Some("/srv/k.toml")), "`sudo kube --config /srv/k.toml trust install`");
        assert_eq!(again(None), "`sudo env HOME=\"$HOME\" kube trust install`");
    }

    #[test]
    fn a_name_is_found_among_others_that_begin_or_end_like_it() {
        let listed = "\nCertificate Nickname                                         Trust Attributes\n\
                      \x20                                                            SSL,S/MIME,JAR/XPI\n\n\
                      kube-kube.test                                               C,,  \n\
                      kube-kube.test                                               C,,  \n\
                      my kube-kube.test                                            C,,  \n\
                      kube-kube.test.example                                       CT,C,C\n";
        assert_eq!((count(listed, "kube-kube.test"), count(listed, "kube"), count("", "x")), (2, 0, 0));
        assert_eq!(count(listed, "my kube-kube.test"), 1);
    }

    #[test]
    fn certutil_is_told_which_database_first() {
        let tool = add(Path::new("/db"), "kube-x", Path::new("/ca.pem"));
        assert_eq!(tool.arguments, ["-d", "sql:/db", "-A", "-t", "C,,", "-n", "kube-x", "-i", "/ca.pem"]);
    }
}
