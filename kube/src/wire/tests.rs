use std::net::{Ipv4Addr, SocketAddr};

use admin::{Client, Status};
use kube_contract::Running;

use super::*;
use crate::{
    config::{self, Environment},
    control,
};

fn config(folder: &Path) -> Config {
    let environment = Environment { data_home: Some(folder.to_owned()), ..Environment::default() };
    let (mut config, _) = config::read("", folder, &environment).unwrap();
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    (config.hosting.http, config.hosting.https, config.metrics.listen) = (vec![any], vec![any], vec![any]);
    config
}

async fn start(config: Config) -> (Running<Config>, Arc<Control>, mpsc::Receiver<Request>) {
    let (requests, inbox) = control::channel();
    let wired = wire(config, None, Limits::default(), requests).await.unwrap();
    let running = wired.appliance.start();
    running.serving().await.unwrap();
    (running, wired.control, inbox)
}

#[tokio::test]
async fn certificates_are_for_what_is_hosted() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    let domains = vec![apps::Host::try_from("shop.example".to_owned()).unwrap()];
    config.apps.apps.insert("shop".parse().unwrap(), apps::App { domains, ..Default::default() });
    let apps = config.apps.folder.clone();
    let (running, control, _inbox) = start(config).await;
    let (domain, sites, records) = ("localhost".to_owned(), control.sites.clone(), Arc::default());
    let routes = hosting::Routes::default();
    let served = Served { domain, sites, routed: routes.hosts(), records };
    let names = |served: &Served| {
        let hosts = tls::Names::hosts(served);
        ["localhost", "sync.localhost", "shop.localhost", "shop.example"].map(|name| {
            let is_served = tls::Names::serves(served, name);
            assert_eq!(hosts.iter().any(|host| host == name), is_served, "{name}");
            is_served
        })
    };
    assert_eq!(names(&served), [true, true, false, false]);

    fs::create_dir(apps.join("shop")).unwrap();
    fs::write(apps.join("shop/index.html"), "hello").unwrap();
    let mut sites = control.sites.clone();
    sites.wait_for(|sites| sites.contains_key("shop")).await.unwrap();
    assert_eq!(names(&served), [true, true, true, true]);
    assert!(!tls::Names::serves(&served, "api.localhost"));
    let route = hosting::Route {
        process: "api".to_owned(),
        host: "api".to_owned(),
        path: "/".to_owned(),
        protocol: hosting::Protocol::Http1,
    };
    routes.set(vec![route]);
    assert!(tls::Names::serves(&served, "api.localhost"));
    assert!(tls::Names::hosts(&served).contains(&"api.localhost".to_owned()));
    let listed = control.now().sites.into_iter().find(|site| site.name == "shop").unwrap();
    assert!(listed.domains.len() == 1 && listed.domains[0].starts_with("https://shop.example:"), "{listed:?}");
    assert!(running.stop().await);
}

#[tokio::test]
async fn the_command_line_finds_a_socket_that_is_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.admin.socket = folder.path().join("runtime/admin.sock");
    let path = socket(&config);
    let (running, _, _inbox) = start(config).await;
    let status: Status = Client::connect(&path).await.unwrap().get("/v1/status").await.unwrap();
    assert_eq!(status.listeners.len(), 3);
    assert!(status.sites.iter().any(|site| site.name == "welcome"), "{status:?}");
    assert!(status.urls["sync"].starts_with("wss://sync.localhost:"), "{status:?}");
    assert!(running.stop().await);
}

#[tokio::test]
async fn two_kubes_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (running, _, _inbox) = start(config(folder.path())).await;
    let (requests, _inbox) = control::channel();
    let error = wire(config(folder.path()), None, Limits::default(), requests).await.err().unwrap();
    assert!(format!("{error:#}").contains("another"), "{error:#}");
    assert!(running.stop().await);
}

#[tokio::test]
async fn the_data_folder_is_waited_for_a_moment() {
    let folder = tempfile::tempdir().unwrap();
    let held = take(folder.path()).await.unwrap();
    let refused = take(folder.path()).await.unwrap_err().to_string();
    assert!(refused.starts_with("another KUBE uses ") && refused.contains("stop it"), "{refused}");
    // As what a killed KUBE was about to start lets go of it.
    let free = async {
        sleep(LET_GO / 2).await;
        drop(held);
    };
    let (taken, ()) = tokio::join!(take(folder.path()), free);
    taken.unwrap();
}
