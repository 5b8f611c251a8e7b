//! The orderly end: not ready, a delay for load balancers, no new connections, time for what is in flight, gone.

use tokio::sync::{mpsc, watch};

/// How far the end has come; it only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Requests are served.
    Serving,
    /// Still served, but `/readyz` says no: load balancers look elsewhere.
    NotReady,
    /// No new connections; what is in flight ends.
    Draining,
    /// Whatever is left is dropped.
    Ended,
}

/// Tells every thread how far the end has come.
pub type PhaseSender = watch::Sender<Phase>;

/// Told how far the end has come.
pub type PhaseReceiver = watch::Receiver<Phase>;

/// Asks for the end: the first time for an orderly one, the second time for an immediate one.
#[derive(Debug, Clone)]
pub struct Stop(mpsc::UnboundedSender<()>);

/// Where the control thread hears that the end is asked for.
#[derive(Debug)]
pub struct Stops(mpsc::UnboundedReceiver<()>);

/// A pair of the two.
pub fn stop() -> (Stop, Stops) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Stop(sender), Stops(receiver))
}

impl Stop {
    /// Asks for the end.
    pub fn ask(&self) {
        // Nobody listens any more: it has ended.
        let _ = self.0.send(());
    }

    /// Passes SIGTERM and SIGINT (Ctrl-C elsewhere) on for as long as the process lives.
    #[cfg(unix)]
    pub async fn on_signals(self) {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut terminate), Ok(mut interrupt)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            tracing::error!("signals cannot be handled");
            return;
        };
        loop {
            let signal = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal, "asked to stop");
            self.ask();
        }
    }

    /// Passes Ctrl-C on for as long as the process lives.
    #[cfg(not(unix))]
    pub async fn on_signals(self) {
        while tokio::signal::ctrl_c().await.is_ok() {
            self.ask();
        }
    }
}

impl Stops {
    /// Waits until the end is asked for (again).
    pub async fn asked(&mut self) {
        if self.0.recv().await.is_none() {
            // Everybody who could ask is gone.
            std::future::pending::<()>().await;
        }
    }
}
