//! The orderly end: not ready, a delay for load balancers, no new connections, time for what is in flight, gone.

use std::{io, thread};

use tokio::{
    runtime::Builder,
    signal,
    sync::{mpsc, watch},
};

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

    /// Passes SIGTERM and SIGINT (Ctrl-C elsewhere) on for as long as the process lives, from a thread of its own:
    /// as PID 1 there is nothing else that takes them. When this returns, they are taken. SIGHUP is taken as well, so that
    /// it ends nothing.
    ///
    /// # Errors
    /// When the operating system refuses the thread or the signals.
    pub fn on_signals(self) -> io::Result<()> {
        let (taken, outcome) = std::sync::mpsc::channel();
        let pass_on = move || match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(async {
                match Signals::take().and_then(|signals| Ok((signals, HangUps::take()?))) {
                    Ok((mut signals, mut hang_ups)) => {
                        let _ = taken.send(Ok(()));
                        loop {
                            tokio::select! {
                                signal = signals.next() => {
                                    tracing::info!(signal = signal.name, "asked to stop");
                                    self.ask();
                                }
                                () = hang_ups.next() => tracing::warn!(
                                    signal = "SIGHUP",
                                    "a changed configuration needs a restart; this one goes on"
                                ),
                            }
                        }
                    }
                    Err(error) => drop(taken.send(Err(error))),
                }
            }),
            Err(error) => drop(taken.send(Err(error))),
        };
        thread::Builder::new()
            .name("signals".into())
            .spawn(pass_on)?;
        outcome
            .recv()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    }
}

/// A signal that asks for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    name: &'static str,
    /// That of a process which it has ended, as shells have it.
    pub exit_code: u8,
}

/// What the work yields, unless a signal asks for the end before: then the work is dropped, and a command that it has
/// started ends with it.
///
/// # Errors
/// The signal.
pub async fn unless_asked<T>(work: impl Future<Output = T>) -> Result<T, Signal> {
    let asked = async {
        match Signals::take() {
            Ok(mut signals) => signals.next().await,
            // They end the process at once, as they would anywhere.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        // The signals are taken before the work begins.
        biased;
        signal = asked => Err(signal),
        outcome = work => Ok(outcome),
    }
}

/// The signals that ask for the end, taken from the operating system.
#[cfg(unix)]
struct Signals {
    terminate: signal::unix::Signal,
    interrupt: signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn take() -> io::Result<Self> {
        use signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Signal {
        let (name, exit_code) = tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", 143),
            _ = self.interrupt.recv() => ("SIGINT", 130),
        };
        Signal { name, exit_code }
    }
}

/// The signals that ask for the end, taken from the operating system.
#[cfg(windows)]
struct Signals(signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn take() -> io::Result<Self> {
        signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) -> Signal {
        self.0.recv().await;
        Signal {
            name: "Ctrl-C",
            exit_code: 130,
        }
    }
}

/// SIGHUP, by which others are asked to read their configuration anew. A process that does not take it ends.
#[cfg(unix)]
struct HangUps(signal::unix::Signal);

#[cfg(unix)]
impl HangUps {
    fn take() -> io::Result<Self> {
        signal::unix::signal(signal::unix::SignalKind::hangup()).map(Self)
    }

    async fn next(&mut self) {
        // No more of them: the runtime ends.
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// There is no such signal.
#[cfg(windows)]
struct HangUps;

#[cfg(windows)]
impl HangUps {
    fn take() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        std::future::pending().await
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
