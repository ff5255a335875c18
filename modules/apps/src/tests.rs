use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytesize::ByteSize;
use kube_contract::{Appliance, Health, Limits as Drain, Running};
use kube_manifest::Missing;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A running module, its folders, and its eyes.
struct Stage {
    home: TempDir,
    config: Config,
    apps: Arc<Apps>,
    running: Running<Config>,
    sites: watch::Receiver<Arc<Sites>>,
}

fn config(home: &Path) -> Config {
    Config { folder: home.join("apps"), data: home.join("state"), bundled: false, ..Config::default() }
}

/// Paces for tests: nothing but an event brings about a look, so that what passes does not pass by luck.
fn pace() -> Pace {
    Pace { look: Duration::from_secs(600), ..Pace::default() }
}

impl Stage {
    async fn new() -> Self {
        Self::with(tempfile::tempdir().unwrap(), pace(), |_| {}).await
    }

    async fn with(home: TempDir, pace: Pace, set: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(home.path());
        set(&mut config);
        let mut apps = Apps::bind(&config, &Registry::new()).unwrap();
        apps.pace = pace;
        Self::run(home, config, apps).await
    }

    async fn run(home: TempDir, config: Config, apps: Apps) -> Self {
        let apps = Arc::new(apps);
        let mut appliance = Appliance::new(config.clone(), Drain::default());
        appliance.add(Arc::clone(&apps), |config| config);
        let running = appliance.start();
        timeout(PATIENCE, running.serving()).await.expect("ready in time").unwrap();
        let sites = apps.sites();
        Self { home, config, apps, running, sites }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    /// Writes a file, and the folders it is in.
    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    async fn until(&mut self, what: &str, is: impl FnMut(&Arc<Sites>) -> bool) -> Arc<Sites> {
        let reached = timeout(PATIENCE, self.sites.wait_for(is)).await.map(|sites| sites.unwrap().clone());
        match reached {
            Ok(sites) => sites,
            Err(_) => panic!("never: {what}; now {:?}; {:?}", self.texts(), self.running.board().now()),
        }
    }

    /// Waits until exactly these files are live, with these contents: `app/path`, text.
    async fn until_live(&mut self, files: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> =
            files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        self.until(&format!("{files:?}"), |sites| texts(sites) == expected).await;
    }

    fn texts(&self) -> BTreeMap<String, String> {
        texts(&self.sites.borrow())
    }

    async fn until_health(&self, is: impl Fn(&Health) -> bool) -> Health {
        let board = self.running.board();
        if timeout(PATIENCE, board.until_all(&is)).await.is_err() {
            panic!("health is {:?}", board.now());
        }
        board.now()[0].health.clone()
    }

    async fn until_degraded(&self, why: &str) {
        self.until_health(|health| matches!(health, Health::Degraded(reason) if reason.contains(why))).await;
    }

    async fn until_ready(&self) {
        self.until_health(|health| *health == Health::Ready).await;
    }

    fn problems(&self, kind: &str) -> i64 {
        self.apps.metrics.problems.with_label_values(&[kind]).get()
    }

    async fn stop(self) -> TempDir {
        assert!(self.running.stop().await, "stops in time");
        self.home
    }
}

/// What is live: `app/path` and the text that its blob holds.
fn texts(sites: &Sites) -> BTreeMap<String, String> {
    let files = sites.values().flat_map(|site| site.manifest.files().map(move |(path, file)| (site, path, file)));
    files
        .map(|(site, path, file)| {
            let content = fs::read(site.blob(file)).unwrap();
            assert_eq!(content.len() as u64, file.size, "{path}");
            (format!("{}/{path}", site.name), String::from_utf8_lossy(&content).into_owned())
        })
        .collect()
}

#[tokio::test]
async fn the_module_keeps_the_contract() {
    let home = tempfile::tempdir().unwrap();
    let bind = async |config: &Config, registry: &Registry| Apps::bind(config, registry);
    kube_contract::testing::battery(config(home.path()), bind).await;
}

#[tokio::test]
async fn what_is_there_at_start_is_live_when_it_is_ready() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join("apps/shop/css")).unwrap();
    fs::write(home.path().join("apps/shop/index.html"), "shop").unwrap();
    fs::write(home.path().join("apps/shop/css/a.css"), "a").unwrap();
    let stage = Stage::with(home, pace(), |_| {}).await;
    let expected = [("shop/css/a.css", "a"), ("shop/index.html", "shop")];
    assert_eq!(stage.texts(), expected.map(|(path, text)| (path.into(), text.into())).into());
}

