//! What a client's connection over HTTP/1.1 is doing, and by when the client has to do something: one deadline, which
//! moves with what happens.

use std::{
    cell::{Cell, OnceCell},
    rc::Rc,
    time::Duration,
};

use super::worker::Worker;
use crate::{
    journey::{Client, admit::Peer, caller::CertificateNames},
    sweep::Watch,
};

/// The time-outs of a listener's connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the first byte of a request to the end of its head.
    pub head_timeout: Duration,
    /// How long a connection is quiet before it is parked.
    pub park_after: Duration,
    /// How long a connection may be idle.
    pub keep_alive: Duration,
    /// How long a client may neither send the body nor read the answer.
    pub stall_timeout: Duration,
    /// Largest head of a request, in bytes.
    pub max_head_size: usize,
}

/// What a connection is doing, as its time-outs see it.
#[derive(Debug)]
pub(super) struct Vitals {
    peer: Peer,
    /// What the handshake has shown of the client.
    certificate: OnceCell<Rc<CertificateNames>>,
    limits: Limits,
    pub(super) watch: Watch,
    doing: Cell<Doing>,
    /// Which request is under way, or was last. What is left of an earlier one says nothing about the connection.
    request: Cell<u64>,
    /// Some of its body is still to come: whatever is read is no head.
    body_open: Cell<bool>,
    /// Nobody reads that body any more; hyper skips it or closes.
    body_dropped: Cell<bool>,
    waits_for_body: Cell<bool>,
    write_blocked: Cell<bool>,
    draining: Cell<bool>,
    /// It is time to look whether the client is still there.
    look_due: Cell<bool>,
    /// The request under way is of HTTP/1.0, which knows no chunks.
    pub(super) is_http_10: Cell<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Between requests.
    Idle,
    /// A head is to be complete in time: some of it has come, or of a body that is skipped before it.
    Head,
    /// A request is under way.
    Journey,
    /// Its answer has ended before its body, which is still read.
    Rest,
}

/// The turn of one request on its connection.
#[derive(Debug)]
struct Turn {
    vitals: Rc<Vitals>,
    request: u64,
}

impl Vitals {
    pub(super) fn new(peer: Peer, limits: Limits, worker: &Worker) -> Self {
        Self {
            peer,
            certificate: OnceCell::new(),
            limits,
            watch: worker.sweeper().watch(),
            doing: Cell::new(Doing::Idle),
            request: Cell::new(0),
            body_open: Cell::new(false),
            body_dropped: Cell::new(false),
            waits_for_body: Cell::new(false),
            write_blocked: Cell::new(false),
            draining: Cell::new(false),
            look_due: Cell::new(false),
            is_http_10: Cell::new(false),
        }
    }

    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    pub(super) fn certificate(&self) -> Option<Rc<CertificateNames>> {
        self.certificate.get().cloned()
    }

