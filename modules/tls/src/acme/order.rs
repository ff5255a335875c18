//! One order: from names to a key and a chain.
use std::{collections::BTreeMap, slice, time::Duration};

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder, Order,
    OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::time::sleep;

use super::{client::Client, proofs::Proofs};
use crate::{Txt, config::Way, pair};

/// How often the steps of an order are tried again whose failure says nothing of it: a CA may refuse a nonce, or be away for a
/// moment.
const TRIES: u32 = 9;
/// How long the first wait before that is; each further one is twice as long, so many times.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: u32 = 5;
/// How long a CA may take to look at a proof, or to sign.
const POLL: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(50)).backoff(1.5).timeout(Duration::from_secs(90));

/// What is wanted of a CA.
pub(crate) struct Wanted<'a> {
    pub(crate) names: &'a [String],
    pub(crate) way: Way,
    /// The certificate that it takes the place of.
    pub(crate) replaces: Option<CertificateIdentifier<'a>>,
    pub(crate) profile: Option<&'a str>,
    /// What a record says that stays, if that is the way: who may make certificates for whom.
    pub(crate) standing: Option<String>,
    /// The common name of the root that the chain is to lead to.
    pub(crate) root: Option<&'a str>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("{0}")]
    Acme(#[from] Error),
    #[error("the CA does not take {way} for {name}")]
    NotOffered { name: String, way: Way },
    #[error("{name} was not proved by {way}: {reason}")]
    Unproved { name: String, way: Way, reason: String },
    #[error("{failed}: its name server must say `_validation-persist.{name} TXT \"{text}\"`")]
    Unsaid { failed: Box<Failed>, name: String, text: String },
    #[error("the CA does not say what DNS records call it, so that none can be made for it")]
    Nameless,
    #[error("no zone here has {0}, so it cannot say the TXT record")]
    NotOurs(String),
    #[error("{0}")]
    Txt(String),
    #[error(transparent)]
    Here(#[from] crate::Error),
    #[error(
        "the CA makes accounts for its customers alone: set `external_account` to what it gave you, key_id and secret_file"
    )]
    ForCustomers,
    #[error("cannot make a request: {0}")]
    Request(#[from] rcgen::Error),
}

/// Orders a certificate, and shows what the CA asks for until it has looked; returns its key and its chain, in PEM.
pub(crate) async fn order(
    (account, client): (&Account, &Client),
    wanted: &Wanted<'_>,
    proofs: &Proofs,
    txt: &dyn Txt,
) -> Result<String, Failed> {
    let mut records = BTreeMap::new();
    let issued = issue((account, client), wanted, proofs, txt, &mut records).await;
    proofs.clear();
    for name in records.keys() {
        unsay(txt, name).await;
    }
    issued
}

/// The name of the record that proves `name`: [RFC 8555, section 8.4](https://www.rfc-editor.org/rfc/rfc8555#section-8.4).
pub(super) fn record(name: &str) -> String {
    format!("_acme-challenge.{name}")
}

/// Takes the record of a name away.
pub(super) async fn unsay(txt: &dyn Txt, name: &str) {
    if let Err(error) = txt.publish(name, &[]).await {
        tracing::warn!(%name, "a TXT record for a CA stays: {error}");
    }
}