#[tokio::test]
async fn a_folder_is_live_updated_and_removed() {
    let mut stage = Stage::new().await;
    stage.write("apps/shop/index.html", "one");
    stage.write("apps/shop/deep/er/a.txt", "a");
    stage.until_live(&[("shop/deep/er/a.txt", "a"), ("shop/index.html", "one")]).await;
    stage.write("apps/shop/index.html", "two");
    stage.until_live(&[("shop/deep/er/a.txt", "a"), ("shop/index.html", "two")]).await;
    fs::remove_dir_all(stage.path("apps/shop/deep")).unwrap();
    stage.until_live(&[("shop/index.html", "two")]).await;
    fs::remove_dir_all(stage.path("apps/shop")).unwrap();
    stage.until_live(&[]).await;
}

#[tokio::test]
async fn an_app_that_did_not_change_keeps_its_arc() {
    let mut stage = Stage::new().await;
    stage.write("apps/shop/index.html", "shop");
    stage.until_live(&[("shop/index.html", "shop")]).await;
    let before = Arc::clone(&stage.sites.borrow()["shop"]);
    stage.write("apps/notes/index.html", "notes");
    stage.until_live(&[("notes/index.html", "notes"), ("shop/index.html", "shop")]).await;
    assert!(Arc::ptr_eq(&before, &stage.sites.borrow()["shop"]));
}

#[tokio::test]
async fn a_file_that_is_open_for_writing_holds_its_app_back() {
    let mut stage = Stage::new().await;
    stage.write("apps/shop/index.html", "old");
    stage.until_live(&[("shop/index.html", "old")]).await;

    let mut page = File::create(stage.path("apps/shop/index.html")).unwrap();
    page.write_all(b"ne").unwrap();
    // Another app, touched later and live earlier, shows that this one was passed over and not merely slow.
    stage.write("apps/notes/index.html", "notes");
    stage.until_live(&[("notes/index.html", "notes"), ("shop/index.html", "old")]).await;
    page.write_all(b"w").unwrap();
    drop(page);
    stage.until_live(&[("notes/index.html", "notes"), ("shop/index.html", "new")]).await;
}

#[tokio::test]
async fn an_app_that_never_rests_is_published_as_it_is() {
    let pace = Pace { patience: Duration::from_millis(400), ..pace() };
    let mut stage = Stage::with(tempfile::tempdir().unwrap(), pace, |_| {}).await;
    stage.write("apps/shop/index.html", "page");
    let mut log = File::create(stage.path("apps/shop/log")).unwrap();
    log.write_all(b"open").unwrap();
    stage.until_live(&[("shop/index.html", "page"), ("shop/log", "open")]).await;
    drop(log);
}

#[tokio::test]
async fn a_hard_link_is_complete_at_once() {
    let mut stage = Stage::new().await;
    stage.write("elsewhere", "linked");
    fs::create_dir(stage.path("apps/shop")).unwrap();
    fs::hard_link(stage.path("elsewhere"), stage.path("apps/shop/index.html")).unwrap();
    stage.until_live(&[("shop/index.html", "linked")]).await;
}

#[tokio::test]
async fn a_deploy_by_rename_is_one_change() {
    let mut stage = Stage::new().await;
    stage.write("apps/shop/index.html", "one");
    stage.write("apps/shop/one.css", "one");
    stage.until_live(&[("shop/index.html", "one"), ("shop/one.css", "one")]).await;
    stage.write("staging/index.html", "two");
    stage.write("staging/two.css", "two");
    fs::rename(stage.path("apps/shop"), stage.path("old")).unwrap();
    fs::rename(stage.path("staging"), stage.path("apps/shop")).unwrap();
    let next = stage.until("a change", |sites| !texts(sites).contains_key("shop/one.css")).await;
    assert_eq!(texts(&next).into_keys().collect::<Vec<_>>(), ["shop/index.html", "shop/two.css"]);
    // The folder that took its place is watched, and the one that was moved away is not.
    stage.write("old/index.html", "old");
    stage.write("apps/shop/index.html", "three");
    stage.until_live(&[("shop/index.html", "three"), ("shop/two.css", "two")]).await;
}

