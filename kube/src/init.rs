//! `kube init`: asks what only a person knows, writes a config, and says what is left to do.
use std::{
    fmt::Write as _,
    fs,
    io::{self, BufRead, IsTerminal, Write as _},
    net::{IpAddr, TcpListener},
    path::{self, Path, PathBuf},
};

use clap::Args;
use dns::Holder;

use crate::{
    config::{
        self, Config, Environment, SYSTEM_FILE,
        domain::{Addresses, Domain},
    },
    outcome::Outcome,
    terminal,
};

/// What only a person knows.
#[derive(Args, Debug)]
pub(crate) struct Answers {
    /// The domain that everything is served under, or `localhost`
    #[arg(long)]
    domain: Option<Domain>,
    /// Whom a certificate authority may write to
    #[arg(long)]
    email: Option<String>,
    /// A public address of this machine; may be given again [default: found when needed]
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// Replace a config that exists
    #[arg(long)]
    force: bool,
}

pub(crate) fn init(answers: Answers, file: Option<PathBuf>, environment: &Environment) -> Outcome {
    let file = file.unwrap_or_else(|| SYSTEM_FILE.into());
    // Its folder is flushed, so it has to have a name.
    let file = path::absolute(&file).unwrap_or(file);
    if file.exists() && !answers.force {
        return Outcome::failed(format!("{} exists; --force replaces it", file.display()));
    }
    let answers = match ask(answers) {
        Ok(answers) => answers,
        Err(missing) => {
            terminal::complain(missing);
            return Outcome::Usage;
        }
    };
    let text = text(&answers);
    let folder = file.parent().unwrap_or(Path::new("/"));
    let (config, warnings) = match config::read(&text, folder, environment) {
        Ok(read) => read,
        Err(problems) => {
            problems.iter().for_each(|problem| terminal::complain(config::describe(&file, problem)));
            return Outcome::Usage;
        }
    };
    if let Err(error) = write(&file, &text) {
        return Outcome::failed(format!("cannot write {}: {error}", file.display()));
    }
    terminal::say(format!("wrote {}", file.display()));
    for warning in &warnings {
        terminal::warn(config::describe(&file, warning));
    }
    let left: Vec<String> = [troubles(&config), chores(&config, &file)].concat();
    terminal::say("\nLeft to do:");
    for (number, line) in left.iter().enumerate() {
        terminal::say(format!("{:3}. {line}", number + 1));
    }
    Outcome::Done
}

/// Asks on a terminal for what the flags left out.
fn ask(mut answers: Answers) -> Result<Answers, String> {
    let interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
    if answers.domain.is_none() {
        if !interactive {
            return Err("--domain is missing, and there is no terminal to ask on".to_owned());
        }
        answers.domain = question("Domain (example.org, or localhost)", |text| text.parse().map(Some))?;
        if answers.email.is_none() {
            answers.email = question("Mail address for certificate authorities (empty for none)", |text| {
                Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
            })?;
        }
        if answers.addresses.is_empty() {
            answers.addresses = question("Public addresses of this machine (empty: found when needed)", |text| {
                let list = text.split([' ', ',']).filter(|word| !word.is_empty());
                list.map(|word| word.parse().map_err(|_| format!("{word:?} is not an IP address"))).collect()
            })?;
        }
    }
    Ok(answers)
}

