use std::{
    collections::BTreeMap,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net},
    path::Path,
    process::Command,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use kube_contract::{Appliance, Limits, Running, testing};

use super::*;

struct Puppet;

impl Control for Puppet {
    fn status(&self) -> Status {
        Status {
            version: "1.2.3".into(),
            pid: 7,
            started: 0,
            domain: "localhost".into(),
            config: None,
            data: "/data".into(),
            modules: vec![],
            listeners: vec![],
            sites: vec![],
            certificates: vec![],
            peers: vec![],
            spaces: vec![],
            urls: BTreeMap::new(),
        }
    }

    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        async { Err("kube.toml:3: no".to_owned()) }.boxed()
    }

    fn drill<'a>(&'a self, module: &'a str) -> BoxFuture<'a, bool> {
        async move { module == "echo" }.boxed()
    }
}

/// Has one process, `worker`, which never ends.
impl Processes for Puppet {
    fn list(&self) -> BoxFuture<'_, Vec<ProcessStatus>> {
        async { vec![worker()] }.boxed()
    }

    fn order(&self, name: String, order: ProcessOrder) -> BoxFuture<'_, Result<ProcessStatus, String>> {
        async move {
            match (&*name, order) {
                ("worker", ProcessOrder::Start | ProcessOrder::Restart) => Ok(worker()),
                ("worker", ProcessOrder::Stop) => Err("worker: it does not end".to_owned()),
                _ => Err(format!("there is no process {name:?}")),
            }
        }
        .boxed()
    }

    fn is_apart(&self, pid: i32) -> bool {
        assert!(pid > 0);
        false
    }
}

/// Keeps everyone apart.
struct Fence;

impl Processes for Fence {
    fn list(&self) -> BoxFuture<'_, Vec<ProcessStatus>> {
        async { vec![] }.boxed()
    }

    fn order(&self, _: String, _: ProcessOrder) -> BoxFuture<'_, Result<ProcessStatus, String>> {
        async { Err("nobody asks".to_owned()) }.boxed()
    }

    fn is_apart(&self, pid: i32) -> bool {
        pid == std::process::id().cast_signed()
    }
}

fn worker() -> ProcessStatus {
    ProcessStatus {
        name: "worker".into(),
        state: "running".into(),
        detail: None,
        since: 1,
        pid: Some(7),
        restarts: 0,
        last_failure: None,
        url: None,
        port: None,
        next: None,
        apart: "user 7".into(),
        memory: None,
        warnings: vec![],
    }
}

/// Makes one token, and keeps none.
impl Tokens for Puppet {
    fn create(&self, order: TokenOrder) -> BoxFuture<'_, Result<NewToken, String>> {
        async move {
            let TokenScope::Sync { space, access } = &order.scope;
            if space != "team" {
                return Err(format!("{space:?} is not the name of a space"));
            }
            assert_eq!((*access, order.label.as_deref(), order.expires_in), (TokenAccess::Read, Some("x"), Some(60)));
            let status = TokenStatus {
                id: "0123".into(),
                scope: order.scope,
                label: order.label,
                created: 1,
                expires: Some(61),
                last_used: None,
            };
            Ok(NewToken { status, token: "kube_sync_x".into() })
        }
        .boxed()
    }

    fn list(&self) -> Vec<TokenStatus> {
        vec![]
    }

    fn revoke<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<TokenStatus>, String>> {
        async move { if id == "broken" { Err("disk full".to_owned()) } else { Ok(None) } }.boxed()
    }
}