#[tokio::test]
async fn a_folder_that_is_moved_within_its_app_is_watched_where_it_is() {
    let mut stage = Stage::new().await;
    stage.write("apps/shop/a/page", "1");
    stage.until_live(&[("shop/a/page", "1")]).await;
    fs::rename(stage.path("apps/shop/a"), stage.path("apps/shop/b")).unwrap();
    stage.until_live(&[("shop/b/page", "1")]).await;
    stage.write("apps/shop/a/page", "2");
    stage.until_live(&[("shop/a/page", "2"), ("shop/b/page", "1")]).await;
    stage.write("apps/shop/b/page", "3");
    stage.until_live(&[("shop/a/page", "2"), ("shop/b/page", "3")]).await;
}

#[tokio::test]
async fn an_app_may_be_a_link_to_a_release_and_the_link_may_be_swapped() {
    let mut stage = Stage::new().await;
    stage.write("srv/releases/1/index.html", "one");
    stage.write("srv/releases/2/index.html", "two");
    symlink("releases/1", stage.path("srv/current")).unwrap();
    symlink(stage.path("srv/current"), stage.path("apps/shop")).unwrap();
    stage.until_live(&[("shop/index.html", "one")]).await;
    stage.write("srv/releases/1/index.html", "one, mended");
    stage.until_live(&[("shop/index.html", "one, mended")]).await;
    // The link in the middle of the way is swapped, as `ln -sfn` does.
    symlink("releases/2", stage.path("srv/next")).unwrap();
    fs::rename(stage.path("srv/next"), stage.path("srv/current")).unwrap();
    stage.until_live(&[("shop/index.html", "two")]).await;
    stage.write("srv/releases/2/index.html", "two, mended");
    stage.until_live(&[("shop/index.html", "two, mended")]).await;
    // A link to nothing keeps what is live.
    fs::rename(stage.path("srv/current"), stage.path("srv/away")).unwrap();
    stage.until_degraded("app shop: cannot read").await;
    assert_eq!(stage.texts()["shop/index.html"], "two, mended");
    fs::remove_file(stage.path("apps/shop")).unwrap();
    stage.until_live(&[]).await;
    stage.until_ready().await;
}

#[tokio::test]
async fn two_apps_may_be_links_to_one_folder() {
    let mut stage = Stage::new().await;
    stage.write("srv/index.html", "one");
    symlink(stage.path("srv"), stage.path("apps/a")).unwrap();
    symlink(stage.path("srv"), stage.path("apps/b")).unwrap();
    stage.until_live(&[("a/index.html", "one"), ("b/index.html", "one")]).await;
    stage.write("srv/index.html", "two");
    stage.until_live(&[("a/index.html", "two"), ("b/index.html", "two")]).await;
}

#[tokio::test]
async fn links_that_lead_out_and_hidden_files_are_not_served() {
    let mut stage = Stage::new().await;
    stage.write("secret", "secret");
    stage.write("srv/.env", "secret");
    stage.write("srv/.git/config", "secret");
    stage.write("srv/.well-known/security.txt", "public");
    stage.write("srv/real/page", "page");
    symlink(stage.path("secret"), stage.path("srv/out")).unwrap();
    symlink("../secret", stage.path("srv/up")).unwrap();
    symlink("..", stage.path("srv/parent")).unwrap();
    symlink(".env", stage.path("srv/env")).unwrap();
    symlink("nothing", stage.path("srv/dangling")).unwrap();
    symlink(".", stage.path("srv/real/loop")).unwrap();
    symlink("real", stage.path("srv/alias")).unwrap();
    symlink(stage.path("srv/real/page"), stage.path("srv/absolute")).unwrap();
    fs::rename(stage.path("srv"), stage.path("apps/shop")).unwrap();
    // The absolute link led into the app before it was moved, and leads nowhere since.
    let live = [("shop/.well-known/security.txt", "public"), ("shop/alias/page", "page"), ("shop/real/page", "page")];
    stage.until_live(&live).await;
    stage.until_ready().await;
    assert_eq!(stage.problems("link"), 8, "out, up, parent, env, dangling, absolute, and the loop by both its names");
}

