//! How options fit together.
use std::{collections::BTreeMap, fs, net::SocketAddr};

use super::{
    Config, domain,
    source::{Problem, Source},
};

/// What no single option can know: how options fit together.
pub(super) struct Checks<'a> {
    source: &'a Source<'a>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl<'a> Checks<'a> {
    /// Everything that is wrong or odd with a config, besides what was found in its source before.
    pub(super) fn of(config: &Config, source: &'a Source<'a>, problems: Vec<Problem>) -> Self {
        let mut checks = Self { source, problems, warnings: Vec::new() };
        checks.config(config);
        checks
    }

    fn wrong(&mut self, option: &str, message: impl Into<String>) {
        let problem = self.at(option, message.into());
        self.problems.push(problem);
    }

    fn odd(&mut self, option: &str, message: impl Into<String>) {
        let problem = self.at(option, message.into());
        self.warnings.push(problem);
    }

    fn at(&self, option: &str, message: String) -> Problem {
        Problem { line: self.source.line_of(option), option: Some(option.to_owned()), message }
    }

    fn config(&mut self, config: &Config) {
        if let Some(email) = &config.email
            && !email.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'))
        {
            self.wrong("email", format!("{email:?} is not a mail address"));
        }
        if let Err(error) = apps::check_name(&config.home) {
            self.wrong("home", error.to_string());
        }
        if config.data.starts_with(&config.apps.folder) {
            let data = config.data.display();
            self.wrong("apps.folder", format!("holds the data folder {data}, whose keys would be served"));
        }
        self.listeners(config);
        self.tls(config);
        self.domains(config);
        if config.echo.access == echo::Access::Open && !config.domain.is_private() {
            self.odd("echo.access", "\"open\" lets anyone who finds this KUBE read and write every document");
        }
        if config.dns.stun.len() > dns::SERVERS {
            self.wrong("dns.stun", format!("at most {} servers are asked", dns::SERVERS));
        }
        for key in config.dns.unknown_keys() {
            let message =
                format!("{:?} is no address, no prefix, and none of the [dns.keys]", String::from(key.clone()));
            self.wrong("dns.transfer", message);
        }
        self.updates(&config.dns);
        self.secondaries(config);
        self.remotes(&config.dns);
        for (name, key) in &config.dns.keys {
            if let Err(error) = fs::File::open(&key.secret_file) {
                let option = format!("dns.keys.{}.secret_file", String::from(name.clone()));
                self.wrong(&option, format!("cannot read {}: {error}", key.secret_file.display()));
            }
        }
        self.peers(&config.echo.peers);
        for listen in &config.metrics.listen {
            if !listen.ip().is_loopback() {
                self.odd("metrics.listen", format!("{listen} can be read by anyone who reaches it"));
            }
        }
        self.processes(&config.processes);
    }

    /// Processes can be started, in some order, and are not in each other's way.
    fn processes(&mut self, config: &processes::Config) {
        for (option, message) in processes::problems(config) {
            self.wrong(&option, message);
        }
        for (name, process) in &config.processes {
            if let Some(route) = &process.route
                && let Err(error) = apps::check_name(&route.label)
            {
                self.wrong(
                    &format!("processes.{name}.route"),
                    format!(
                        "`{}` cannot be its host: {error}; a path of an app, `shop/{}` say, can be its place",
                        route.label, route.label
                    ),
                );
            }
            if process.stop.grace > processes::LAST_GRACE {
                let most = processes::LAST_GRACE.as_secs();
                self.odd(&format!("processes.{name}.stop"), format!("when KUBE itself stops, it has {most} s at most"));
            }
        }
    }

    /// A zone of another name server comes from somewhere, with a key that there is, and is no other zone here.
    fn secondaries(&mut self, config: &Config) {
        let own = config.dns.own.as_ref().map(|own| own.domain.as_str());
        for (number, secondary) in config.dns.secondary.iter().enumerate() {
            let zone = String::from(secondary.zone.clone());
            if secondary.primaries.is_empty() {
                self.wrong("dns.secondary", format!("{zone:?} comes from nowhere: name its `primaries`"));
            }
            if let Some(key) = secondary.key.as_ref().filter(|key| !config.dns.keys.contains_key(key)) {
                let key = String::from(key.clone());
                self.wrong(
                    "dns.secondary",
                    format!("{zone:?} is to be asked for with {key:?}, none of the [dns.keys]"),
                );
            }
            if own == Some(&*zone) {
                self.wrong(
                    "dns.secondary",
                    format!("{zone:?} is the domain of this KUBE, which is its primary itself"),
                );
            }
            if config.dns.secondary[..number].iter().any(|other| other.zone == secondary.zone) {
                self.wrong("dns.secondary", format!("{zone:?} is there twice: name all `primaries` in one"));
            }
        }
    }

    /// Other name servers are written to with keys that there are, and each zone at one of them.
    fn remotes(&mut self, dns: &dns::Config) {
        for (number, remote) in dns.remote.iter().enumerate() {
            let server = String::from(remote.server);
            if !dns.keys.contains_key(&remote.key) {
                let key = String::from(remote.key.clone());
                self.wrong("dns.remote", format!("{server} is to be written to with {key:?}, none of the [dns.keys]"));
            }
            if let Some(zone) = &remote.zone
                && dns.remote[..number].iter().any(|other| other.zone.as_ref() == Some(zone))
            {
                let zone = String::from(zone.clone());
                self.wrong("dns.remote", format!("{zone:?} is there twice: name the server that takes updates of it"));
            }
        }
    }

    /// The own domain of an app is none of this KUBE's, and there can be a certificate for it.
    fn domains(&mut self, config: &Config) {
        let domain = &config.domain;
        let uncovered = config.tls.uncovered(config.domains().map(|(_, host)| host.as_str()));
        for (name, host) in config.domains() {
            let option = format!("apps.{name}.domains");
            if host.as_str() == domain.as_str() {
                let message =
                    format!("`{host}` is the domain of this KUBE: say `home = \"{name}\"` to have the app there");
                self.wrong(&option, message);
            } else if host.as_str().ends_with(&format!(".{domain}")) {
                let message = format!(
                    "`{host}` is below {domain}, where the folder of an app gives it its name: this one is at {name}.{domain}"
                );
                self.wrong(&option, message);
            } else if uncovered.contains(&host.as_str()) {
                let message = match config.tls.issuer {
                    tls::Issuer::Files => {
                        format!("no browser opens `{host}`: the certificate of [tls] does not name it")
                    }
                    tls::Issuer::Local | tls::Issuer::Acme => format!(
                        "no browser opens `{host}`: the local authority vouches for {domain} alone; see `issuer` in [tls]"
                    ),
                };
                self.odd(&option, message);
            } else if domain::is_private(host.as_str())
                && config.tls.issuer == tls::Issuer::Acme
                && config.tls.directory.is_none()
            {
                self.odd(
                    &option,
                    format!("`{host}` is a private name, for which no public authority makes certificates"),
                );
            }
        }
    }

    /// No address is listened on twice.
    fn listeners(&mut self, config: &Config) {
        let mut seen: Vec<(SocketAddr, String)> = Vec::new();
        let lists = [
            ("hosting.http", &config.hosting.http),
            ("hosting.https", &config.hosting.https),
            ("metrics.listen", &config.metrics.listen),
            ("dns.listen", &config.dns.listen),
            ("dns.tls", &config.dns.tls),
        ];
        let lists = lists.map(|(option, list)| (option.to_owned(), list)).into_iter();
        let kept = config.processes.processes.iter();
        let kept = kept.map(|(name, process)| (format!("processes.{name}.listen"), &process.listen));
        for (option, list) in lists.chain(kept) {
            for address in list {
                let twin = seen.iter().find(|(other, _)| {
                    let same_family = other.is_ipv4() == address.is_ipv4();
                    let overlap = other.ip() == address.ip()
                        || same_family && (other.ip().is_unspecified() || address.ip().is_unspecified());
                    address.port() != 0 && other.port() == address.port() && overlap
                });
                if let Some((other, by)) = twin {
                    // Told where a person can change it.
                    let (here, there, at) =
                        if self.source.has(&option) { (&option, by, other) } else { (by, &option, address) };
                    self.wrong(here, format!("{address} is already taken by {there} ({at})"));
                }
                // Two processes are compared by those who know processes.
                if !option.starts_with("processes.") {
                    seen.push((*address, option.clone()));
                }
            }
        }
        if config.hosting.https.is_empty() {
            self.wrong("hosting.https", "needs at least one address");
        }
    }

    /// Who may update names has a key, and there are names.
    fn updates(&mut self, dns: &dns::Config) {
        for update in &dns.updates {
            let key = String::from(update.key.clone());
            if !dns.keys.contains_key(&update.key) {
                self.wrong("dns.updates", format!("{key:?} is none of the [dns.keys]"));
            }
            if update.names.is_empty() || update.types.is_empty() {
                self.wrong(
                    "dns.updates",
                    format!("the key {key:?} may update nothing: give `names`, and types if any"),
                );
            }
            if dns.own.is_none()
                && let Some(name) = update.names.iter().find(|name| name.is_relative())
            {
                let name = String::from(name.clone());
                let message =
                    format!("{name:?} is below a domain that has no zone here: write it whole, with a dot at its end");
                self.wrong("dns.updates", message);
            }
        }
    }

    /// Other KUBEs: their files can be read, and no token is sent where others read it.
    fn peers(&mut self, peers: &BTreeMap<String, echo::Mirror>) {
        for (name, mirror) in peers {
            for (option, path) in [("token_file", &mirror.token_file), ("ca_file", &mirror.ca_file)] {
                if let Some(path) = path
                    && let Err(error) = fs::File::open(path)
                {
                    self.wrong(
                        &format!("echo.peers.{name}.{option}"),
                        format!("cannot read {}: {error}", path.display()),
                    );
                }
            }
            if let Err(error) = mirror.space.parse::<tokens::Space>() {
                self.wrong(&format!("echo.peers.{name}.space"), error.to_string());
            }
            if mirror.token_file.is_some() && !mirror.url.is_private() {
                let message = "a token is not sent over ws://, which others can read: give a wss:// address";
                self.wrong(&format!("echo.peers.{name}.url"), message);
            }
            if mirror.public_url.as_ref().is_some_and(|url| !url.is_private()) {
                let message = "pages over HTTPS do not connect to ws://: give a wss:// address";
                self.wrong(&format!("echo.peers.{name}.public_url"), message);
            }
        }
    }

    fn tls(&mut self, config: &Config) {
        let tls = &config.tls;
        if let Err(error) = tls.check() {
            let is_twice = matches!(error, tls::Error::Twice { .. });
            self.wrong(if is_twice { "tls.fallback" } else { "tls.issuer" }, error.to_string());
        }
        for (option, path) in tls.clone().paths() {
            if let Err(error) = fs::File::open(&*path) {
                self.wrong(&option, format!("cannot read {}: {error}", path.display()));
            }
        }
        if tls.address_certificate && tls.issuer != tls::Issuer::Acme {
            self.odd("tls.address_certificate", "only a public authority makes one: set issuer = \"acme\"");
        }
        if tls.address_certificate && tls.addresses.is_empty() {
            self.wrong("tls.address_certificate", "a certificate names addresses that are listed: set `addresses`");
        }
    }
}