async fn issue(
    (account, client): (&Account, &Client),
    wanted: &Wanted<'_>,
    proofs: &Proofs,
    txt: &dyn Txt,
    records: &mut BTreeMap<String, Vec<String>>,
) -> Result<String, Failed> {
    let identifier = |name: &String| name.parse().map_or_else(|_| Identifier::Dns(name.clone()), Identifier::Ip);
    let identifiers: Vec<_> = wanted.names.iter().map(identifier).collect();
    let mut tries = Tries::default();
    let mut order = loop {
        let mut new = NewOrder::new(&identifiers);
        if let Some(replaced) = &wanted.replaces {
            new = new.replaces(replaced.clone());
        }
        if let Some(profile) = wanted.profile {
            new = new.profile(profile);
        }
        match account.new_order(&new).await {
            Err(error) if tries.again(&error).await => {}
            ordered => break ordered?,
        }
    };
    while let Err(error) = look(&mut order).await {
        tries.or_end(error).await?;
    }
    if wanted.way == Way::Standing && wanted.standing.is_none() {
        return Err(Failed::Nameless);
    }
    show(&mut order, wanted.way, proofs, records).await?;
    if let Some(text) = &wanted.standing {
        // Where the zone is elsewhere, somebody has put it there.
        let name = wanted.names[0].as_str();
        txt.publish(&format!("_validation-persist.{name}"), slice::from_ref(text)).await.map_err(Failed::Txt)?;
    }
    for (name, texts) in &*records {
        if !txt.publish(name, texts).await.map_err(Failed::Txt)? {
            return Err(Failed::NotOurs(name.clone()));
        }
    }
    if order.state().status == OrderStatus::Pending {
        let name = wanted.names[0].clone();
        prove(&mut order, wanted.way).await.map_err(|failed| match wanted.standing.clone() {
            Some(text) => Failed::Unsaid { failed: Box::new(failed), name, text },
            None => failed,
        })?;
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(wanted.names)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    while let Err(error) = order.finalize_csr(request.der()).await {
        if let Error::Api(problem) = &error
            && is(problem, "orderNotReady")
            && [OrderStatus::Processing, OrderStatus::Valid].contains(&order.refresh().await?.status)
        {
            // The answer to an earlier try was lost.
            break;
        }
        tries.or_end(error).await?;
    }
    let chain = loop {
        match order.poll_certificate(&POLL).await {
            Err(error) if tries.again(&error).await => {}
            answered => break answered?,
        }
    };
    let chain = match wanted.root {
        Some(root) => below(root, account, client, chain).await,
        None => chain,
    };
    Ok(key.serialize_pem() + &chain)
}

/// The chain of the same certificate that leads to the root of this name; `usual`, if there is none.
async fn below(root: &str, account: &Account, client: &Client, usual: String) -> String {
    let others = client.chain().map(|chain| chain.others).unwrap_or_default();
    if pair::leads_to(&usual, root) {
        return usual;
    }
    for url in others {
        let mut tries = Tries::default();
        // Whatever is fetched so is taken for an order, which a chain is not; the client has heard it.
        while let Err(error) = account.order(url.clone()).await {
            if let Some(chain) = client.chain() {
                if pair::leads_to(&chain.pem, root) {
                    return chain.pem;
                }
                break;
            }
            if !tries.again(&error).await {
                break;
            }
        }
    }
    tracing::warn!(%root, "the CA has no chain to this root: its usual one serves");
    usual
}

/// Fetches what there is to prove.
async fn look(order: &mut Order) -> Result<(), Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        authorization?;
    }
    Ok(())
}

/// Shows the proofs of all names, or notes which records are to be.
async fn show(
    order: &mut Order,
    way: Way,
    proofs: &Proofs,
    records: &mut BTreeMap<String, Vec<String>>,
) -> Result<(), Failed> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let name = name(authorization.identifier().identifier);
        let Some(handle) = authorization.challenge(kind(way)) else {
            return Err(Failed::NotOffered { name, way });
        };
        let proof = handle.key_authorization();
        match way {
            Way::Page => proofs.show_page(&handle.token, proof.as_str()),
            Way::Handshake => proofs.show_handshake(&name, proof.digest().as_ref())?,
            Way::Standing => {}
            Way::Record => records.entry(record(&name)).or_default().push(proof.dns_value()),
        }
    }
    Ok(())
}