#[tokio::test]
async fn a_name_that_is_no_apps_name_is_ignored_and_counted() {
    let mut stage = Stage::new().await;
    stage.write("apps/Shop/index.html", "no");
    stage.write("apps/v1--shop/index.html", "no");
    stage.write("apps/sync/index.html", "no");
    stage.write("apps/.staging/index.html", "no");
    stage.write("apps/README.txt", "no");
    stage.write("apps/shop/index.html", "yes");
    stage.until_live(&[("shop/index.html", "yes")]).await;
    timeout(PATIENCE, async {
        while stage.problems("name") != 3 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    stage.until_ready().await;
}

#[tokio::test]
async fn an_app_that_is_too_large_keeps_its_version_and_says_why() {
    let limit = |config: &mut Config| {
        config.largest_file = ByteSize::b(10);
        config.largest_app = ByteSize::b(25);
        config.most_files = 4;
    };
    let mut stage = Stage::with(tempfile::tempdir().unwrap(), pace(), limit).await;
    stage.write("apps/shop/a", "old");
    stage.until_live(&[("shop/a", "old")]).await;
    stage.write("apps/shop/a", "more than ten");
    stage.until_degraded("app shop: a has 13 B, more than 10 B; see [apps] largest_file").await;
    stage.write("apps/shop/a", "ten bytes!");
    stage.until_live(&[("shop/a", "ten bytes!")]).await;
    stage.until_ready().await;
    stage.write("apps/shop/b", "ten bytes!");
    stage.write("apps/shop/c", "ten bytes!");
    stage.until_degraded("largest_app").await;
    fs::remove_file(stage.path("apps/shop/c")).unwrap();
    stage.until_ready().await;
    for name in ["c", "d", "e"] {
        stage.write(&format!("apps/shop/{name}"), "");
    }
    stage.until_degraded("more than 4 files and folders").await;
    assert_eq!(stage.texts().into_keys().collect::<Vec<_>>(), ["shop/a", "shop/b"]);
    assert_eq!(stage.problems("limit"), 1);
}

#[tokio::test]
async fn when_the_apps_folder_goes_away_the_apps_stay_until_it_is_back() {
    let pace = Pace { look_blind: Duration::from_millis(50), ..pace() };
    let mut stage = Stage::with(tempfile::tempdir().unwrap(), pace, |_| {}).await;
    stage.write("apps/shop/index.html", "one");
    stage.until_live(&[("shop/index.html", "one")]).await;
    fs::rename(stage.path("apps"), stage.path("away")).unwrap();
    stage.until_degraded("the apps folder").await;
    assert_eq!(stage.texts().len(), 1);
    stage.write("away/shop/index.html", "two");
    fs::rename(stage.path("away"), stage.path("apps")).unwrap();
    stage.until_live(&[("shop/index.html", "two")]).await;
    stage.until_ready().await;
    stage.write("apps/shop/index.html", "three");
    stage.until_live(&[("shop/index.html", "three")]).await;
}

#[tokio::test]
async fn a_second_start_reads_only_what_has_changed() {
    let mut stage = Stage::new().await;
    stage.write("apps/shop/index.html", "one");
    stage.until_live(&[("shop/index.html", "one")]).await;
    let home = stage.stop().await;
    // A folder that cannot be read now is what it was: the index has its files.
    fs::rename(home.path().join("apps/shop"), home.path().join("away")).unwrap();
    symlink("nowhere", home.path().join("apps/shop")).unwrap();
    let mut stage = Stage::with(home, pace(), |_| {}).await;
    assert_eq!(stage.texts()["shop/index.html"], "one");
    stage.until_degraded("app shop").await;
    fs::remove_file(stage.path("apps/shop")).unwrap();
    stage.write("away/index.html", "two");
    fs::rename(stage.path("away"), stage.path("apps/shop")).unwrap();
    stage.until_live(&[("shop/index.html", "two")]).await;
}

#[tokio::test]
async fn contents_that_nothing_names_are_deleted_after_a_while() {
    let pace = Pace { grace: Duration::from_millis(50), index: Duration::ZERO, ..pace() };
    let mut stage = Stage::with(tempfile::tempdir().unwrap(), pace, |_| {}).await;
    stage.write("apps/shop/index.html", "one");
    stage.until_live(&[("shop/index.html", "one")]).await;
    let held = Arc::clone(&stage.sites.borrow()["shop"]);
    let old = held.blob(held.manifest.file("index.html").unwrap());
    stage.write("apps/shop/index.html", "two");
    stage.until_live(&[("shop/index.html", "two")]).await;
    assert_eq!(fs::read_to_string(&old).unwrap(), "one", "someone still has the old version");
    drop(held);
    timeout(PATIENCE, async {
        while old.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(stage.texts()["shop/index.html"], "two");
}

#[tokio::test]
async fn a_folder_replaces_the_bundled_app_of_its_name() {
    let mut stage = Stage::with(tempfile::tempdir().unwrap(), pace(), |config| config.bundled = true).await;
    assert!(stage.texts()["welcome/index.html"].contains("KUBE"));
    stage.write("apps/welcome/index.html", "mine");
    stage.until("my page", |sites| texts(sites).get("welcome/index.html").is_some_and(|text| text == "mine")).await;
    fs::remove_dir_all(stage.path("apps/welcome")).unwrap();
    stage.until("the bundled page", |sites| texts(sites)["welcome/index.html"].contains("KUBE")).await;
}

#[tokio::test]
async fn a_reload_moves_to_another_folder_and_changes_what_a_missing_path_gets() {
    let mut stage = Stage::new().await;
    stage.write("apps/shop/index.html", "one");
    stage.until_live(&[("shop/index.html", "one")]).await;
    let mut new = stage.config.clone();
    let domains = vec![Host::try_from("Shop.example".to_owned()).unwrap()];
    new.apps.insert("shop".parse().unwrap(), App { domains, missing: Missing::Index, ..App::default() });
    stage.running.reload(new.clone()).unwrap();
    let sites = stage.until("the new setting", |sites| sites["shop"].missing == Missing::Index).await;
    assert_eq!(sites["shop"].domains, ["shop.example"]);

    new.folder = stage.path("other");
    new.bundled = true;
    stage.running.reload(new.clone()).unwrap();
    stage.until("only what is bundled", |sites| !sites.contains_key("shop") && sites.contains_key("welcome")).await;
    stage.write("other/shop/index.html", "two");
    stage.until("the other folder", |sites| sites.contains_key("shop")).await;

    let missing = Config { folder: stage.path("no/where"), ..new };
    let refused = stage.running.reload(missing).unwrap_err().to_string();
    assert!(refused.contains("there is no folder") && refused.contains("no/where"), "{refused}");
}

#[tokio::test]
async fn more_changes_than_any_queue_holds_are_all_live_in_the_end() {
    let mut stage = Stage::new().await;
    for i in 0..2_400 {
        stage.write(&format!("apps/many/{}/{i}", i % 7), "x");
    }
    let is_all = |sites: &Arc<Sites>| sites.get("many").is_some_and(|many| many.manifest.files().count() == 2_400);
    stage.until("all files", is_all).await;
}

#[tokio::test]
async fn without_watches_it_looks_by_itself_and_says_why() {
    static ALLOWED: AtomicBool = AtomicBool::new(false);
    let home = tempfile::tempdir().unwrap();
    let mut apps = Apps::bind(&config(home.path()), &Registry::new()).unwrap();
    apps.pace = Pace { look: Duration::from_secs(1), look_blind: Duration::from_millis(100), ..pace() };
    apps.open = |optic, cover| match ALLOWED.load(Ordering::Relaxed) {
        true => eyes::open(optic, cover),
        false => Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch)),
    };
    let config = config(home.path());
    let mut stage = Stage::run(home, config, apps).await;
    stage.until_degraded("raise fs.inotify.max_user_watches").await;
    stage.write("apps/shop/index.html", "one");
    stage.until_live(&[("shop/index.html", "one")]).await;
    fs::remove_dir_all(stage.path("apps/shop")).unwrap();
    stage.until_live(&[]).await;
    assert_eq!(stage.problems("watch"), 1);
    ALLOWED.store(true, Ordering::Relaxed);
    stage.until_ready().await;
    assert_eq!(stage.problems("watch"), 0);
}

#[test]
fn a_missing_parent_and_a_file_in_the_place_of_a_folder_are_errors_that_name_the_path() {
    let home = tempfile::tempdir().unwrap();
    let bind = |config: Config| Apps::bind(&config, &Registry::new()).map(drop).unwrap_err();
    let error = bind(Config { folder: home.path().join("no/apps"), ..config(home.path()) });
    assert!(matches!(&error, Error::NoParent { parent, .. } if parent.ends_with("no")), "{error}");
    fs::write(home.path().join("apps"), "").unwrap();
    let error = bind(config(home.path()));
    assert!(matches!(error, Error::Folder { .. }) && error.to_string().contains("apps"), "{error}");
    fs::remove_file(home.path().join("apps")).unwrap();
    fs::write(home.path().join("state"), "").unwrap();
    let error = bind(config(home.path()));
    assert!(matches!(error, Error::Store { .. }) && error.to_string().contains("state"), "{error}");
}
