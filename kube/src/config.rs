//! `kube.toml`: one table a module.
//!
//! Two layers. The *source* is the file as written, held strictly to the shape of [`Config`] with every problem found at
//! once. The *config* is what is in force: the source laid over the defaults that follow its domain, paths made absolute,
//! and what one table needs to know of another filled in. A person writes a fact in one place.
mod checks;
pub mod domain;
pub mod source;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use processes::Process;

use self::{
    checks::Checks,
    domain::{Addresses, Domain},
    source::{Problem, Source},
};

/// Everything a person can set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The domain that everything is served under.
    pub domain: Domain,
    /// Whom a certificate authority may write to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Public addresses of this machine.
    pub addresses: Addresses,
    /// The folder of everything this KUBE keeps.
    pub data: PathBuf,
    /// The app at the apex.
    pub home: String,
    /// Listeners and their limits.
    pub hosting: hosting::Config,
    /// Deployed apps.
    pub apps: apps::Config,
    /// Certificates.
    pub tls: tls::Config,
    /// Zones.
    pub dns: dns::Config,
    /// The always-on peer.
    pub echo: echo::Config,
    /// Tokens.
    pub tokens: tokens::Config,
    /// The Prometheus page.
    pub metrics: metrics::Config,
    /// The admin socket.
    pub admin: admin::Config,
    /// Programs that are kept running.
    pub processes: processes::Config,
}

/// The parts of the environment that name places; read once, in `main`.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `$HOME`.
    pub home: Option<PathBuf>,
    /// `$XDG_DATA_HOME`.
    pub data_home: Option<PathBuf>,
    /// `$RUNTIME_DIRECTORY`, from systemd.
    pub runtime_directory: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_home: Option<PathBuf>,
    /// `$JOURNAL_STREAM`, from systemd.
    pub journal_stream: Option<String>,
}

/// A config in force, and what is worth a look in it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// The file that it came from; none in development mode.
    pub file: Option<PathBuf>,
    /// What works, but probably not as meant.
    pub warnings: Vec<Problem>,
}

/// A config that cannot be used: every problem at once.
#[derive(Debug)]
pub struct Unusable {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it, by line.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.problems.iter().map(|problem| describe(&self.file, problem));
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

impl std::error::Error for Unusable {}

/// One line a person, or an editor, can follow: `file:line: option: message`.
pub fn describe(file: &Path, problem: &Problem) -> String {
    let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
    let option = problem.option.as_ref().map(|option| format!("{option}: ")).unwrap_or_default();
    format!("{}{line}: {option}{}", file.display(), problem.message)
}

/// Where the config is when nobody says.
pub const SYSTEM_FILE: &str = "/etc/kube/kube.toml";

/// Larger than any config; what is larger is some other file.
const LARGEST_FILE: u64 = 1 << 20;

/// The config as far as it can be understood: enough to find the socket of a KUBE whose config has been broken since.
pub fn load_for_place(file: Option<&Path>, environment: &Environment) -> Config {
    let file = file.unwrap_or(Path::new(SYSTEM_FILE));
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let text = text_of(&file).unwrap_or_default();
    understand(&text, file.parent().unwrap_or(Path::new("/")), environment).0
}

/// Reads `file`; without one the system's file; without that the defaults, which are development mode.
///
/// # Errors
/// Every problem of the file.
pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Loaded, Unusable> {
    let file = match file {
        Some(file) => Some(std::path::absolute(file).unwrap_or_else(|_| file.to_owned())),
        None => Path::new(SYSTEM_FILE).exists().then(|| SYSTEM_FILE.into()),
    };
    let Some(file) = file else {
        return match read("", Path::new("/"), environment) {
            Ok((config, warnings)) => Ok(Loaded { config, file: None, warnings }),
            Err(problems) => Err(Unusable { file: "defaults".into(), problems }),
        };
    };
    let text = text_of(&file).map_err(|error| Unusable {
        problems: vec![Problem { line: None, option: None, message: format!("cannot read the config: {error}") }],
        file: file.clone(),
    })?;
    match read(&text, file.parent().unwrap_or(Path::new("/")), environment) {
        Ok((mut config, warnings)) => {
            // What is said to one process is not for the others to read.
            if config.processes.processes.values().any(|process| !process.env.is_empty()) {
                config.processes.hidden.push(file.clone());
            }
            Ok(Loaded { config, file: Some(file), warnings })
        }
        Err(problems) => Err(Unusable { file, problems }),
    }
}

fn text_of(file: &Path) -> io::Result<String> {
    if fs::metadata(file)?.len() > LARGEST_FILE {
        return Err(io::Error::other(format!("larger than {LARGEST_FILE} bytes")));
    }
    fs::read_to_string(file)
}

/// Turns a text, and the folder that its relative paths start from, into the config in force and its warnings.
///
/// # Errors
/// Every problem of the text, by line.
pub fn read(text: &str, folder: &Path, environment: &Environment) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    let (config, source, problems) = understand(text, folder, environment);
    let Checks { mut problems, mut warnings, .. } = Checks::of(&config, &source, problems);
    problems.sort();
    problems.dedup();
    warnings.sort();
    if problems.is_empty() { Ok((config, warnings)) } else { Err(problems) }
}

