//! `kube dns`: the zones of a running KUBE.
use std::{io, path::Path};

use admin::{
    CheckOrder, CheckStatus, Client, ForgetOrder, RecordStatus, SecondaryStatus, UpdatedStatus, Verdict, ZoneStatus,
};
use anyhow::Context as _;
use clap::Subcommand;

use crate::{docs::minute, terminal};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the zones
    Zones {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// List the records of a zone, without what signing adds
    Records {
        /// The zone [default: the domain of this KUBE]
        zone: Option<String>,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// List what dynamic updates left of the names of a zone, in place of what config and zone files say
    Updates {
        /// The zone [default: the domain of this KUBE]
        zone: Option<String>,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Forget what dynamic updates left of a name: what config and zone files say counts again
    Forget {
        /// The name, whole or below the domain of this KUBE
        name: String,
        /// One type of its records, like A [default: all]
        rtype: Option<String>,
    },
    /// Write a zone as a zone file that any name server reads, signatures included
    Export {
        /// The zone [default: the domain of this KUBE]
        zone: Option<String>,
    },
    /// Look at a zone as the rest of the world sees it, and say what to change, and where
    Check {
        /// The zone [default: the domain of this KUBE]
        zone: Option<String>,
        /// Who is asked for what others have: an address, with a port if it is not 53 [default: the resolvers of the machine]
        #[arg(long, value_name = "ADDRESS")]
        resolver: Option<String>,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Begin to replace the key that signs a zone, and say what comes next
    Roll {
        /// The zone [default: the domain of this KUBE]
        zone: Option<String>,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Say what to enter at the registrar so that the world trusts the signatures (DNSSEC)
    Ds {
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn execute(command: Command, socket: &Path) -> anyhow::Result<()> {
    let client = Client::connect(socket).await?;
    let zones: Vec<ZoneStatus> = client.get("/v1/zones").await?;
    match command {
        Command::Zones { json: true } => terminal::say(serde_json::to_string_pretty(&zones)?),
        Command::Zones { json: false } => terminal::say(table(&zones)),
        Command::Records { zone, json } => {
            let records: Vec<RecordStatus> = client.get(&format!("/v1/zones/{}", wanted(zone, &zones)?)).await?;
            if json {
                terminal::say(serde_json::to_string_pretty(&records)?);
            } else {
                terminal::say(lines(&records));
            }
        }
        Command::Updates { zone, json } => {
            let updates: Vec<UpdatedStatus> =
                client.get(&format!("/v1/zones/{}/updates", wanted(zone, &zones)?)).await?;
            if json {
                terminal::say(serde_json::to_string_pretty(&updates)?);
            } else {
                terminal::say(left(&updates));
            }
        }
        Command::Forget { name, rtype } => {
            let (zone, name) = placed(&name, &zones)?;
            let order = ForgetOrder { name: name.clone(), rtype };
            let types: Vec<String> = client.create(&format!("/v1/zones/{zone}/forget"), &order).await?;
            terminal::say(format!("{name}: what updates left is forgotten ({})", types.join(", ")));
        }
        Command::Export { zone } => {
            client.copy(&format!("/v1/zones/{}/file", wanted(zone, &zones)?), &mut io::stdout()).await?;
        }
        Command::Roll { zone, json } => {
            let zone: ZoneStatus = client.post(&format!("/v1/zones/{}/roll", wanted(zone, &zones)?)).await?;
            terminal::say(if json { serde_json::to_string_pretty(&zone)? } else { rolled(&zone) });
        }
        Command::Check { zone, resolver, json } => {
            let order = CheckOrder { resolver };
            let path = format!("/v1/zones/{}/check", wanted(zone, &zones)?);
            let found: Vec<CheckStatus> = client.create(&path, &order).await?;
            terminal::say(if json { serde_json::to_string_pretty(&found)? } else { terminal::checked(&found) });
            let wrong = found.iter().filter(|finding| finding.verdict == Verdict::Wrong).count();
            anyhow::ensure!(wrong == 0, "{wrong} to put right");
            anyhow::ensure!(found.iter().any(|finding| finding.verdict == Verdict::Ok), "nothing could be looked at");
        }
        Command::Ds { json } => ds(&zones, json)?,
    }
    Ok(())
}

/// The zone that is meant, as a part of a path.
fn wanted(zone: Option<String>, zones: &[ZoneStatus]) -> anyhow::Result<String> {
    let zone = match zone {
        Some(zone) => zone,
        None => zones.first().context("no zone is served: see [dns] in the config")?.name.clone(),
    };
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._".contains(&octet);
    // Anything else would be another path.
    anyhow::ensure!(zone.bytes().all(is_plain), "{zone:?} is not the name of a zone: `kube dns zones` lists them");
    Ok(zone)
}

/// The zone of a name, which may be meant below the domain, as a part of a path; and the name, whole.
fn placed(name: &str, zones: &[ZoneStatus]) -> anyhow::Result<(String, String)> {
    let within = |name: &str| {
        let is_in = |zone: &&ZoneStatus| *name == zone.name || name.ends_with(&format!(".{}", zone.name));
        zones.iter().filter(is_in).max_by_key(|zone| zone.name.len()).map(|zone| zone.name.clone())
    };
    let whole = format!("{}.", name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase());
    let zone = wanted(None, zones)?;
    let below = if name == "@" { zone.clone() } else { format!("{whole}{zone}") };
    let found = within(&whole).map(|zone| (zone, whole)).or_else(|| Some((within(&below)?, below)));
    let (zone, name) = found.with_context(|| format!("{name:?} is in no zone here: `kube dns zones` lists them"))?;
    Ok((wanted(Some(zone), zones)?, name))
}

/// `kube dns updates` for people.
fn left(updates: &[UpdatedStatus]) -> String {
    if updates.is_empty() {
        return "updates left nothing: every name is as config and zone files have it".to_owned();
    }
    let row = |updated: &UpdatedStatus| {
        let records = if updated.records == 0 { "none".to_owned() } else { updated.records.to_string() };
        [updated.name.clone(), updated.rtype.clone(), records, updated.last.key.clone(), minute(updated.last.at.into())]
    };
    let head = ["NAME", "TYPE", "RECORDS", "KEY", "UPDATED"].map(str::to_owned);
    terminal::columns(std::iter::once(head).chain(updates.iter().map(row)))
}

/// `kube dns zones` for people.
fn table(zones: &[ZoneStatus]) -> String {
    if zones.is_empty() {
        return "no zone is served: see [dns] in the config".to_owned();
    }
    let row = |zone: &ZoneStatus| {
        let signing = match (&zone.signing, zone.signed_until, &zone.secondary) {
            (Some(signing), ..) => format!("signed; {}", signing.next),
            (None, Some(until), _) => format!("signed in its file, until {}", minute(until.into())),
            (None, None, Some(secondary)) if secondary.signed => "signed by its primary".to_owned(),
            (None, None, _) => "not signed".to_owned(),
        };
        let here = if zone.app { "here, for an app" } else { "here" };
        let from = zone.secondary.as_ref().map_or_else(|| here.to_owned(), from);
        [zone.name.clone(), zone.serial.to_string(), zone.records.to_string(), from, signing]
    };
    let head = ["ZONE", "SERIAL", "RECORDS", "FROM", "DNSSEC"].map(str::to_owned);
    terminal::columns(std::iter::once(head).chain(zones.iter().map(row)))
}

/// Where a zone comes from that is another name server's, and until when it counts.
fn from(secondary: &SecondaryStatus) -> String {
    let at = |time: Option<u64>| time.map_or_else(|| "never".to_owned(), minute);
    let from = secondary.from.clone().unwrap_or_else(|| secondary.primaries.join(", "));
    let (checked, expires) = (at(secondary.checked.map(u64::from)), at(secondary.expires));
    let mut shown = match (secondary.served, secondary.checked) {
        (true, _) => format!("{from}, checked {checked}, expires {expires}"),
        (false, Some(_)) => format!("{from}, expired {expires}, not served"),
        (false, None) => format!("{from}, did not come yet"),
    };
    if let Some(trouble) = &secondary.trouble {
        shown.push_str(&format!(" ({trouble})"));
    }
    shown
}

/// `kube dns records` for people.
fn lines(records: &[RecordStatus]) -> String {
    let row = |record: &RecordStatus| {
        let updated = record.updated.as_ref();
        let by =
            updated.map_or_else(String::new, |last| format!("; updated by {}, {}", last.key, minute(last.at.into())));
        [
            record.name.clone(),
            record.ttl.to_string(),
            record.rtype.clone(),
            format!("{} {by}", record.value).trim_end().to_owned(),
        ]
    };
    terminal::columns(records.iter().map(row))
}

/// What comes after the beginning of a rollover.
fn rolled(zone: &ZoneStatus) -> String {
    let until = zone.signing.as_ref().and_then(|signing| signing.at);
    let until = until.map(|at| format!(" until {}", minute(at.into()))).unwrap_or_default();
    format!(
        "{}: a new key signs beside the old one now. Next:\n  \
         1  nothing to do{until}: caches have to forget what the old key alone has signed\n  \
         2  then `kube dns ds` shows the new DS record, which replaces the old one at your registrar\n  \
         3  nothing to do: once the zone above says it, and caches have forgotten the old one, the old key is removed",
        zone.name
    )
}

fn ds(zones: &[ZoneStatus], json: bool) -> anyhow::Result<()> {
    let signed: Vec<_> = zones.iter().filter(|zone| zone.signing.is_some()).collect();
    if json {
        terminal::say(serde_json::to_string_pretty(&signed)?);
        return Ok(());
    }
    anyhow::ensure!(!signed.is_empty(), "no zone is signed: set `dnssec = true` under [dns] in the config");
    for (zone, signing) in signed.iter().filter_map(|zone| Some((zone, zone.signing.as_ref()?))) {
        terminal::say(format!("{}: {}", zone.name, signing.next));
        if let Some(at) = signing.at {
            terminal::say(format!("  until      {}", minute(at.into())));
        }
        if let Some(parent) = &signing.parent {
            terminal::say(format!("  zone above asked {}: {}", minute(parent.asked.into()), parent.said));
        }
        let Some(ds) = &signing.ds else { continue };
        if zone.app {
            // Where another name server has it, this would be the end of it.
            let text = format!("  only if      `kube dns check {}` finds no other *name servers*", zone.name);
            terminal::say(text);
        }
        terminal::say(format!(
            "  DS record  {}\n  in parts   key tag {}, algorithm {} (ECDSA P-256 SHA-256), digest type {} (SHA-256)\n             \
             digest {}\n  or the key flags {} (KSK), protocol {}, algorithm {}\n             public key {}",
            ds.record,
            ds.key_tag,
            ds.algorithm,
            ds.digest_type,
            ds.digest,
            ds.flags,
            ds.protocol,
            ds.algorithm,
            ds.public_key
        ));
    }
    Ok(())
}
