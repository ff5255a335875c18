use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use super::*;

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

/// A module that does as it is told.
struct Puppet {
    runs: Arc<AtomicUsize>,
    live: Arc<Mutex<i32>>,
    script: fn(usize) -> Act,
    child_dropped: Arc<AtomicUsize>,
}

enum Act {
    Serve,
    Panic,
    Return,
    Fail,
    SpawnForeverThenFail,
    SpawnForeverThenServe,
}

struct OnDrop(Arc<AtomicUsize>);
impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Module for Puppet {
    type Config = i32;
    type Error = No;
    const NAME: &'static str = "puppet";

    async fn run(&self, cx: Context) -> Result<(), No> {
        let guard = OnDrop(self.child_dropped.clone());
        let forever = async move {
            let _guard = guard;
            std::future::pending::<()>().await
        };
        match (self.script)(self.runs.fetch_add(1, SeqCst)) {
            Act::Panic => panic!("ouch"),
            Act::Return => return Ok(()),
            Act::Fail => return Err(No),
            Act::SpawnForeverThenFail => {
                cx.spawn(forever);
                tokio::task::yield_now().await;
                return Err(No);
            }
            Act::SpawnForeverThenServe => cx.spawn(forever),
            Act::Serve => {}
        }
        cx.ready();
        cx.stopped().await;
        Ok(())
    }

    fn prepare(&self, new: &i32) -> Result<Commit<'_>, No> {
        let new = *new;
        assert!(new < i32::MAX, "too much");
        if new < 0 {
            return Err(No);
        }
        Ok(Commit::new(move || *self.live.lock().unwrap() = new))
    }
}

fn puppet(script: fn(usize) -> Act) -> (Puppet, Arc<AtomicUsize>, Arc<Mutex<i32>>, Arc<AtomicUsize>) {
    let (runs, live, dropped) = (Arc::default(), Arc::default(), Arc::default());
    (
        Puppet { runs: Arc::clone(&runs), live: Arc::clone(&live), script, child_dropped: Arc::clone(&dropped) },
        runs,
        live,
        dropped,
    )
}

#[tokio::test(start_paused = true)]
async fn a_fallen_module_runs_again_later_each_time() {
    let (module, runs, ..) = puppet(|run| match run {
        0 => Act::Panic,
        1 => Act::Return,
        2 => Act::Fail,
        _ => Act::Serve,
    });
    let mut appliance = Appliance::new(0, Limits::default());
    appliance.add(Arc::new(module), |config| config);
    let began = Instant::now();
    let running = appliance.start();
    running.board().until_all(Health::is_serving).await;
    assert_eq!(runs.load(SeqCst), 4);
    assert_eq!(began.elapsed().as_millis() / 10, 350, "0.5 s + 1 s + 2 s");
    assert!(running.stop().await);
}

#[tokio::test(start_paused = true)]
async fn its_tasks_fall_with_it() {
    let (module, _, _, dropped) = puppet(|run| if run == 0 { Act::SpawnForeverThenFail } else { Act::Serve });
    let mut appliance = Appliance::new(0, Limits::default());
    appliance.add(Arc::new(module), |config| config);
    let running = appliance.start();
    running.board().until_all(Health::is_serving).await;
    assert_eq!(dropped.load(SeqCst), 1, "the first run's child; the second run still holds its own");
    assert!(running.stop().await);
}

#[tokio::test(start_paused = true)]
async fn drain_has_an_end() {
    let (module, _, _, dropped) = puppet(|_| Act::SpawnForeverThenServe);
    let mut appliance = Appliance::new(0, Limits::default());
    appliance.add(Arc::new(module), |config| config);
    let running = appliance.start();
    running.board().until_all(Health::is_serving).await;
    let began = Instant::now();
    assert!(!running.stop().await, "the task never ends by itself");
    assert_eq!(began.elapsed(), Limits::default().drain);
    tokio::task::yield_now().await;
    assert_eq!(dropped.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_happens_completely_or_not_at_all() {
    let (one, _, one_live, _) = puppet(|_| Act::Serve);
    let (two, _, two_live, _) = puppet(|_| Act::Serve);
    let mut appliance = Appliance::new((0, 0), Limits::default());
    appliance.add(Arc::new(one), |config: &(i32, i32)| &config.0);
    appliance.add(Arc::new(two), |config: &(i32, i32)| &config.1);
    let mut running = appliance.start();

    assert!(running.reload((7, -1)).is_err());
    assert_eq!((*one_live.lock().unwrap(), *two_live.lock().unwrap()), (0, 0));
    assert_eq!(running.reload((7, 0)).unwrap(), ["puppet"], "only what changed");
    assert_eq!(running.reload((7, 8)).unwrap().len(), 1);
    assert_eq!((*one_live.lock().unwrap(), *two_live.lock().unwrap()), (7, 8));
    assert!(running.stop().await);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_falls_at_start_is_named() {
    let (module, ..) = puppet(|_| Act::Panic);
    let mut appliance = Appliance::new(0, Limits::default());
    appliance.add(Arc::new(module), |config| config);
    let running = appliance.start();
    assert_eq!(running.serving().await.unwrap_err().to_string(), "puppet: panicked: ouch");
    assert!(running.stop().await);
}

#[tokio::test(start_paused = true)]
async fn the_board_counts_restarts_and_tells_the_reason() {
    let (module, ..) = puppet(|run| if run == 0 { Act::Fail } else { Act::Serve });
    let mut appliance = Appliance::new(0, Limits::default());
    appliance.add(Arc::new(module), |config| config);
    let board = appliance.board();
    let running = appliance.start();
    board.until(|board| matches!(board[0].health, Health::Failed { .. })).await;
    assert_eq!(board.now()[0].health.to_string(), "failed: no; retry in 500ms");
    board.until_all(Health::is_serving).await;
    assert_eq!(board.now()[0].restarts, 1);
    assert!(running.stop().await);
    assert_eq!(board.now()[0].health, Health::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_prepare_refuses_the_reload() {
    let (module, _, live, _) = puppet(|_| Act::Serve);
    let mut appliance = Appliance::new(0, Limits::default());
    appliance.add(Arc::new(module), |config| config);
    let mut running = appliance.start();
    assert_eq!(running.reload(i32::MAX).unwrap_err().to_string(), "puppet: panicked: too much");
    assert_eq!((*live.lock().unwrap(), *running.config()), (0, 0));
    assert!(running.stop().await);
}

#[tokio::test]
async fn a_good_module_passes_the_battery() {
    let bind = async |_: &i32, _: &prometheus::Registry| Ok(puppet(|_| Act::Serve).0);
    crate::testing::battery(0, bind).await;
}

#[tokio::test(start_paused = true)]
async fn a_fire_drill_fells_one_module_and_it_comes_back() {
    let mut appliance = Appliance::new((0, 0), Limits::default());
    appliance.add(Arc::new(puppet(|_| Act::Serve).0), |config: &(i32, i32)| &config.0);
    let running = appliance.start();
    running.serving().await.unwrap();
    assert!(!running.drill("nobody"));
    assert!(running.drill("puppet"));
    running.board().until(|board| matches!(board[0].health, Health::Failed { .. })).await;
    assert!(running.board().now()[0].health.to_string().starts_with("failed: panicked: fire drill"));
    running.serving().await.unwrap_err();
    running.board().until_all(Health::is_serving).await;
    assert!(running.stop().await);
}