/// Has one document, `abc` in `team`, and says back what it was asked.
impl Documents for Puppet {
    fn list(&self, page: PageOrder) -> BoxFuture<'_, Result<Page, Refusal>> {
        async move {
            let name = DocumentName { space: page.space.unwrap_or_default(), id: page.after_id.unwrap_or_default() };
            Ok(Page { documents: vec![document(name)], has_more: page.after_space.is_some() })
        }
        .boxed()
    }

    fn find(&self, id: String) -> BoxFuture<'_, Result<Vec<DocumentStatus>, Refusal>> {
        async move { Ok(vec![document(DocumentName { space: "team".to_owned(), id })]) }.boxed()
    }

    fn content(&self, name: DocumentName, at: Option<At>) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        async move { known(&name).map(|()| format!("{at:?}").into()) }.boxed()
    }

    fn history(&self, name: DocumentName, before: Option<u64>) -> BoxFuture<'_, Result<HistoryPage, Refusal>> {
        async move { known(&name).map(|()| HistoryPage { total: 9, changes: vec![], before }) }.boxed()
    }

    fn export(&self, name: DocumentName) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        async move { known(&name).map(|()| vec![7; 20 << 20].into()) }.boxed()
    }

    fn import(&self, order: ImportOrder, file: Bytes) -> BoxFuture<'_, Result<Imported, Refusal>> {
        let name = DocumentName { space: order.space.unwrap_or_default(), id: order.name.unwrap_or_default() };
        async move { Ok(Imported { name, changes: file.len() as u64, heads: vec![] }) }.boxed()
    }

    fn delete(&self, name: DocumentName) -> BoxFuture<'_, Result<(), Refusal>> {
        async move { known(&name) }.boxed()
    }

    fn restore(&self, name: DocumentName, at: At) -> BoxFuture<'_, Result<bool, Refusal>> {
        async move { known(&name).map(|()| at == At::Time(7)) }.boxed()
    }

    fn verify(&self, name: DocumentName, repair: bool) -> BoxFuture<'_, Result<Findings, Refusal>> {
        async move {
            known(&name)?;
            if repair {
                Ok(Findings { problems: vec![], aside: 0, repaired: true })
            } else {
                Err(Refusal::Failed("disk".into()))
            }
        }
        .boxed()
    }
}

/// Has one zone, `kube.test.`.
impl Certificates for Puppet {
    fn list(&self) -> Vec<CertificateStatus> {
        vec![CertificateStatus {
            names: vec!["kube.test".to_owned(), "*.kube.test".to_owned()],
            issuer: "ca.test".to_owned(),
            proof: Some("dns-01".to_owned()),
            from: Some(1),
            until: Some(2),
            renewal: None,
            error: None,
        }]
    }

    fn renew(&self, name: String) -> BoxFuture<'_, Result<CertificateStatus, String>> {
        let found = Certificates::list(self).into_iter().find(|status| status.names.contains(&name));
        Box::pin(async move { found.ok_or_else(|| format!("nothing is ordered for {name}")) })
    }

    fn change_keys(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(async { Ok(vec!["ca.test".to_owned()]) })
    }
}

impl Zones for Puppet {
    fn list(&self) -> Vec<ZoneStatus> {
        let name = "kube.test.".to_owned();
        vec![ZoneStatus { name, serial: 7, records: 1, signing: None, signed_until: None, secondary: None, app: false }]
    }

    fn text(&self, zone: &str, with_signatures: bool) -> Option<String> {
        let more = if with_signatures { "kube.test. 60 IN RRSIG TXT 13\n" } else { "" };
        (zone == "kube.test.").then(|| format!("kube.test. 60 IN TXT \"some words\"\n{more}"))
    }

