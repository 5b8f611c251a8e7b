//! What a client's connection over HTTP/2 and its streams are doing, and by when the client has to do something.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    task::{Context, Poll},
};

use super::{
    frames::Frames,
    vitals::{FAREWELL, Limits, Vitals},
    worker::Worker,
};
use crate::{
    journey::{Client, admit::Peer, caller::CertificateNames},
    sweep::Watch,
};

/// What a connection is doing, as its time-outs see it.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) peer: Peer,
    certificate: Option<Rc<CertificateNames>>,
    limits: Limits,
    /// Idle for too long, or no room to write.
    watch: Watch,
    /// A frame or a head that does not end.
    unfinished: Watch,
    frames: RefCell<Frames>,
    under_way: Cell<usize>,
    write_blocked: Cell<bool>,
    draining: Cell<bool>,
    /// How many more requests the client called off than it took answers to.
    called_off: Cell<u32>,
    /// The request whose task is made next.
    pub(super) latest: RefCell<Option<Rc<Turn>>>,
}

/// The turn of one request on its connection.
#[derive(Debug)]
pub(super) struct Turn {
    life: Rc<Life>,
    pub(super) watch: Watch,
    waits_for_body: Cell<bool>,
    waits_for_room: Cell<bool>,
    /// The client has been given all that there is of the answer.
    pub(super) whole: Cell<bool>,
    answered: Cell<bool>,
}

impl Life {
    /// That of a connection of which so much is known.
    pub(super) fn new(vitals: &Vitals, worker: &Worker) -> Self {
        Self {
            peer: vitals.peer(),
            certificate: vitals.certificate(),
            limits: vitals.limits(),
            watch: worker.sweeper().watch(),
            unfinished: worker.sweeper().watch(),
            frames: RefCell::new(Frames::default()),
            under_way: Cell::new(0),
            write_blocked: Cell::new(false),
            draining: Cell::new(false),
            called_off: Cell::new(0),
            latest: RefCell::new(None),
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn begins(&self, turn: &Rc<Turn>) {
        self.under_way.set(self.under_way.get() + 1);
        self.latest.replace(Some(Rc::clone(turn)));
        self.arm_deadline();
    }

    pub(super) fn ends(&self) {
        self.under_way.set(self.under_way.get() - 1);
        if self.under_way.get() == 0 {
            self.arm_deadline();
        }
    }

    /// Sets the deadline by what the connection does now.
    pub(super) fn arm_deadline(&self) {
        match (self.write_blocked.get(), self.under_way.get()) {
            (true, _) => self.watch.arm(self.limits.stall_timeout),
            (false, 0) if self.draining.get() => self.watch.arm(FAREWELL),
            (false, 0) => self.watch.arm(self.limits.keep_alive),
            (false, _) => self.watch.disarm(),
        }
    }

    pub(super) fn drains(&self) {
        self.draining.set(true);
        self.arm_deadline();
    }

    /// At the end each piece of an answer that is still to be written gives the client time for the next; what the
    /// connection itself has to acknowledge, which a client may ask for without an end, does not.
    pub(super) fn has_written(&self, polled: &Poll<io::Result<usize>>) {
        let is_of_answer = matches!(polled, Poll::Ready(Ok(bytes)) if *bytes > ACKNOWLEDGEMENTS);
        if self.draining.get() && is_of_answer {
            self.arm_deadline();
        }
    }

    pub(super) fn has_read(&self, bytes: &[u8]) {
        let mut frames = self.frames.borrow_mut();
        let was_open = frames.is_open();
        let has_moved = frames.read(bytes);
        match frames.is_open() {
            false => self.unfinished.disarm(),
            true if has_moved || !was_open => self.unfinished.arm(self.limits.head_timeout),
            true => {}
        }
    }

    pub(super) fn blocks_write(&self, blocked: bool) {
        if self.write_blocked.replace(blocked) == blocked {
            return;
        }
        self.arm_deadline();
        // hyper does not read on while it cannot write.
        match blocked {
            true => self.unfinished.disarm(),
            false if self.frames.borrow().is_open() => {
                self.unfinished.arm(self.limits.head_timeout)
            }
            false => {}
        }
    }

    /// Counts a request that the client called off, or one that it did not.
    pub(super) fn counts(&self, called_off: bool) {
        let count = match called_off {
            true => self.called_off.get() + 1,
            false => self.called_off.get().saturating_sub(1),
        };
        self.called_off.set(count);
    }

    pub(super) fn is_idle_for_too_long(&self, cx: &Context<'_>) -> bool {
        self.under_way.get() == 0
            && !self.write_blocked.get()
            && self.watch.poll_passed(cx).is_ready()
    }

    /// Whether the client is late with something, or only makes work.
    pub(super) fn is_late(&self, cx: &Context<'_>) -> bool {
        let peer = self.peer;
        if self.called_off.get() > MOST_CALLED_OFF {
            tracing::info!(%peer, "a client that calls off request after request is cut off");
            return true;
        }
        let time_out = match () {
            () if self.unfinished.poll_passed(cx).is_ready() => "head_timeout",
            () if self.watch.poll_passed(cx).is_pending() => return false,
            // No time-out of the listener's, but the end of the process, which it did not take.
            () if self.draining.get() && !self.write_blocked.get() => return true,
            () => "stall_timeout",
        };
        tracing::info!(%peer, time_out, "a client was too slow, and its connection is closed");
        true
    }
}

impl Turn {
    pub(super) fn new(life: &Rc<Life>, worker: &Worker) -> Self {
        Self {
            life: Rc::clone(life),
            watch: worker.sweeper().watch(),
            waits_for_body: Cell::new(false),
            waits_for_room: Cell::new(false),
            whole: Cell::new(false),
            answered: Cell::new(false),
        }
    }

    pub(super) fn waits_for_room(&self, waits: bool) {
        if self.waits_for_room.replace(waits) != waits {
            self.arm_deadline();
        }
    }

    pub(super) fn arm_deadline(&self) {
        match self.waits_for_body.get() || self.waits_for_room.get() {
            true => self.watch.arm(self.life.limits.stall_timeout),
            false => self.watch.disarm(),
        }
    }
}

impl Client for Turn {
    fn peer(&self) -> Peer {
        self.life.peer
    }

    fn certificate(&self) -> Option<&CertificateNames> {
        self.life.certificate.as_deref()
    }

    fn waits_for_body(&self, waits: bool) {
        if self.waits_for_body.replace(waits) != waits {
            self.arm_deadline();
        }
    }

    fn body_ended(&self) {
        self.waits_for_body(false);
    }

    fn body_dropped(&self) {
        self.waits_for_body(false);
    }

    fn answered(&self) {
        if !self.answered.replace(true) {
            self.life.counts(!self.whole.get());
            self.life.ends();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.answered();
    }
}

/// What is written at once of acknowledgements alone, in bytes: half a dozen of the largest, a PING's.
const ACKNOWLEDGEMENTS: usize = 100;

/// How many more requests a client may call off than it takes answers to: each costs an upstream something.
const MOST_CALLED_OFF: u32 = 200;