/// The config that is in force once everything that does not fit is cut out of the text, and what that was.
fn understand<'a>(text: &'a str, folder: &Path, environment: &Environment) -> (Config, Source<'a>, Vec<Problem>) {
    let (mut source, mut problems) = Source::parse(text);
    problems.extend(source.fit::<Config>());
    let written = source.table();
    let domain = written.get("domain").and_then(toml::Value::as_str).and_then(|name| name.parse().ok());
    let defaults = Config::for_domain(domain.unwrap_or_default(), environment);
    let mut used = toml::Table::try_from(&defaults).expect("the defaults are TOML");
    overlay(&mut used, written);
    let mut config = used.try_into().unwrap_or_else(|error: toml::de::Error| {
        problems.push(Problem { line: None, option: None, message: error.message().to_owned() });
        defaults
    });
    config.complete(&source, folder, environment);
    (config, source, problems)
}

/// Lays `over` on `under`, table by table.
fn overlay(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => overlay(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

impl Config {
    /// The defaults, which follow the domain: on `localhost` everything stays on this machine and under the user's own
    /// folders; a private name gets a local CA; a public one everything a server on the internet needs.
    pub fn for_domain(domain: Domain, environment: &Environment) -> Self {
        let mut config = Self { home: "welcome".to_owned(), ..Self::default() };
        if domain.is_localhost() {
            let home = environment.home.clone().unwrap_or_else(|| "/".into());
            let data_home = environment.data_home.clone().unwrap_or_else(|| home.join(".local/share"));
            config.data = data_home.join("kube");
        } else {
            config.data = "/var/lib/kube".into();
            config.hosting.http = any_address(80);
            config.hosting.https = any_address(443);
            config.echo.access = echo::Access::Token;
            if !domain.is_private() {
                config.tls.issuer = tls::Issuer::Acme;
            }
        }
        config.domain = domain;
        config
    }

    /// Fills in what follows from other options, and makes paths absolute.
    fn complete(&mut self, source: &Source<'_>, folder: &Path, environment: &Environment) {
        self.data = folder.join(&self.data);
        let apps_at = if source.has("apps.folder") { folder } else { &self.data };
        self.apps.folder = apps_at.join(&self.apps.folder);
        for (_, path) in self.tls.paths() {
            *path = folder.join(&path);
        }
        for mirror in self.echo.peers.values_mut() {
            for path in [&mut mirror.token_file, &mut mirror.ca_file].into_iter().flatten() {
                *path = folder.join(&path);
            }
        }
        for path in self.dns.zones.iter_mut().chain(self.dns.keys.values_mut().map(|key| &mut key.secret_file)) {
            *path = folder.join(&path);
        }
        if !self.domain.is_localhost() {
            let listed = match &self.addresses {
                Addresses::Listed(list) => Some(list.clone()),
                Addresses::Auto => None,
            };
            let at = |port: u16| match &listed {
                Some(list) => list.iter().map(|address| SocketAddr::new(*address, port)).collect(),
                // Nobody delegates a private name, so DNS for it is only where someone asks for it.
                None if self.domain.is_private() => Vec::new(),
                None => any_address(port),
            };
            let is_elsewhere = source.has("dns.listen");
            if !is_elsewhere {
                (self.dns.listen, self.dns.listen_by_default) = (at(53), true);
            }
            if !source.has("dns.tls") && !is_elsewhere {
                (self.dns.tls, self.dns.tls_by_default) = (at(853), true);
            }
            // Nobody elsewhere is asked about a name that nobody elsewhere asks for.
            if !source.has("dns.stun") && !self.domain.is_private() {
                self.dns.stun = dns::well_known();
            }
            self.dns.own =
                Some(dns::Own { domain: self.domain.to_string(), addresses: listed, email: self.email.clone() });
        }
        self.dns.domains = self.domains().filter_map(|(_, host)| host.as_str().parse().ok()).collect();
        self.dns.data = self.data.join("dns");

        let domain = self.domain.to_string();
        self.apps.data = self.data.join("versions");
        self.apps.home.clone_from(&self.home);
        self.hosting.domain.clone_from(&domain);
        self.hosting.home.clone_from(&self.home);
        let public = self.echo.peers.values().filter_map(|mirror| mirror.public_url.as_ref());
        self.hosting.others = public.map(ToString::to_string).collect();
        self.tls.domain.clone_from(&domain);
        self.tls.email.clone_from(&self.email);
        if let (true, Addresses::Listed(listed)) = (self.tls.address_certificate, &self.addresses) {
            self.tls.addresses.clone_from(listed);
            self.hosting.addresses.clone_from(listed);
        }
        self.tls.data = self.data.join("tls");
        self.echo.pages = self.public_pages();
        self.echo.domains = self.domains().map(|(_, host)| host.to_string()).collect();
        self.echo.domain = domain;
        self.echo.data = self.data.join("echo");
        self.tokens.data = self.data.join("tokens");
        self.processes.logs = self.data.join("logs");
        self.admin.socket = admin::socket_path(
            environment.runtime_directory.as_deref(),
            environment.runtime_home.as_deref(),
            &self.data,
        );
        self.processes.folders = self.data.join("processes");
        self.processes.logs = self.data.join("logs");
        for process in self.processes.processes.values_mut() {
            let Process { cwd, env_file, read, write, .. } = process;
            for path in cwd.iter_mut().chain(env_file).chain(read.iter_mut().flatten()).chain(write) {
                *path = folder.join(&path);
            }
        }
        self.processes.hidden = self.hidden();
    }
}

impl Config {
    /// The own domains of apps, each with its app.
    fn domains(&self) -> impl Iterator<Item = (&apps::Name, &apps::Host)> {
        self.apps.apps.iter().flat_map(|(name, app)| app.domains.iter().map(move |host| (name, host)))
    }

    /// What no process may see: everything that KUBE keeps, and the secrets that the config names.
    fn hidden(&mut self) -> Vec<PathBuf> {
        let mut hidden = vec![self.data.clone()];
        hidden.extend(self.admin.socket.parent().map(Path::to_owned));
        hidden.extend(self.tls.paths().into_iter().map(|(_, path)| path.clone()));
        hidden.extend(self.dns.keys.values().map(|key| key.secret_file.clone()));
        hidden.extend(self.echo.peers.values().filter_map(|peer| peer.token_file.clone()));
        hidden.extend(self.processes.processes.values().filter_map(|process| process.env_file.clone()));
        hidden
    }

    /// The hosts of the apps whose pages sync without a token, and the space of each: `app.NAME`, which no person can name.
    fn public_pages(&self) -> BTreeMap<String, String> {
        let apps = self.apps.apps.iter().filter(|(_, app)| app.sync == apps::Audience::Public);
        let hosts = apps.flat_map(|(name, app)| {
            let at_home = (name.as_str() == self.home).then(|| self.domain.to_string());
            let others = app.domains.iter().map(ToString::to_string);
            let hosts = at_home.into_iter().chain([format!("{name}.{}", self.domain)]).chain(others);
            hosts.map(move |host| (host, format!("app.{name}")))
        });
        hosts.collect()
    }
}

fn any_address(port: u16) -> Vec<SocketAddr> {
    vec![SocketAddr::from(([0, 0, 0, 0], port)), SocketAddr::from(([0; 16], port))]
}

#[cfg(test)]
mod tests;