/// Has the CA look at the proofs.
async fn prove(order: &mut Order, way: Way) -> Result<(), Failed> {
    let (mut tries, mut told) = (Tries::default(), Vec::new());
    while let Err(error) = tell(order, way, &mut told).await {
        tries.or_end(error).await?;
    }
    loop {
        match order.poll_ready(&POLL).await {
            Ok(OrderStatus::Ready | OrderStatus::Valid | OrderStatus::Processing) => return Ok(()),
            Err(error) if tries.again(&error).await => {}
            Err(error @ Error::Api(_)) => return Err(refusal(order, way).await.unwrap_or(Failed::Acme(error))),
            Err(error) => return Err(error.into()),
            Ok(OrderStatus::Invalid | OrderStatus::Pending) => {
                let silent = Failed::Acme(Error::Str("the CA does not say why it refuses"));
                return Err(refusal(order, way).await.unwrap_or(silent));
            }
        }
    }
}

/// Tells the CA that proofs are shown, of all names that it was not `told` of.
async fn tell(order: &mut Order, way: Way, told: &mut Vec<String>) -> Result<(), Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let url = authorization.url().to_owned();
        if authorization.status == AuthorizationStatus::Pending && !told.contains(&url) {
            if let Some(mut challenge) = authorization.challenge(kind(way)) {
                challenge.set_ready().await?;
            }
            told.push(url);
        }
    }
    Ok(())
}

/// Why an order is not ready, if the CA says it of one of the names.
async fn refusal(order: &mut Order, way: Way) -> Option<Failed> {
    let mut tries = Tries::default();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else { continue };
        while let Err(error) = authorization.refresh().await {
            if !tries.again(&error).await {
                break;
            }
        }
        let error = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(error) = error {
            let (name, reason) = (name(authorization.identifier().identifier), said(error));
            return Some(Failed::Unproved { name, way, reason });
        }
    }
    None
}

/// How often the steps of an order were tried again.
#[derive(Default)]
pub(super) struct Tries {
    made: u32,
}

impl Tries {
    /// Waits a moment if the step that failed is worth another try; says whether it is.
    pub(super) async fn again(&mut self, error: &Error) -> bool {
        if !is_passing(error) || self.made == TRIES {
            return false;
        }
        tracing::debug!(%error, "a CA is asked again");
        sleep(FIRST_WAIT * 2_u32.pow(self.made.min(LONGEST_WAIT))).await;
        self.made += 1;
        true
    }

    /// The same, or the error.
    async fn or_end(&mut self, error: Error) -> Result<(), Error> {
        if self.again(&error).await { Ok(()) } else { Err(error) }
    }
}

/// Whether the same may succeed a moment later.
fn is_passing(error: &Error) -> bool {
    if let Error::Api(problem) = error {
        return is(problem, "badNonce") || problem.status.is_some_and(|status| status >= 500);
    }
    // A connection that broke is, and an answer of something between us and the CA.
    !matches!(error, Error::Timeout(_) | Error::Unsupported(_) | Error::Crypto | Error::KeyRejected)
}

/// Whether the CA makes accounts for its customers alone, and was not told of which this is.
pub(super) fn is_for_customers(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if is(problem, "externalAccountRequired"))
}

/// Whether the CA does not know the account.
pub(super) fn is_account_unknown(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if is(problem, "accountDoesNotExist"))
}

fn is(problem: &Problem, kind: &str) -> bool {
    problem.r#type.as_deref().and_then(|name| name.strip_prefix("urn:ietf:params:acme:error:")) == Some(kind)
}

/// What a problem says, for people.
fn said(problem: &Problem) -> String {
    problem.detail.clone().or_else(|| problem.r#type.clone()).unwrap_or_else(|| "no reason given".to_owned())
}

fn name(identifier: &Identifier) -> String {
    identifier.authorized(false).to_string()
}

fn kind(way: Way) -> ChallengeType {
    match way {
        Way::Record => ChallengeType::Dns01,
        Way::Standing => ChallengeType::Unknown("dns-persist-01".to_owned()),
        Way::Handshake => ChallengeType::TlsAlpn01,
        Way::Page => ChallengeType::Http01,
    }
}
