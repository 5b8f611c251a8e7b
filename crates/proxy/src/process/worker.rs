//! One thread that carries requests, with its own listening sockets, upstream connections and counts. A request
//! never changes thread, and workers share nothing that changes but the plan, the feeds and the limits that are set.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    sync::Arc,
};

use arc_swap::Cache;
use token_source::{clock::SleepWatch, connect::with_causes};
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{Notify, mpsc, oneshot},
    task::JoinSet,
};

use super::{
    control::loss_among,
    door::Door,
    plan::PlanCell,
    shutdown::{Phase, PhaseReceiver},
};
use crate::{
    config::UNROUTED,
    fault::Fault,
    journey::{Plan, admit::Peer, kept::Memory, view::View},
    sweep::Sweeper,
    tally::{Counts, Tally},
};

/// Everything that a worker is given; made on the control thread.
#[derive(Debug)]
pub struct Post {
    /// The plan in force.
    pub plan: Arc<PlanCell>,
    /// Its sockets.
    pub doors: Vec<Door>,
    /// Questions of the control thread.
    pub questions: mpsc::UnboundedReceiver<Question>,
    /// How far the end has come.
    pub phase: PhaseReceiver,
}

/// What the control thread asks a worker; that it answers says that it is alive.
#[derive(Debug)]
pub enum Question {
    /// What it counted.
    Counts(oneshot::Sender<Counts>),
}

/// What all tasks of a worker share.
#[derive(Debug)]
pub struct Worker {
    plan: RefCell<PlanView>,
    sweeper: Rc<Sweeper>,
    memory: Rc<Memory>,
    tally: Tally,
    draining: Cell<bool>,
    stop_accepting: Notify,
    open: Cell<usize>,
    all_closed: Notify,
}

struct PlanView {
    cache: Cache<Arc<PlanCell>, Arc<Plan>>,
    seen: Arc<Plan>,
    view: Rc<View>,
}

/// Runs a worker on this thread until the end.
///
/// # Errors
/// When the operating system refuses a runtime or a socket.
pub fn run(post: Post) -> io::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    let outcome = runtime.block_on(work(post));
    // A look-up that hangs must not hold up the end.
    runtime.shutdown_background();
    outcome
}

async fn work(mut post: Post) -> io::Result<()> {
    let worker = Rc::new(Worker::new(post.plan));
    let mut tasks = JoinSet::new();
    let sweeping = Rc::clone(&worker);
    tasks.spawn_local(async move { sweeping.sweep().await });
    for door in post.doors {
        tasks.spawn_local(door.open(&worker)?);
    }
    tokio::select! {
        () = until_the_end(&mut post.questions, &mut post.phase, &worker) => {}
        // It has been told by its place. Without time-outs, or behind a closed door, a worker is none.
        () = loss_among(&mut tasks) => {}
    }
    worker.tally.end();
    Ok(())
}

/// Answers questions until the end has come.
async fn until_the_end(
    questions: &mut mpsc::UnboundedReceiver<Question>,
    phase: &mut PhaseReceiver,
    worker: &Worker,
) {
    loop {
        tokio::select! {
            question = questions.recv() => match question {
                Some(Question::Counts(answer)) => drop(answer.send(worker.tally.counts())),
                // The control thread is gone.
                None => return,
            },
            changed = phase.changed() => {
                if changed.is_err() || *phase.borrow() == Phase::Ended {
                    return;
                }
                if *phase.borrow() == Phase::Draining {
                    worker.drain();
                }
            }
            () = worker.all_closed.notified(), if worker.is_draining() => {
                if worker.open.get() == 0 {
                    return;
                }
            }
        }
    }
}

impl Worker {
    pub(super) fn new(plan: Arc<PlanCell>) -> Self {
        let (sweeper, memory, tally) = (Sweeper::new(), Memory::new(), Tally::default());
        let mut cache = Cache::new(plan);
        let seen = Arc::clone(cache.load());
        let view = Rc::new(View::new(Arc::clone(&seen), &sweeper, &memory, &tally));
        Self {
            plan: RefCell::new(PlanView { cache, seen, view }),
            sweeper,
            memory,
            tally,
            draining: Cell::new(false),
            stop_accepting: Notify::new(),
            open: Cell::new(0),
            all_closed: Notify::new(),
        }
    }

    /// Runs the sweeper for as long as the worker lives; at each tick, what has been idle for too long is closed.
    async fn sweep(&self) {
        let mut sleep = SleepWatch::new();
        let each_tick = || {
            let view = self.view();
            match sleep.take_nap() {
                // Nobody on the other side has waited as long.
                Some(_) => view.drop_idle(),
                None => view.reap(self.sweeper.now()),
            }
            if self.sweeper.rests() {
                view.forget();
            }
        };
        self.sweeper.run(each_tick).await;
    }

    /// The view of the plan in force; a request takes it once.
    pub fn view(&self) -> Rc<View> {
        let mut plan = self.plan.borrow_mut();
        let PlanView { cache, seen, view } = &mut *plan;
        let current = cache.load();
        if !Arc::ptr_eq(current, seen) {
            *seen = Arc::clone(current);
            *view = Rc::new(View::new(
                Arc::clone(current),
                &self.sweeper,
                &self.memory,
                &self.tally,
            ));
        }
        Rc::clone(view)
    }

    /// The clock of its time-outs.
    pub fn sweeper(&self) -> &Rc<Sweeper> {
        &self.sweeper
    }

    /// Connections are to end with the request that they carry.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// A client connection ended with an error. What hyper's parser refuses gets a bare status line from it and never
    /// becomes a journey: it is counted and logged here.
    pub fn connection_failed(&self, error: &hyper::Error, peer: Peer) {
        let code = match () {
            () if error.is_parse_too_large() => Fault::HeadTooLarge.code(),
            () if error.is_parse() => Fault::BadRequest.code(),
            () => return tracing::debug!(error = with_causes(error), "client connection ended"),
        };
        tracing::info!(
            %peer,
            code,
            error = with_causes(error),
            "a request was refused by the parser"
        );
        self.tally.route(&Arc::from(UNROUTED)).fault(code);
    }

    fn drain(&self) {
        self.draining.set(true);
        self.stop_accepting.notify_waiters();
        self.sweeper.wake_all();
        self.check_closed();
    }

    /// A connection, or a door, is open: the end waits for it.
    pub fn opened(&self) {
        self.open.set(self.open.get() + 1);
    }

    /// It is closed.
    pub fn closed(&self) {
        self.open.set(self.open.get() - 1);
        self.check_closed();
    }

    /// What it counts.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Ready when no more connections are to be accepted.
    pub async fn stops_accepting(&self) {
        self.stop_accepting.notified().await;
    }

    fn check_closed(&self) {
        if self.open.get() == 0 {
            self.all_closed.notify_one();
        }
    }
}

impl std::fmt::Debug for PlanView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlanView")
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}