/// Asks until the answer makes sense, or the terminal is closed.
fn question<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, String> {
    let mut out = io::stdout();
    loop {
        write!(out, "{text}: ").and_then(|()| out.flush()).map_err(|error| error.to_string())?;
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            Ok(0) => return Err(format!("no answer to {text:?}")),
            Ok(_) => match parse(line.trim()) {
                Ok(value) => return Ok(value),
                Err(why) => terminal::complain(why),
            },
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn text(answers: &Answers) -> String {
    let domain = answers.domain.clone().unwrap_or_default();
    let quote = |text: &str| toml::Value::from(text).to_string();
    let email = match &answers.email {
        Some(email) => format!("email = {}", quote(email)),
        None => "#email = \"ops@example.org\"".to_owned(),
    };
    let addresses = match &answers.addresses[..] {
        [] => "addresses = \"auto\"".to_owned(),
        list => format!("addresses = [{}]", list.iter().map(|a| quote(&a.to_string())).collect::<Vec<_>>().join(", ")),
    };
    let mut text = String::new();
    writeln!(
        text,
        "# This KUBE. Every option, with its default: config/kube.toml of the distribution, or `kube check --print`.\n"
    )
    .ok();
    writeln!(text, "# Everything is served under this name: <app>.{domain}, sync.{domain}.").ok();
    writeln!(text, "domain = {}", quote(domain.as_str())).ok();
    writeln!(text, "# Whom a certificate authority may write to.\n{email}").ok();
    writeln!(text, "# Public addresses of this machine, or \"auto\".\n{addresses}\n").ok();
    writeln!(
        text,
        "# Where certificates come from: \"local\" (an authority of this KUBE's own), \"files\", \"acme\".\n[tls]"
    )
    .ok();
    writeln!(
        text,
        "#issuer = \"files\"\n#certificate = \"/etc/kube/fullchain.pem\"\n#key = \"/etc/kube/privkey.pem\"\n"
    )
    .ok();
    writeln!(
        text,
        "# The always-on peer: \"token\" (`kube token create sync` makes one), or \"open\" to everyone.\n[echo]"
    )
    .ok();
    writeln!(
        text,
        "#access = \"open\"\n\n# Options of one app, by the name of its folder.\n#[apps.shop]\n#missing = \"index\""
    )
    .ok();
    text
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let mut written = tempfile::NamedTempFile::new_in(folder)?;
    written.write_all(text.as_bytes())?;
    written.as_file().sync_all()?;
    // No secret is in it: whoever runs KUBE reads it.
    fs::set_permissions(written.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    written.persist(file)?;
    fs::File::open(folder)?.sync_all()
}

/// What stands in the way on this machine, tried for real.
fn troubles(config: &Config) -> Vec<String> {
    let mut left = Vec::new();
    let names = config.dns.places().unwrap_or_else(|error| {
        left.push(error.to_string());
        Vec::new()
    });
    let listeners = config.hosting.http.iter().chain(&config.hosting.https).chain(&config.metrics.listen);
    for address in listeners.chain(&names) {
        if address.ip().is_unspecified() && address.is_ipv6() {
            // The IPv4 twin says it all: std cannot bind this one without the IPv4 half of its port.
            continue;
        }
        match TcpListener::bind(address) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => left.push(format!(
                "{address} needs a privilege: run under the systemd unit, as root, or `setcap cap_net_bind_service=+ep` the binary"
            )),
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => left.push(format!(
                "{address} is not an address of this machine: set `listen` under [dns] to one that is, or to []"
            )),
            Err(error) => left.push(match Holder::find(*address, "TCP") {
                Some(holder) => format!("free {address}, which {holder} has: {}", holder.advice()),
                None => format!("free {address}: {error} (`ss -ltnp 'sport = :{}'` names who has it)", address.port()),
            }),
        }
    }
    // Whoever runs KUBE makes the data folder, so that it is theirs; here it is only asked whether that can be.
    let nearest = config.data.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    if let Err(error) = tempfile::tempfile_in(nearest) {
        let data = config.data.display();
        left.push(format!("let KUBE's user write to {data}: this user cannot write to {}: {error}", nearest.display()));
    }
    left
}

/// What no program on this machine can do.
fn chores(config: &Config, file: &Path) -> Vec<String> {
    let (domain, mut left) = (&config.domain, Vec::new());
    if !domain.is_localhost() {
        let records = match &config.addresses {
            Addresses::Auto => {
                vec![format!("A and AAAA records of {domain} and *.{domain}: this machine's public addresses")]
            }
            Addresses::Listed(list) => list
                .iter()
                .map(|a| {
                    format!(
                        "{kind} records of {domain} and *.{domain}: {a}",
                        kind = if a.is_ipv4() { "A" } else { "AAAA" }
                    )
                })
                .collect(),
        };
        left.extend(records.into_iter().map(|record| format!("at your DNS provider: {record}")));
        left.push(format!(
            "or let KUBE be the name server: at the registrar, name server ns1.{domain} with these addresses as glue; then `kube dns check` (README, DNS)"
        ));
        left.push("in the firewall: let TCP ports 80 and 443 in, and UDP and TCP port 53 for DNS".to_owned());
    }
    match config.tls.issuer {
        tls::Issuer::Local => {
            left.push("after the first start: `kube trust` says how browsers trust the local authority".to_owned())
        }
        tls::Issuer::Acme => {}
        tls::Issuer::Files => left.push(format!(
            "a certificate for {domain} and *.{domain}: set tls.issuer = \"files\", `certificate` and `key` in {}",
            file.display()
        )),
    }
    left.push(format!(
        "`kube check --config {}`, then start it: `systemctl enable --now kube`, or `kube run`",
        file.display()
    ));
    left.push(format!("copy the folder of an app into {}", config.apps.folder.display()));
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(domain: &str) -> Answers {
        Answers {
            domain: domain.parse().ok(),
            email: Some("o\"ps@example.org".into()),
            addresses: vec![],
            force: false,
        }
    }

    #[test]
    fn what_is_written_is_what_was_answered() {
        let mut answers = answers("Example.org");
        answers.addresses = vec!["203.0.113.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let (config, warnings) = config::read(&text(&answers), Path::new("/"), &Environment::default()).unwrap();
        assert_eq!((config.domain.as_str(), config.email), ("example.org", answers.email));
        assert_eq!(config.addresses, Addresses::Listed(answers.addresses));
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn every_commented_option_is_one() {
        let text = text(&answers("kube.test"));
        let uncommented: String = text
            .lines()
            .map(|line| {
                line.strip_prefix('#').filter(|option| !option.starts_with(' ')).unwrap_or(line).to_owned() + "\n"
            })
            .filter(|line| !line.contains(".pem") && !line.contains("files"))
            .collect();
        config::read(&uncommented, Path::new("/"), &Environment::default()).unwrap();
    }

    #[test]
    fn a_config_that_exists_is_replaced_only_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("etc/kube.toml");
        let init = |force| {
            let answers = Answers { force, ..answers("kube.test") };
            init(answers, Some(file.clone()), &Environment::default())
        };
        assert_eq!((init(false), init(false), init(true)), (Outcome::Done, Outcome::Failed, Outcome::Done));
    }

    #[test]
    fn a_taken_port_is_left_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::default();
        config.hosting.http = vec![taken.local_addr().unwrap()];
        let left = troubles(&config);
        let by = format!("free {}, which kube-", taken.local_addr().unwrap());
        assert!(
            left.iter().any(|line| line.starts_with(&by) && line.contains(&std::process::id().to_string())),
            "{left:?}"
        );
    }
}
