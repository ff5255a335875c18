//! One order: from names to a key and a chain.
use std::{collections::BTreeMap, slice, time::Duration};

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder, Order,
    OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    client::Client,
    proofs::Proofs,
    shelf::{Begun, Shelf},
};
use crate::{Txt, config::Way, pair};

/// How long an order may take, whatever the CA does meanwhile.
pub(crate) const LONGEST: Duration = Duration::from_secs(5 * 60);

/// How often the steps of an order are tried again whose failure says nothing of it: a CA may refuse a nonce, or be away for a
/// moment.
const TRIES: u32 = 9;
/// How long the first wait before that is; each further one is twice as long, so many times.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: u32 = 5;
/// How long steps are tried again: a CA that does not answer at all is not asked for as long as an order may take.
const LONGEST_TRIES: Duration = Duration::from_secs(2 * 60);
/// The longest rest that a CA may ask for within an order; a longer one ends it.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// Most authorizations of an order: Let's Encrypt takes 100 names.
const MOST_PROOFS: usize = 100;
/// How old an order may be to be gone on with: one that the CA has not come to an end with may be stuck there.
const OLDEST: time::Duration = time::Duration::HOUR;
/// The same, of an order whose certificate was issued.
const OLDEST_ISSUED: time::Duration = time::Duration::WEEK;
/// How long a CA may take to look at a proof, or to sign.
const POLL: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(50)).backoff(1.5).timeout(Duration::from_secs(90));

/// What is wanted of a CA, which is known by its directory.
pub(crate) struct Wanted<'a> {
    pub(crate) directory: &'a str,
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

/// What an order uses of this machine.
pub(crate) struct Here<'a> {
    pub(crate) shelf: &'a Shelf,
    pub(crate) proofs: &'a Proofs,
    pub(crate) txt: &'a dyn Txt,
}

/// What a CA has issued.
#[derive(Debug)]
pub(crate) struct Issued {
    /// Key and chain.
    pub(crate) pem: String,
    /// When the order was begun.
    pub(crate) at: OffsetDateTime,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("{}", told(.0))]
    Acme(#[from] Error),
    #[error("the CA has not made it in {} minutes", LONGEST.as_secs() / 60)]
    Late,
    #[error("the CA wants {0} proofs for one certificate")]
    Many(usize),
    #[error("the CA does not take {way} for {name}")]
    NotOffered { name: String, way: Way },
    #[error("{name} was not proved by {way}: {reason}")]
    Unproved { name: String, way: Way, reason: String },
    #[error("{failed}: its name server must say `_validation-persist.{name} TXT \"{text}\"`")]
    Unsaid { failed: Box<Failed>, name: String, text: String },
    #[error("the CA does not say what DNS records call it, so that none can be made for it")]
    Nameless,
    #[error(
        "nobody takes the TXT record {0} from here: it is in no zone of this KUBE, nor where it may write (README, Certificates)"
    )]
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

/// Orders a certificate, or goes on with the order that was begun, and shows what the CA asks for until it has looked. It ends by
/// the deadline.
pub(crate) async fn order(
    account: &Account,
    client: &Client,
    wanted: &Wanted<'_>,
    here: &Here<'_>,
    deadline: Instant,
) -> Result<Issued, Failed> {
    let mut records = BTreeMap::new();
    let issued = timeout_at(deadline, issue(account, client, wanted, here, &mut records)).await;
    here.proofs.clear();
    for name in records.keys() {
        unsay(here.txt, name).await;
    }
    issued.unwrap_or(Err(Failed::Late))
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
    account: &Account,
    client: &Client,
    wanted: &Wanted<'_>,
    here: &Here<'_>,
    records: &mut BTreeMap<String, Vec<String>>,
) -> Result<Issued, Failed> {
    if wanted.way == Way::Standing && wanted.standing.is_none() {
        return Err(Failed::Nameless);
    }
    let (mut order, begun) = match resume(account, client, wanted, here.shelf).await? {
        Some(resumed) => resumed,
        None => begin(account, client, wanted, here.shelf).await?,
    };
    let mut tries = Tries::new(client);
    if ![OrderStatus::Processing, OrderStatus::Valid].contains(&order.state().status) {
        let proofs = order.state().authorizations.len();
        if proofs > MOST_PROOFS {
            return Err(Failed::Many(proofs));
        }
        while let Err(error) = look(&mut order).await {
            tries.or_end(error).await?;
        }
        show(&mut order, wanted.way, here.proofs, records).await?;
        if let Some(text) = &wanted.standing {
            // Where the zone is elsewhere, somebody has put it there.
            let name = format!("_validation-persist.{}", wanted.names[0]);
            here.txt.publish(&name, slice::from_ref(text)).await.map_err(Failed::Txt)?;
        }
        for (name, texts) in &*records {
            if !here.txt.publish(name, texts).await.map_err(Failed::Txt)? {
                return Err(Failed::NotOurs(name.clone()));
            }
        }
        if order.state().status == OrderStatus::Pending {
            let name = wanted.names[0].clone();
            prove(&mut order, client, wanted.way).await.map_err(|failed| match wanted.standing.clone() {
                Some(text) => Failed::Unsaid { failed: Box::new(failed), name, text },
                None => failed,
            })?;
        }
        let mut params = CertificateParams::new(wanted.names)?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&KeyPair::from_pem(&begun.key)?)?;
        finalize(&mut order, request.der(), &mut tries).await?;
    }
    let chain = loop {
        match order.poll_certificate(&POLL).await.and_then(chain) {
            Err(error) if order.state().status != OrderStatus::Invalid && tries.again(&error).await => {}
            answered => break answered?,
        }
    };
    let chain = match wanted.root {
        Some(root) => below(root, account, client, chain).await,
        None => chain,
    };
    let at = OffsetDateTime::from_unix_timestamp(begun.at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    Ok(Issued { pem: begun.key + &chain, at })
}

