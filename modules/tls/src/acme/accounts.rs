//! The accounts at public CAs: found or made when they are first used, and given new keys.
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration as StdDuration,
};

use instant_acme::{Account, NewAccount};

use super::{
    authority,
    client::Client,
    order::{self, Failed, Tries},
    shelf::{self, Shelf},
};
use crate::{Config, config::PublicCa};

/// The accounts in use.
pub(super) struct Accounts {
    shelf: Shelf,
    /// Those that are open, by the directories that they are at.
    known: Mutex<BTreeMap<String, (Account, Client)>>,
}

impl Accounts {
    /// Those that lie on this shelf.
    pub(super) fn new(shelf: Shelf) -> Self {
        Self { shelf, known: Mutex::default() }
    }

    /// The account at a CA; or an error, and how long the CA wants to be left alone, if it says so.
    pub(super) async fn open(
        &self,
        config: &Config,
        ca: &PublicCa,
    ) -> Result<(Account, Client), (Failed, Option<StdDuration>)> {
        let directory = ca.directory.as_str();
        if let Some(open) = self.known().get(directory) {
            return Ok(open.clone());
        }
        let client = Client::new(ca.directory_ca.clone()).await.map_err(|error| (error.into(), None))?;
        let opened = self.find_or_make(config, ca, &client).await;
        let account = opened.map_err(|error| (error, client.rest()))?;
        self.known().insert(directory.to_owned(), (account.clone(), client.clone()));
        Ok((account, client))
    }

    /// Opens the account at a CA, or makes it if there is none.
    async fn find_or_make(&self, config: &Config, ca: &PublicCa, client: &Client) -> Result<Account, Failed> {
        let contact: Vec<String> = config.email.iter().map(|email| format!("mailto:{email}")).collect();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        if let Some(account) = self.find(ca, client, &contact).await? {
            return Ok(account);
        }
        let (directory, mut tries) = (ca.directory.as_str(), Tries::new(client));
        let customer = match &ca.external_account {
            Some(customer) => Some(shelf::external_account(customer.clone()).await?),
            None => None,
        };
        let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = loop {
            let builder = Account::builder_with_http(Box::new(client.clone()));
            match builder.create(&new, directory.to_owned(), customer.as_ref()).await {
                Err(error) if order::is_for_customers(&error) => return Err(Failed::ForCustomers),
                Err(error) if tries.again(&error).await => {}
                made => break made?,
            }
        };
        self.shelf.keep_account(directory, &credentials, client.identities()).await?;
        tracing::info!(%directory, account = account.id(), "an account at a CA was made");
        Ok(account)
    }

    /// Opens the account at a CA that is kept, if there is one and the CA knows it by its key.
    async fn find(&self, ca: &PublicCa, client: &Client, contact: &[&str]) -> Result<Option<Account>, Failed> {
        let (directory, mut tries) = (ca.directory.as_str(), Tries::new(client));
        let Some(credentials) = self.shelf.account(directory).await? else { return Ok(None) };
        let account = loop {
            let credentials = serde_json::from_value(credentials.clone()).map_err(instant_acme::Error::from)?;
            match Account::builder_with_http(Box::new(client.clone())).from_credentials(credentials).await {
                Err(error) if tries.again(&error).await => {}
                opened => break opened?,
            }
        };
        if !self.shelf.is_key_changing(directory).await? {
            return Ok(Some(account));
        }
        // Its key was to be changed, and what became of that is not known: does the CA take the old one?
        loop {
            match account.update_contacts(contact).await {
                Ok(()) => break,
                Err(error) if tries.again(&error).await => {}
                Err(error) if order::is_key_unknown(&error) => {
                    tracing::warn!("the key of an account at a CA was lost while it was changed: {error}");
                    self.shelf.forget_account(directory).await?;
                    self.shelf.end_key_change(directory).await?;
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.shelf.end_key_change(directory).await?;
        Ok(Some(account))
    }

    /// Gives the accounts new keys, in place of those that someone else may know:
    /// [RFC 8555, section 7.3.5](https://www.rfc-editor.org/rfc/rfc8555#section-7.3.5). Returns the hosts of their CAs.
    ///
    /// # Errors
    /// A CA did not take one, or it cannot be kept; in words.
    pub(super) async fn change_keys(&self, config: &Config) -> Result<Vec<String>, String> {
        let mut changed = Vec::new();
        for ca in config.authorities() {
            let directory = ca.directory.as_str();
            if self.shelf.account(directory).await.map_err(|error| error.to_string())?.is_none() {
                continue;
            }
            let host = authority(directory);
            let failed = |error: &dyn fmt::Display| format!("the key at {host} is the old one: {error}");
            let (mut account, client) = self.open(config, &ca).await.map_err(|(error, _)| failed(&error))?;
            self.shelf.begin_key_change(directory).await.map_err(|error| failed(&error))?;
            // Whatever happens now, which key counts is found out when the account is opened again.
            self.close(&ca);
            let mut tries = Tries::new(&client);
            let credentials = loop {
                match account.update_key().await {
                    Err(error) if tries.again(&error).await => {}
                    updated => break updated.map_err(|error| failed(&error))?,
                }
            };
            let kept = self.shelf.change_key(directory, &credentials).await;
            kept.map_err(|error| format!("{host} has a new key, and it cannot be kept: {error}"))?;
            self.known().insert(directory.to_owned(), (account, client));
            tracing::info!(%directory, "an account at a CA has a new key");
            changed.push(host);
        }
        Ok(changed)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, (Account, Client)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the account at a CA opened anew when it is next used.
    pub(super) fn close(&self, ca: &PublicCa) {
        self.known().remove(ca.directory.as_str());
    }
}