    fn roll(&self, zone: String) -> BoxFuture<'_, Result<ZoneStatus, Refusal>> {
        async move {
            let known = Zones::list(self).into_iter().find(|status| status.name == zone);
            known.ok_or_else(|| Refusal::Unprocessable(format!("{zone} is not signed")))
        }
        .boxed()
    }

    fn check(&self, zone: String, order: CheckOrder) -> BoxFuture<'_, Result<Vec<CheckStatus>, Refusal>> {
        let says = order.resolver.unwrap_or_default();
        async move { Ok(vec![CheckStatus { about: zone, verdict: Verdict::Wrong, says }]) }.boxed()
    }

    fn updated(&self, _: &str) -> Vec<UpdatedStatus> {
        let last = UpdateStatus { key: "laptop".to_owned(), at: 7 };
        let (name, rtype) = ("kube.test.".to_owned(), "TXT".to_owned());
        vec![UpdatedStatus { name, rtype, records: 1, last }]
    }

    fn forget(&self, zone: &str, order: &ForgetOrder) -> Result<Vec<String>, String> {
        match (zone, &*order.name, order.rtype.as_deref()) {
            ("kube.test.", "kube.test.", None | Some("TXT")) => Ok(vec!["TXT".to_owned()]),
            (_, "broken.", _) => Err("disk full".to_owned()),
            _ => Ok(Vec::new()),
        }
    }
}

fn known(name: &DocumentName) -> Result<(), Refusal> {
    let is_known = (name.space.as_str(), name.id.as_str()) == ("team", "abc");
    if is_known { Ok(()) } else { Err(Refusal::NotFound(format!("no document {}", name.id))) }
}

fn document(name: DocumentName) -> DocumentStatus {
    DocumentStatus { name, bytes: 1, changes: 2, heads: vec!["00".into()], changed: 3, peers: 4, damaged: false }
}

fn config(folder: &Path) -> Config {
    Config { socket: folder.join("run/admin.sock") }
}

fn ports() -> Ports {
    Ports {
        control: Arc::new(Puppet),
        tokens: Arc::new(Puppet),
        documents: Arc::new(Puppet),
        zones: Arc::new(Puppet),
        certificates: Arc::new(Puppet),
        processes: Arc::new(Puppet),
    }
}

fn bind(config: &Config) -> Result<Admin, Error> {
    Admin::bind(config, ports(), &Registry::new())
}

async fn serve(admin: Admin, config: &Config) -> Running<Config> {
    let mut appliance = Appliance::new(config.clone(), Limits::default());
    appliance.add(Arc::new(admin), |config| config);
    let running = appliance.start();
    running.serving().await.unwrap();
    running
}

#[tokio::test]
async fn passes_the_battery() {
    let folder = tempfile::tempdir().unwrap();
    let bind = async |config: &Config, registry: &Registry| Admin::bind(config, ports(), registry);
    testing::battery(config(folder.path()), bind).await;
}

#[tokio::test]
async fn the_client_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let running = serve(bind(&config).unwrap(), &config).await;
    let client = Client::connect(&config.socket).await.unwrap();
    assert_eq!(client.get::<Status>("/v1/status").await.unwrap(), Puppet.status());
    let () = client.post("/v1/drill/echo").await.unwrap();
    for (error, expected) in [
        (client.post::<()>("/v1/drill/x").await.unwrap_err(), "there is no module \"x\": `kube status` lists them"),
        (client.post::<Vec<String>>("/v1/reload").await.unwrap_err(), "kube.toml:3: no"),
        (client.get::<()>("/v1/reload").await.unwrap_err(), "wrong method"),
        (client.get::<()>("/v9/x").await.unwrap_err(), "this KUBE does not know that request: is it an older version?"),
    ] {
        assert_eq!(error.to_string(), expected);
    }
    assert!(running.stop().await);
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let running = serve(bind(&config).unwrap(), &config).await;
    let client = Client::connect(&config.socket).await.unwrap();
    let order = |space: &str| TokenOrder {
        scope: TokenScope::Sync { space: space.to_owned(), access: TokenAccess::Read },
        label: Some("x".to_owned()),
        expires_in: Some(60),
    };
    let made: serde_json::Value = client.create("/v1/tokens", &order("team")).await.unwrap();
    let expected = serde_json::json!({
        "id": "0123", "kind": "sync", "space": "team", "access": "read", "label": "x", "created": 1, "expires": 61,
        "last_used": null, "token": "kube_sync_x",
    });
    assert_eq!(made, expected);
    assert!(client.get::<Vec<TokenStatus>>("/v1/tokens").await.unwrap().is_empty());
    for (error, expected) in [
        (client.create::<()>("/v1/tokens", &order("a b")).await.unwrap_err(), "\"a b\" is not the name of a space"),
        (client.create::<()>("/v1/tokens", &"x").await.unwrap_err(), "invalid type: string \"x\""),
        (client.delete::<()>("/v1/tokens/77").await.unwrap_err(), "there is no token \"77\": `kube token list`"),
        (client.delete::<()>("/v1/tokens/broken").await.unwrap_err(), "disk full"),
    ] {
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(running.stop().await);
}