    /// The handshake has shown a certificate with these names.
    pub(super) fn shows(&self, names: Rc<CertificateNames>) {
        self.certificate.get_or_init(|| names);
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn parks(&self) {
        let limits = self.limits;
        self.watch
            .arm(limits.keep_alive.saturating_sub(limits.park_after));
    }

    pub(super) fn becomes_active(&self, has_some_of_a_head: bool) {
        self.doing.set(Doing::Idle);
        self.watch.arm(self.limits.park_after);
        if has_some_of_a_head {
            self.has_read();
        }
    }

    pub(super) fn has_read(&self) {
        if self.doing.get() == Doing::Idle {
            self.awaits_head();
        }
    }

    pub(super) fn awaits_head(&self) {
        self.doing.set(Doing::Head);
        // A client that still takes an answer has time for that first.
        if !self.write_blocked.get() {
            self.watch.arm(self.limits.head_timeout);
        }
    }

    pub(super) fn head_is_complete(self: &Rc<Self>, has_body: bool) -> Rc<dyn Client> {
        let request = self.request.get() + 1;
        self.request.set(request);
        self.doing.set(Doing::Journey);
        self.body_open.set(has_body);
        self.body_dropped.set(false);
        self.waits_for_body.set(false);
        self.arm_deadline();
        Rc::new(Turn {
            vitals: Rc::clone(self),
            request,
        })
    }

    pub(super) fn answered(&self) {
        match (self.body_open.get(), self.body_dropped.get()) {
            (true, true) => self.awaits_head(),
            (open, _) => {
                self.doing.set(if open { Doing::Rest } else { Doing::Idle });
                self.arm_deadline();
            }
        }
    }

    pub(super) fn body_ended(&self) {
        self.body_open.set(false);
        self.waits_for_body(false);
        // From now on the end of the client is looked for; whoever took the last piece was another task.
        self.watch.wake();
        if self.doing.get() == Doing::Rest {
            self.answered();
        }
    }

    pub(super) fn body_dropped(&self) {
        self.body_dropped.set(true);
        self.waits_for_body(false);
        if self.doing.get() == Doing::Rest {
            self.answered();
        }
    }

    pub(super) fn waits_for_body(&self, waits: bool) {
        if self.waits_for_body.replace(waits) != waits {
            self.arm_deadline();
        }
    }

    pub(super) fn blocks_write(&self, blocked: bool) {
        if self.write_blocked.replace(blocked) == blocked {
            return;
        }
        match self.doing.get() {
            Doing::Head if !blocked => self.awaits_head(),
            _ => self.arm_deadline(),
        }
    }

    /// The end is near: the rest of a body whose answer is given is not waited for.
    pub(super) fn drains(&self) {
        self.draining.set(true);
        self.arm_deadline();
    }

    /// The client has to do something, within the stall time-out; or only to be there.
    pub(super) fn arm_deadline(&self) {
        match self.doing.get() {
            // It still takes its answer.
            _ if self.write_blocked.get() => self.watch.arm(self.limits.stall_timeout),
            Doing::Rest if self.draining.get() => self.watch.arm(FAREWELL),
            _ if self.waits_for_body.get() => self.watch.arm(self.limits.stall_timeout),
            Doing::Journey => self.watch.arm(LOOK_AFTER),
            Doing::Rest => self.watch.arm(self.limits.stall_timeout),
            Doing::Idle => self.watch.arm(self.limits.park_after),
            Doing::Head => {}
        }
    }

    /// Schedules a look for a client that has nothing to do but to wait for its answer; whether that is all that a passed
    /// deadline means.
    pub(super) fn schedule_look(&self) -> bool {
        let waits = self.waits_for_body.get() || self.write_blocked.get();
        let looks = self.doing.get() == Doing::Journey && !waits;
        if looks {
            self.look_due.set(true);
            self.watch.arm(LOOK_AFTER);
        }
        looks
    }

    /// The request is here whole, and its answer is not.
    pub(super) fn is_waiting_for_answer(&self) -> bool {
        self.doing.get() == Doing::Journey && !self.body_open.get()
    }

    /// Whether the socket is to be looked at now; once.
    pub(super) fn take_look(&self) -> bool {
        self.look_due.take()
    }

    /// Some of a body is still to come.
    pub(super) fn has_open_body(&self) -> bool {
        self.body_open.get()
    }

    /// HTTP has ended; the client has to end, or to send what is dropped. What becomes of a request that is left says nothing
    /// about the connection any more.
    pub(super) fn lingers(&self, is_draining: bool) {
        self.request.set(self.request.get() + 1);
        self.watch.arm(match is_draining {
            true => FAREWELL,
            false => LINGER.min(self.limits.stall_timeout),
        });
    }

    /// Which time-out of the listener it is whose deadline counts; none where it is the end of the process.
    pub(super) fn time_out(&self) -> Option<&'static str> {
        match self.doing.get() {
            Doing::Head if !self.write_blocked.get() => Some("head_timeout"),
            Doing::Rest if self.draining.get() && !self.write_blocked.get() => None,
            _ => Some("stall_timeout"),
        }
    }

    /// Whether a passed deadline means that nothing is going on, as opposed to a client that is too slow.
    pub(super) fn is_quiet(&self) -> bool {
        self.doing.get() == Doing::Idle
            && !self.body_open.get()
            && !self.waits_for_body.get()
            && !self.write_blocked.get()
    }
}

impl Turn {
    /// The connection, while it is still about this request.
    pub(super) fn current(&self) -> Option<&Vitals> {
        (self.vitals.request.get() == self.request).then_some(&*self.vitals)
    }
}

impl Client for Turn {
    fn peer(&self) -> Peer {
        self.vitals.peer
    }

    fn certificate(&self) -> Option<&CertificateNames> {
        self.vitals.certificate.get().map(|names| &**names)
    }

    fn waits_for_body(&self, waits: bool) {
        if let Some(vitals) = self.current() {
            vitals.waits_for_body(waits);
        }
    }

    fn body_ended(&self) {
        if let Some(vitals) = self.current() {
            vitals.body_ended();
        }
    }

    fn body_dropped(&self) {
        if let Some(vitals) = self.current() {
            vitals.body_dropped();
        }
    }

    fn answered(&self) {
        if let Some(vitals) = self.current() {
            vitals.answered();
        }
    }
}

/// How long nothing is heard of a client that waits for its answer, before its socket is looked at.
const LOOK_AFTER: Duration = Duration::from_secs(2);

/// How long a client that has been told the end may be silent: as long as a slow one may read what is on its way.
const LINGER: Duration = Duration::from_secs(30);

/// How long a client may take to take the end of its connection.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
