use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use instant_acme::{AccountCredentials, BodyWrapper, BytesResponse, HttpClient};
use rcgen::CertificateParams;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::tests::NoRecords;

/// What a CA does with a request to a path: it waits, and answers with a status and a body, or with nothing.
type Answer = (Duration, Option<(u16, String)>);

/// A CA in memory.
struct Fake {
    answer: Box<dyn Fn(&str) -> Answer + Send + Sync>,
    client: Client,
    /// What a refusal asks for.
    rest: Option<Duration>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl HttpClient for Fake {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let path = request.uri().path().to_owned();
        let (wait, answer) = (self.answer)(&path);
        self.seen.lock().unwrap().push(path);
        let (client, rest) = (self.client.clone(), self.rest);
        Box::pin(async move {
            sleep(wait).await;
            let Some((status, body)) = answer else { return Err(Error::Str("no answer")) };
            let status = StatusCode::from_u16(status).unwrap();
            if status == StatusCode::SERVICE_UNAVAILABLE {
                client.leave(rest);
            }
            let response = Response::builder().status(status).header("replay-nonce", "once");
            let response = response.header("location", "https://ca.test/order/1").body(Full::new(Bytes::from(body)));
            Ok(response.unwrap().into())
        })
    }
}

/// A folder, and a CA in memory.
struct Site {
    folder: TempDir,
    client: Client,
    account: Account,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Site {
    async fn new(rest: Option<Duration>, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        super::super::shelf::open(folder.path()).unwrap();
        let (client, seen) = (Client::new(None).await.unwrap(), Arc::default());
        let fake = Fake { answer: Box::new(answer), client: client.clone(), rest, seen: Arc::clone(&seen) };
        // One that instant-acme's own tests have.
        let credentials: AccountCredentials = serde_json::from_value(json!({
            "id": "https://ca.test/account/1",
            "key_pkcs8": "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgJVWC_QzOTCS5vtsJp2IG-UDc8cdDfeoKtxSZxaznM-mhRANCAAQen\
                          CPoGgPFTdPJ7VLLKt56RxPlYT1wNXnHc54PEyBg3LxKaH0-sJkX0mL8LyPEdsfL_Oz4TxHkWLJGrXVtNhfH",
            "urls": {
                "newNonce": "https://ca.test/nonce", "newAccount": "https://ca.test/account",
                "newOrder": "https://ca.test/order", "revokeCert": "https://ca.test/revoke",
            },
        }))
        .unwrap();
        let account = Account::builder_with_http(Box::new(fake)).from_credentials(credentials).await.unwrap();
        Self { folder, client, account, seen }
    }

    fn shelf(&self) -> Shelf {
        Shelf::new(self.folder.path())
    }

    async fn order(&self) -> Result<Issued, Failed> {
        let (names, proofs, shelf) = (["kube.test".to_owned()], Proofs::default(), self.shelf());
        let directory = "https://ca.test/dir";
        let wanted = Wanted {
            directory,
            names: &names,
            way: Way::Page,
            replaces: None,
            profile: None,
            standing: None,
            root: None,
        };
        let here = Here { shelf: &shelf, proofs: &proofs, txt: &NoRecords };
        order(&self.account, &self.client, &wanted, &here, Instant::now() + LONGEST).await
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn said(body: serde_json::Value) -> Answer {
    (Duration::ZERO, Some((200, body.to_string())))
}

fn an_order(status: &str) -> Answer {
    said(json!({
        "status": status, "authorizations": ["https://ca.test/authorization/1"], "finalize": "https://ca.test/finalize/1",
        "certificate": "https://ca.test/certificate/1",
    }))
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_hangs_is_given_up_after_minutes_with_the_reason() {
    let site = Site::new(None, |_| (Duration::from_secs(30), None)).await;
    let begun = Instant::now();
    let failed = site.order().await.unwrap_err();
    assert!(failed.to_string().contains("no answer"), "{failed}");
    assert!(begun.elapsed() <= LONGEST_TRIES + Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_always_says_something_and_never_comes_to_an_end_is_given_up_too() {
    // Ever more authorizations, each slowly.
    let site = Site::new(None, |path| match path {
        "/nonce" => said(json!({})),
        "/order" => {
            let many: Vec<_> = (0..MOST_PROOFS).map(|n| format!("https://ca.test/authorization/{n}")).collect();
            said(json!({"status": "pending", "authorizations": many, "finalize": "https://ca.test/finalize/1"}))
        }
        _ => {
            let identifier = json!({"type": "dns", "value": "kube.test"});
            let slow = json!({"status": "pending", "identifier": identifier, "challenges": []});
            (Duration::from_secs(29), Some((200, slow.to_string())))
        }
    })
    .await;
    let begun = Instant::now();
    let failed = site.order().await.unwrap_err();
    assert_eq!(failed.to_string(), "the CA has not made it in 5 minutes");
    assert_eq!(begun.elapsed().as_secs(), LONGEST.as_secs());
}

#[tokio::test(start_paused = true)]
async fn an_order_of_endless_proofs_is_not_looked_through() {
    let site = Site::new(None, |path| match path {
        "/nonce" => said(json!({})),
        _ => {
            let many = vec!["https://ca.test/authorization/1"; MOST_PROOFS + 1];
            said(json!({"status": "pending", "authorizations": many, "finalize": "https://ca.test/finalize/1"}))
        }
    })
    .await;
    assert_eq!(site.order().await.unwrap_err().to_string(), "the CA wants 101 proofs for one certificate");
    assert_eq!(site.seen(), ["/nonce", "/order"]);
}

/// A CA that refuses orders, and asks for a rest.
async fn busy(rest: u64) -> Site {
    Site::new(Some(Duration::from_secs(rest)), |path| match path {
        "/nonce" => said(json!({})),
        _ => (Duration::ZERO, Some((503, json!({"type": "about:blank", "detail": "busy"}).to_string()))),
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_short_rest_is_waited_for_and_a_long_one_ends_the_order_at_once() {
    let (site, begun) = (busy(7).await, Instant::now());
    site.order().await.unwrap_err();
    assert_eq!(begun.elapsed().as_secs(), 7 * u64::from(TRIES));
    assert_eq!(site.seen().iter().filter(|path| *path == "/order").count(), 1 + TRIES as usize);

    let (site, begun) = (busy(3600).await, Instant::now());
    assert!(site.order().await.unwrap_err().to_string().contains("busy"));
    assert_eq!((begun.elapsed().as_secs(), site.seen().len()), (0, 2));
    assert_eq!(site.client.rest(), Some(Duration::from_secs(3600)), "it is kept for whoever ordered");
}

/// Keeps an order that was begun so long ago; gives its key, and a certificate for it.
async fn keep(site: &Site, age: time::Duration) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["kube.test".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let begun = Begun {
        directory: "https://ca.test/dir".to_owned(),
        names: vec!["kube.test".to_owned()],
        url: Some("https://ca.test/order/9".to_owned()),
        key: key.serialize_pem(),
        at: (OffsetDateTime::now_utc() - age).unix_timestamp(),
    };
    site.shelf().keep_begun(&begun).await.unwrap();
    (begun.key, certificate)
}

#[tokio::test]
async fn what_was_issued_while_nobody_was_there_is_fetched_with_its_own_key() {
    let chain = Arc::new(Mutex::new(String::new()));
    let sent = Arc::clone(&chain);
    let site = Site::new(None, move |path| match path {
        "/nonce" => said(json!({})),
        "/order/9" => an_order("valid"),
        "/certificate/1" => (Duration::ZERO, Some((200, sent.lock().unwrap().clone()))),
        _ => (Duration::ZERO, None),
    })
    .await;
    let (key, certificate) = keep(&site, time::Duration::DAY).await;
    chain.lock().unwrap().clone_from(&certificate);
    let issued = site.order().await.unwrap();
    assert_eq!(issued.pem, key + &certificate);
    assert!(!site.seen().contains(&"/order".to_owned()), "{:?}", site.seen());

    // Until it is stored it is fetched again.
    assert_eq!(site.order().await.unwrap().pem, issued.pem);
    let names = ["kube.test".to_owned()];
    site.shelf().forget_begun(&names).await.unwrap();
    assert!(site.shelf().begun(&names).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_order_that_the_ca_does_not_know_or_that_got_nowhere_is_begun_anew() {
    let unknown = || (Duration::ZERO, Some((404, json!({"type": "urn:ietf:params:acme:error:malformed"}).to_string())));
    let cases: [fn() -> Answer; 3] = [unknown, || an_order("invalid"), || an_order("pending")];
    for case in cases {
        let site = Site::new(None, move |path| match path {
            "/nonce" => said(json!({})),
            "/order/9" => case(),
            _ => (Duration::ZERO, Some((403, json!({"detail": "no more orders"}).to_string()))),
        })
        .await;
        keep(&site, time::Duration::MINUTE).await;
        assert!(site.order().await.unwrap_err().to_string().contains("no more orders"));
        assert!(site.seen().contains(&"/order".to_owned()));
    }
}

#[test]
fn an_order_is_gone_on_with_as_long_as_something_may_come_of_it() {
    use OrderStatus::{Invalid, Pending, Processing, Ready, Valid};
    for (status, longest) in [(Valid, OLDEST_ISSUED), (Ready, OLDEST), (Processing, OLDEST)] {
        assert!(is_worth(status, time::Duration::ZERO) && is_worth(status, longest - time::Duration::SECOND));
        assert!(!is_worth(status, longest));
    }
    assert!(!is_worth(Pending, time::Duration::ZERO) && !is_worth(Invalid, time::Duration::ZERO));
}