#[tokio::test]
async fn documents_are_asked_for_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let running = serve(bind(&config).unwrap(), &config).await;
    let client = Client::connect(&config.socket).await.unwrap();
    let page: Page = client.get("/v1/documents?space=team&after_space=team&after_id=abc").await.unwrap();
    let expected = serde_json::json!({
        "space": "team", "id": "abc", "bytes": 1, "changes": 2, "heads": ["00"], "changed": 3, "peers": 4, "damaged": false,
    });
    assert_eq!((serde_json::to_value(&page.documents[0]).unwrap(), page.has_more), (expected, true));
    let page: Page = client.get("/v1/documents").await.unwrap();
    assert!(!page.has_more);
    let found: Vec<DocumentStatus> = client.get("/v1/documents/abc").await.unwrap();
    assert_eq!(found[0].name, DocumentName { space: "team".into(), id: "abc".into() });

    let at = At::Heads(vec!["ab".to_owned()]);
    let (mut now, mut then) = (Vec::new(), Vec::new());
    client.copy("/v1/documents/team/abc", &mut now).await.unwrap();
    client.copy_with("/v1/documents/team/abc", &at, &mut then).await.unwrap();
    assert_eq!((now, then), (b"None".to_vec(), format!("{:?}", Some(&at)).into_bytes()));
    let page: HistoryPage = client.get("/v1/documents/team/abc/history?before=5").await.unwrap();
    assert_eq!((page.total, page.before), (9, Some(5)));
    let mut file = Vec::new();
    client.copy("/v1/documents/team/abc/file", &mut file).await.unwrap();
    assert_eq!(file.len(), 20 << 20, "an answer that is copied may be of any length");
    let imported: Imported = client.send("/v1/files?space=team&name=abc", vec![7; 1 << 20].into()).await.unwrap();
    assert_eq!((imported.name.id.as_str(), imported.changes), ("abc", 1 << 20));
    assert!(client.create::<bool>("/v1/documents/team/abc/restore", &At::Time(7)).await.unwrap());
    assert!(client.post::<Findings>("/v1/documents/team/abc/repair").await.unwrap().repaired);
    let () = client.delete("/v1/documents/team/abc").await.unwrap();
    let mut nothing = Vec::new();
    for (error, expected) in [
        (client.delete::<()>("/v1/documents/team/other").await.unwrap_err(), "no document other"),
        (client.copy("/v1/documents/else/abc/file", &mut nothing).await.unwrap_err(), "no document abc"),
        (client.create::<bool>("/v1/documents/team/abc/restore", &7).await.unwrap_err(), "request body as JSON"),
        (client.post::<Findings>("/v1/documents/team/abc/verify").await.unwrap_err(), "disk"),
        (client.send::<Imported>("/v1/files", vec![0; LONGEST_FILE + 1].into()).await.unwrap_err(), ""),
    ] {
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(nothing.is_empty());
    let full = client.copy("/v1/documents/team/abc/file", &mut &mut [0; 9][..]).await.unwrap_err();
    assert!(matches!(full, ClientError::Unwritable(_)), "{full}");
    assert!(running.stop().await);
}

