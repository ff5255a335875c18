//! Binding, reloading, falling, stopping.
use kube_contract::testing;

use super::*;

fn ports() -> Ports {
    let (_, sites) = watch::channel(Arc::default());
    let (certificates, trust, offers) = (certificate().0, Arc::new(Trusted), watch::Sender::default());
    Ports { sites, certificates, trust, mounts: Vec::new(), routes: Routes::default(), sync: "/sync", offers }
}

#[tokio::test]
async fn passes_the_battery() {
    testing::battery(config(), async |config, registry| Hosting::bind(config, ports(), registry)).await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    testing::refuses_a_taken_port(
        |address| Config { http: vec![address], ..config() },
        async |config, registry| Hosting::bind(config, ports(), registry),
    )
    .await;
}

#[tokio::test]
async fn a_time_out_of_nothing_is_refused() {
    let bad = Config { idle_timeout: Duration::ZERO, ..config() };
    let error = Hosting::bind(&bad, ports(), &Registry::new()).unwrap_err();
    assert!(error.to_string().contains("idle_timeout"), "{error}");
}

#[test]
fn the_table_takes_what_people_write() {
    let table = r#"{
        "http": ["0.0.0.0:80", "[::]:80"], "https": ["[::]:443"], "connections": 10, "header_timeout": "5s",
        "header_size": "16KiB", "streams": 7, "cache": "1MiB", "cached_file": "100KiB"
    }"#;
    let config: Config = serde_json::from_str(table).unwrap();
    assert_eq!((config.http.len(), config.streams.get(), config.cache.as_u64()), (2, 7, 1 << 20));
    assert_eq!((config.header_timeout, &*config.domain), (Duration::from_secs(5), "localhost"));
    for bad in [r#"{"connections": 0}"#, r#"{"colour": 1}"#, r#"{"http": ["x"]}"#, r#"{"domain": "a"}"#] {
        serde_json::from_str::<Config>(bad).unwrap_err();
    }
}

#[tokio::test]
async fn a_reload_adds_and_removes_listeners_and_keeps_connections() {
    let mut world = World::new(config()).await;
    let mut client = world.client(Way::Two).await;
    let (http, https) = (world.address(Scheme::Http), world.address(Scheme::Https));
    client.ask("GET", "https://shop.kube.test/", &[]).await;
    let any = config().http[0];
    let new = Config { http: vec![], https: vec![any, any], home: "shop".into(), ..config() };
    assert_eq!(world.running.reload(new.clone()).unwrap(), ["hosting"]);
    let addresses = world.hosting.addresses();
    assert_eq!(addresses.len(), 2);
    assert_eq!(addresses[0], (Scheme::Https, https), "kept");
    TcpStream::connect(addresses[1].1).await.unwrap();
    let refused = async { while TcpStream::connect(http).await.is_ok() {} };
    within(refused).await;
    assert_eq!(client.ask("GET", "https://shop.kube.test/", &[]).await.status, 200, "on the old connection");
    assert_eq!(world.get(Way::Two, "https://kube.test/").await.text(), "<h1>Shop</h1>", "the new home");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bad = Config { http: vec![taken.local_addr().unwrap()], https: vec![], ..new };
    let refused = world.running.reload(bad).unwrap_err();
    assert!(refused.to_string().contains(&taken.local_addr().unwrap().to_string()), "{refused}");
    assert_eq!(world.hosting.addresses(), addresses, "nothing has changed");
    assert_eq!(client.ask("GET", "https://shop.kube.test/", &[]).await.status, 200);
    assert_eq!(world.get(Way::One, "https://kube.test/").await.status, 200);
}

#[tokio::test]
async fn limits_change_for_new_connections() {
    let mut world = World::new(config()).await;
    let mut old = world.client(Way::One).await;
    let one = std::num::NonZeroUsize::new(1).unwrap();
    world.running.reload(Config { header_count: one, ..config() }).unwrap();
    let headers = [("x-a", "1")];
    assert_eq!(old.ask("GET", "https://shop.kube.test/", &headers).await.status, 200);
    assert_eq!(world.ask(Way::One, "GET", "https://shop.kube.test/", &headers).await.status, 431);
}

#[tokio::test]
async fn a_fallen_module_serves_again_on_the_same_port() {
    let world = World::new(config()).await;
    let addresses = world.hosting.addresses();
    assert!(world.running.drill("hosting"));
    let board = world.running.board();
    within(board.until(|board| matches!(board[0].health, Health::Failed { .. }))).await;
    within(board.until_all(Health::is_serving)).await;
    assert_eq!(world.hosting.addresses(), addresses);
    assert_eq!(world.get(Way::Two, "https://shop.kube.test/").await.status, 200);
}

#[tokio::test]
async fn a_stop_finishes_what_was_begun() {
    let world = World::new(config()).await;
    let content = vec![7; 20_000_000];
    world.publish(&[("film.mp4", &content)]);
    let mut idle = [world.client(Way::Plain).await, world.client(Way::One).await, world.client(Way::Two).await];
    for client in &mut idle {
        client.ask("GET", "https://shop.kube.test/nothing.js", &[]).await;
    }
    let silent = [world.tcp(Scheme::Http).await];
    let (mut one, mut two) = (world.client(Way::One).await, world.client(Way::Two).await);
    let begun = [
        one.begin("GET", "https://shop.kube.test/film.mp4", &[]).await.unwrap(),
        two.begin("GET", "https://shop.kube.test/film.mp4", &[]).await.unwrap(),
    ];
    let address = world.address(Scheme::Https);
    let World { running, hosting, blobs: _blobs, .. } = world;
    let readers = async {
        for stream in silent {
            assert_eq!(raw(stream, b"").await, "");
        }
        for client in &mut idle {
            client.closed().await;
        }
        for response in begun {
            assert!(within(response.into_body().collect()).await.unwrap().to_bytes() == content);
        }
    };
    let (drained, ()) = tokio::join!(running.stop(), readers);
    assert!(drained);
    drop(hosting);
    TcpStream::connect(address).await.unwrap_err();
}