/// The order that was begun earlier, if the CA has got so far with it that it need not be proved again.
async fn resume(
    account: &Account,
    client: &Client,
    wanted: &Wanted<'_>,
    shelf: &Shelf,
) -> Result<Option<(Order, Begun)>, Error> {
    let Some(begun) = shelf.begun(wanted.names).await else { return Ok(None) };
    let is_it = begun.directory == wanted.directory && begun.names == wanted.names;
    let Some(url) = begun.url.clone().filter(|_| is_it && KeyPair::from_pem(&begun.key).is_ok()) else {
        return Ok(None);
    };
    let mut tries = Tries::new(client);
    let mut order = loop {
        match account.order(url.clone()).await {
            Err(error) if tries.again(&error).await => {}
            // It knows none, or none of this account.
            Err(Error::Api(problem)) if is(&problem, "malformed") || is(&problem, "unauthorized") => return Ok(None),
            found => break found?,
        }
    };
    let age = OffsetDateTime::now_utc().unix_timestamp().saturating_sub(begun.at);
    let is_resumed = is_worth(order.state().status, time::Duration::seconds(age));
    if is_resumed {
        tracing::info!(order = %url, "an order that was begun is gone on with");
    }
    Ok(is_resumed.then_some((order, begun)))
}

/// Whether an order of that age is gone on with.
fn is_worth(status: OrderStatus, age: time::Duration) -> bool {
    match status {
        OrderStatus::Valid => age < OLDEST_ISSUED,
        OrderStatus::Ready | OrderStatus::Processing => age < OLDEST,
        // What was shown to prove it is gone.
        OrderStatus::Pending | OrderStatus::Invalid => false,
    }
}

