//! The control thread: keepers, admin addresses, and the phases of the end.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use token_source::{Feed, Keeper, clock::SleepWatch};
use tokio::{
    net::TcpListener,
    runtime::{Builder, LocalOptions},
    sync::mpsc,
    task::JoinSet,
};

use super::{
    admin::{Admin, Asker},
    keys::Key,
    serve::ServeError,
    shutdown::{Phase, PhaseSender, Stops},
    worker::Question,
};
use crate::{config::Config, tally::Counts};

/// Everything that the control thread looks after.
#[derive(Debug)]
pub struct Control<'a> {
    /// What the operator asked for.
    pub config: &'a Config,
    /// One per credential.
    pub feeds: Vec<Feed>,
    /// One per credential.
    pub keepers: Vec<Keeper>,
    /// One per place of a caller's key.
    pub keys: Vec<Key>,
    /// The listeners that show a certificate, and when each ends.
    pub certificates: Vec<(Arc<str>, SystemTime)>,
    /// Where each worker takes questions.
    pub questions: Vec<mpsc::UnboundedSender<Question>>,
    /// Tells the workers how far the end has come.
    pub phase: PhaseSender,
    /// Told when a worker has ended, by its number.
    pub worker_lost: mpsc::UnboundedReceiver<usize>,
}

/// A bound admin address.
pub type AdminSocket = (std::net::TcpListener, Asker);

/// Listens at the admin addresses. A default address that is in use is a warning: two proxies on a laptop.
///
/// # Errors
/// When an address that the operator wrote cannot be listened at.
pub fn listen(config: &Config) -> Result<Vec<AdminSocket>, ServeError> {
    let bind = |address: SocketAddr, asker| {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        tracing::info!(at = %socket.local_addr()?, probes_only = asker == Asker::Probe, "admin listens");
        Ok((socket, asker))
    };
    let failed = |key: &str, address: SocketAddr, error: io::Error| ServeError::Listen {
        name: format!("admin.{key}"),
        address: address.to_string(),
        error,
    };
    let admin = &config.admin;
    let mut sockets = Vec::new();
    match bind(admin.address, Asker::Local) {
        Ok(socket) => sockets.push(socket),
        Err(error) if admin.address_is_default => {
            tracing::warn!(address = %admin.address, %error, "no admin address: the default one cannot be had");
        }
        Err(error) => return Err(failed("address", admin.address, error)),
    }
    if let Some(address) = admin.probes {
        sockets
            .push(bind(address, Asker::Probe).map_err(|error| failed("probes", address, error))?);
    }
    Ok(sockets)
}

impl Control<'_> {
    /// Runs until the end has been asked for and every worker is done, or its time is over.
    ///
    /// # Errors
    /// When a worker is lost, or there is no runtime to be had.
    pub fn run(self, admin: Vec<AdminSocket>, stops: Stops) -> Result<(), ServeError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .map_err(ServeError::Thread)?;
        let outcome = runtime.block_on(self.look_after(admin, stops));
        // A look-up or a file that hangs must not hold up the end.
        runtime.shutdown_background();
        outcome
    }

    async fn look_after(
        mut self,
        sockets: Vec<AdminSocket>,
        mut stops: Stops,
    ) -> Result<(), ServeError> {
        let mut tasks = JoinSet::new();
        let admin = Rc::new(self.admin());
        for (socket, asker) in sockets {
            let socket = TcpListener::from_std(socket).map_err(ServeError::Thread)?;
            tasks.spawn_local(Rc::clone(&admin).serve(socket, asker));
        }
        for keeper in std::mem::take(&mut self.keepers) {
            tasks.spawn_local(async { keeper.run().await });
        }
        for key in std::mem::take(&mut self.keys) {
            tasks.spawn_local(key.follow(self.config.poll));
        }
        tasks.spawn_local(notice_sleep(self.feeds.clone()));
        for waiver in &self.config.waivers {
            tracing::warn!(kind = waiver.kind, at = %waiver.place, "waived");
        }
        tokio::select! {
            () = stops.asked() => {}
            lost = self.worker_lost.recv() => {
                tracing::error!(worker = lost, "a worker ended unexpectedly");
                self.phase.send_replace(Phase::Ended);
                return Err(ServeError::WorkerLost);
            }
            () = loss_among(&mut tasks) => {
                self.phase.send_replace(Phase::Ended);
                return Err(ServeError::TaskLost);
            }
        }
        tokio::select! {
            () = self.drain() => {}
            () = stops.asked() => tracing::warn!("asked to stop again: what is in flight is dropped"),
        }
        self.phase.send_replace(Phase::Ended);
        Ok(())
    }

    /// Not ready, then no new connections, then until every worker is done or the time is over.
    async fn drain(&mut self) {
        self.phase.send_replace(Phase::NotReady);
        tokio::time::sleep(self.config.drain_delay).await;
        tracing::info!(within = ?self.config.drain_timeout, "draining");
        self.phase.send_replace(Phase::Draining);
        let workers = self.questions.len();
        let done = async {
            for _ in 0..workers {
                self.worker_lost.recv().await;
            }
        };
        if tokio::time::timeout(self.config.drain_timeout, done)
            .await
            .is_err()
        {
            tracing::warn!("the time to drain is over: what is in flight is dropped");
        }
    }

    fn admin(&self) -> Admin {
        let routes = self.config.routes.iter().map(|route| {
            let needs = route
                .attach
                .iter()
                .map(|attachment| attachment.credential)
                .collect();
            (Arc::clone(&route.name), needs)
        });
        Admin {
            feeds: self.feeds.clone(),
            routes: routes.collect(),
            workers: self.questions.clone(),
            last: RefCell::new(vec![Counts::default(); self.questions.len()]),
            phase: self.phase.subscribe(),
            certificates: self.certificates.clone(),
            waivers: self.config.waivers.clone(),
        }
    }
}

/// Waits until one of the tasks panics; one that comes to its end has nothing more to do.
pub(super) async fn loss_among(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if ended.is_err() {
            return;
        }
    }
    std::future::pending().await
}

/// Wakes the keepers after the machine has slept, whose timers did not count that.
async fn notice_sleep(feeds: Vec<Feed>) {
    let mut sleep = SleepWatch::new();
    loop {
        tokio::time::sleep(LOOK_FOR_SLEEP).await;
        if sleep.take_nap().is_some() {
            feeds.iter().for_each(Feed::wake);
        }
    }
}

const LOOK_FOR_SLEEP: Duration = Duration::from_secs(1);