#[tokio::test]
async fn a_dead_kubes_socket_is_replaced_and_a_living_ones_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let living = bind(&config).unwrap();
    let refused = bind(&config).err().unwrap().to_string();
    assert!(refused.contains(&format!("another KUBE (process {})", std::process::id())), "{refused}");
    drop(living);
    assert!(!config.socket.exists(), "a KUBE that goes takes its socket along");

    // The standard library leaves the file behind, as a kill does.
    drop(net::UnixListener::bind(&config.socket).unwrap());
    let admin = bind(&config).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&config.socket), mode(config.socket.parent().unwrap())), (0o600, 0o700));
    drop(admin);
    let nobody = Client::connect(&config.socket).await.err().unwrap();
    assert!(nobody.to_string().starts_with("no KUBE is running at"), "{nobody}");
}

#[tokio::test]
async fn what_is_not_a_socket_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    drop(bind(&config).unwrap());
    std::fs::write(&config.socket, "dear diary").unwrap();
    let error = bind(&config).err().unwrap();
    assert!(matches!(error, Error::InTheWay { .. }), "{error}");
    assert_eq!(std::fs::read(&config.socket).unwrap(), b"dear diary");

    std::fs::remove_file(&config.socket).unwrap();
    std::os::unix::fs::symlink("/nowhere", &config.socket).unwrap();
    bind(&config).unwrap();
}

