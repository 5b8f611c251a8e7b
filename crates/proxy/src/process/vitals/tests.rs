//! Which time-out counts when.

use std::{future::poll_fn, sync::Arc};

use tokio::{
    task::{LocalSet, spawn_local},
    time::Instant,
};

use super::*;
use crate::{journey::Plan, process::plan::PlanCell, sweep::TICK};

const LIMITS: Limits = Limits {
    head_timeout: Duration::from_secs(10),
    park_after: Duration::from_secs(1),
    keep_alive: Duration::from_secs(60),
    stall_timeout: Duration::from_secs(100),
    max_head_size: 64 * 1024,
};

/// What comes of `steps` with a connection on which nothing has been said.
async fn with_vitals(steps: impl AsyncFnOnce(Rc<Vitals>)) {
    let plan = Plan {
        listeners: Vec::new(),
        routes: Vec::new(),
        upstreams: Vec::new(),
        access_log: false,
    };
    let worker = Worker::new(Arc::new(PlanCell::from_pointee(plan)));
    let sweeper = Rc::clone(worker.sweeper());
    let peer = Peer::Unix {
        uid: 0,
        gid: 0,
        pid: None,
    };
    let vitals = Rc::new(Vitals::new(peer, LIMITS, &worker));
    let ticking = async {
        spawn_local(async move { sweeper.run(|| ()).await });
        steps(vitals).await;
    };
    LocalSet::new().run_until(ticking).await;
}

/// Fails unless the deadline passes so long from now.
async fn assert_passes_after(vitals: &Vitals, wanted: Duration) {
    let began = Instant::now();
    poll_fn(|cx| vitals.watch.poll_passed(cx)).await;
    let passed = began.elapsed();
    assert!(
        (wanted..=wanted + 2 * TICK).contains(&passed),
        "{passed:?} instead of {wanted:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_a_refusal_has_the_stall_timeout_and_then_that_of_a_head() {
    with_vitals(async |vitals| {
        let turn = vitals.head_is_complete(true);
        vitals.blocks_write(true);
        turn.body_dropped();
        turn.answered();
        assert_passes_after(&vitals, LIMITS.stall_timeout).await;
        vitals.blocks_write(false);
        assert_passes_after(&vitals, LIMITS.head_timeout).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_becomes_of_a_body_does_not_move_the_farewell() {
    with_vitals(async |vitals| {
        let turn = vitals.head_is_complete(true);
        turn.answered();
        vitals.lingers(true);
        turn.body_dropped();
        assert_passes_after(&vitals, FAREWELL).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_head_is_not_given_more_time_by_each_of_its_bytes() {
    with_vitals(async |vitals| {
        vitals.becomes_active(true);
        tokio::time::sleep(Duration::from_secs(5)).await;
        vitals.has_read();
        assert_passes_after(&vitals, LIMITS.head_timeout - Duration::from_secs(5)).await;
    })
    .await;
}