/// Makes an order, and keeps what it takes to go on with it.
async fn begin(
    account: &Account,
    client: &Client,
    wanted: &Wanted<'_>,
    shelf: &Shelf,
) -> Result<(Order, Begun), Failed> {
    let mut begun = Begun {
        directory: wanted.directory.to_owned(),
        names: wanted.names.to_vec(),
        url: None,
        key: KeyPair::generate()?.serialize_pem(),
        at: OffsetDateTime::now_utc().unix_timestamp(),
    };
    // Where nothing can be written, nothing is ordered.
    shelf.keep_begun(&begun).await?;
    let identifier = |name: &String| name.parse().map_or_else(|_| Identifier::Dns(name.clone()), Identifier::Ip);
    let identifiers: Vec<_> = wanted.names.iter().map(identifier).collect();
    let mut tries = Tries::new(client);
    let order = loop {
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
    begun.url = Some(order.url().to_owned());
    shelf.keep_begun(&begun).await?;
    Ok((order, begun))
}

/// Has the CA sign.
async fn finalize(order: &mut Order, request: &[u8], tries: &mut Tries<'_>) -> Result<(), Error> {
    while let Err(error) = order.finalize_csr(request).await {
        if !matches!(&error, Error::Api(problem) if is(problem, "orderNotReady")) {
            tries.or_end(error).await?;
            continue;
        }
        // Perhaps it signs already, and the answer to an earlier try was lost.
        while let Err(error) = order.refresh().await {
            tries.or_end(error).await?;
        }
        let is_signed = [OrderStatus::Processing, OrderStatus::Valid].contains(&order.state().status);
        return if is_signed { Ok(()) } else { Err(error) };
    }
    Ok(())
}

/// The chain of the same certificate that leads to the root of this name; `usual`, if there is none.
async fn below(root: &str, account: &Account, client: &Client, usual: String) -> String {
    let others = client.chain().map(|chain| chain.others).unwrap_or_default();
    if pair::leads_to(&usual, root) {
        return usual;
    }
    for url in others {
        let mut tries = Tries::new(client);
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

/// What may be a chain of certificates, in PEM: something between us and the CA may have said anything.
fn chain(text: String) -> Result<String, Error> {
    let first = CertificateDer::pem_slice_iter(text.as_bytes()).next();
    if first.is_some_and(|first| first.is_ok()) {
        Ok(text)
    } else {
        Err(Error::Str("a certificate in what the CA sent"))
    }
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
async fn prove(order: &mut Order, client: &Client, way: Way) -> Result<(), Failed> {
    let (mut tries, mut told) = (Tries::new(client), BTreeMap::new());
    while let Err(error) = tell(order, way, &mut told).await {
        tries.or_end(error).await?;
    }
    loop {
        match order.poll_ready(&POLL).await {
            Ok(OrderStatus::Ready | OrderStatus::Valid | OrderStatus::Processing) => return Ok(()),
            Err(error) if tries.again(&error).await => {}
            Err(error @ Error::Api(_)) => return Err(refusal(order, client, way).await.unwrap_or(Failed::Acme(error))),
            Err(error) => return Err(error.into()),
            Ok(OrderStatus::Invalid | OrderStatus::Pending) => {
                let silent = Failed::Acme(Error::Str("the CA does not say why it refuses"));
                return Err(refusal(order, client, way).await.unwrap_or(silent));
            }
        }
    }
}

/// Tells the CA that proofs are shown, of all names that it was not `told` of: by the address of each, whether it has answered.
async fn tell(order: &mut Order, way: Way, told: &mut BTreeMap<String, bool>) -> Result<(), Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let url = authorization.url().to_owned();
        if authorization.status != AuthorizationStatus::Pending || told.get(&url) == Some(&true) {
            continue;
        }
        if let Some(mut challenge) = authorization.challenge(kind(way)) {
            let is_again = told.insert(url.clone(), false).is_some();
            match challenge.set_ready().await {
                // It was told, and its answer was lost: how the order is says what became of it.
                Err(Error::Api(problem)) if is_again && is(&problem, "malformed") => {}
                answered => answered?,
            }
        }
        told.insert(url, true);
    }
    Ok(())
}

/// Why an order is not ready, if the CA says it of one of the names.
async fn refusal(order: &mut Order, client: &Client, way: Way) -> Option<Failed> {
    let mut tries = Tries::new(client);
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

/// How often the steps of an order were tried again, and since when.
pub(super) struct Tries<'a> {
    client: &'a Client,
    made: u32,
    since: Option<Instant>,
}

impl<'a> Tries<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self { client, made: 0, since: None }
    }

    /// Waits a moment if the step that failed is worth another try, as long as the CA says if it does; says whether it is.
    pub(super) async fn again(&mut self, error: &Error) -> bool {
        let rest = self.client.rest();
        let is_over = self.since.get_or_insert_with(Instant::now).elapsed() > LONGEST_TRIES || self.made == TRIES;
        if is_over || rest.is_some_and(|rest| rest > LONGEST_REST) || rest.is_none() && !is_passing(error) {
            // Whoever ends the order hears of it.
            self.client.leave(rest);
            return false;
        }
        tracing::debug!(%error, "a CA is asked again");
        let wait = FIRST_WAIT * 2_u32.pow(self.made.min(LONGEST_WAIT));
        sleep(rest.map_or(wait, |rest| rest.max(wait))).await;
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

/// Whether the CA does not take what an account's key has signed: [RFC 8555, section 6.7](https://www.rfc-editor.org/rfc/rfc8555#section-6.7).
pub(super) fn is_key_unknown(error: &Error) -> bool {
    let kinds = ["accountDoesNotExist", "unauthorized", "malformed", "badPublicKey"];
    matches!(error, Error::Api(problem) if kinds.iter().any(|kind| is(problem, kind)))
}

/// Whether the CA does not know the account.
pub(super) fn is_account_unknown(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if is(problem, "accountDoesNotExist"))
}

fn is(problem: &Problem, kind: &str) -> bool {
    problem.r#type.as_deref().and_then(|name| name.strip_prefix("urn:ietf:params:acme:error:")) == Some(kind)
}

/// What an error says, for people.
fn told(error: &Error) -> String {
    if let Error::Json(error) = error {
        return format!("the CA's answer is not what RFC 8555 wants there: {error}");
    }
    error.to_string()
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

#[cfg(test)]
mod tests;