#[tokio::test]
async fn a_folder_that_others_can_write_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let error = bind(&Config { socket: folder.path().join("admin.sock") }).err().unwrap();
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn a_path_that_no_socket_can_have_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let error = bind(&Config { socket: folder.path().join("x".repeat(100)).join("admin.sock") }).err().unwrap();
    assert!(matches!(error, Error::TooLong { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_and_strangers_harm_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let admin = bind(&config).unwrap();
    let (refused, broken) = (admin.metrics.refused_peers.clone(), admin.metrics.broken.clone());
    let running = serve(admin, &config).await;
    let (path, junk) = (config.socket.clone(), b"\x16\x03\x01 not HTTP \r\n\r\n".repeat(4096));
    tokio::task::spawn_blocking(move || {
        let mut stream = net::UnixStream::connect(path).unwrap();
        // It may hang up before all of it is written.
        stream.write_all(&junk).ok();
        stream.read_to_end(&mut Vec::new()).ok();
    })
    .await
    .unwrap();

    if rustix::process::geteuid().is_root() {
        for open in [folder.path(), config.socket.parent().unwrap()] {
            std::fs::set_permissions(open, PermissionsExt::from_mode(0o755)).unwrap();
        }
        std::fs::set_permissions(&config.socket, PermissionsExt::from_mode(0o666)).unwrap();
        let path = config.socket.clone();
        let stranger = tokio::task::spawn_blocking(move || {
            let mut curl = Command::new("setpriv");
            curl.args(["--reuid=65534", "--clear-groups", "curl", "--silent", "--unix-socket"]).arg(path);
            curl.arg("http://kube/v1/status").output().unwrap()
        });
        let output = stranger.await.unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        assert_eq!(refused.get(), 1);
    }
    let client = Client::connect(&config.socket).await.unwrap();
    assert_eq!(client.get::<Status>("/v1/status").await.unwrap().version, "1.2.3");
    assert!(running.stop().await);
    assert_eq!(broken.get(), 1);
}

#[tokio::test]
async fn zones_are_listed_record_by_record_and_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let running = serve(bind(&config).unwrap(), &config).await;
    let client = Client::connect(&config.socket).await.unwrap();
    assert_eq!(client.get::<Vec<ZoneStatus>>("/v1/zones").await.unwrap()[0].serial, 7);
    let records: Vec<RecordStatus> = client.get("/v1/zones/kube.test.").await.unwrap();
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!(
        (&*record.name, record.ttl, &*record.rtype, &*record.value),
        ("kube.test.", 60, "TXT", "\"some words\"")
    );
    assert_eq!(record.updated, Some(UpdateStatus { key: "laptop".to_owned(), at: 7 }));
    let updates: Vec<UpdatedStatus> = client.get("/v1/zones/kube.test./updates").await.unwrap();
    assert_eq!((&*updates[0].rtype, updates[0].records, &*updates[0].last.key), ("TXT", 1, "laptop"));
    let order = |name: &str| ForgetOrder { name: name.to_owned(), rtype: None };
    let forget = async |name| client.create::<Vec<String>>("/v1/zones/kube.test./forget", &order(name)).await;
    assert_eq!(forget("kube.test.").await.unwrap(), ["TXT"]);
    for (name, reason) in [("other.", "no update left anything of \"other.\""), ("broken.", "disk full")] {
        let error = forget(name).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let mut file = Vec::new();
    client.copy("/v1/zones/kube.test./file", &mut file).await.unwrap();
    assert_eq!(file.iter().filter(|octet| **octet == b'\n').count(), 2);
    let unknown = client.get::<Vec<RecordStatus>>("/v1/zones/other.").await.unwrap_err();
    assert_eq!(client.post::<ZoneStatus>("/v1/zones/kube.test./roll").await.unwrap().serial, 7);
    let refused = client.post::<ZoneStatus>("/v1/zones/other./roll").await.unwrap_err();
    assert_eq!(refused.to_string(), "other. is not signed");
    let order = CheckOrder { resolver: Some("192.0.2.53".to_owned()) };
    let found: Vec<CheckStatus> = client.create("/v1/zones/kube.test./check", &order).await.unwrap();
    assert_eq!((&*found[0].about, found[0].verdict, &*found[0].says), ("kube.test.", Verdict::Wrong, "192.0.2.53"));
    assert!(unknown.to_string().contains("there is no zone"), "{unknown}");
    running.stop().await;
}

#[tokio::test]
async fn certificates_are_listed_and_ordered_anew_by_any_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let running = serve(bind(&config).unwrap(), &config).await;
    let client = Client::connect(&config.socket).await.unwrap();
    assert_eq!(client.get::<Vec<CertificateStatus>>("/v1/certificates").await.unwrap()[0].until, Some(2));
    let renew = async |name: &str| {
        let order = RenewOrder { name: name.to_owned() };
        client.create::<CertificateStatus>("/v1/certificates/renew", &order).await
    };
    assert_eq!(renew("*.kube.test").await.unwrap().issuer, "ca.test");
    assert!(renew("other.test").await.unwrap_err().to_string().contains("nothing is ordered for other.test"));
    running.stop().await;
}

#[tokio::test]
async fn processes_are_listed_and_ordered() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let running = serve(bind(&config).unwrap(), &config).await;
    let client = async || Client::connect(&config.socket).await.unwrap();
    assert_eq!(client().await.get::<Vec<ProcessStatus>>("/v1/processes").await.unwrap(), [worker()]);
    let order = async |path: &str| client().await.post::<ProcessStatus>(path).await.map_err(|error| error.to_string());
    assert_eq!(order("/v1/processes/worker/restart").await, Ok(worker()));
    assert!(order("/v1/processes/worker/stop").await.unwrap_err().contains("it does not end"));
    assert!(order("/v1/processes/other/start").await.unwrap_err().contains("there is no process"));
    order("/v1/processes/worker/explode").await.unwrap_err();
    running.stop().await;
}

#[tokio::test]
async fn a_process_that_is_kept_apart_is_refused_whoever_it_runs_as() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let ports = Ports { processes: Arc::new(Fence), ..ports() };
    let running = serve(Admin::bind(&config, ports, &Registry::new()).unwrap(), &config).await;
    let client = Client::connect(&config.socket).await;
    let answer = async { client?.get::<Status>("/v1/status").await };
    answer.await.unwrap_err();
    running.stop().await;
}
