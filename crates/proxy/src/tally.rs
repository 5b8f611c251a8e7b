//! What one worker counted. No other thread touches it: a scrape asks each worker for a copy and adds them up.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::{Method, StatusCode};

/// All counts of a worker.
#[derive(Debug, Default)]
pub struct Tally {
    routes: ByName<RouteTally>,
    connections: ByName<Cell<u64>>,
    opened: ByName<Cell<u64>>,
}

/// A handful of things, found once by whoever counts in them.
type ByName<T> = RefCell<Vec<(Arc<str>, Rc<T>)>>;

/// The counts of one route.
#[derive(Debug, Default)]
pub struct RouteTally {
    requests: RefCell<Vec<(Answered, u64)>>,
    faults: RefCell<Vec<(&'static str, u64)>>,
    replays: RefCell<Vec<(&'static str, u64)>>,
    scrubbed: RefCell<Vec<(&'static str, u64)>>,
    in_flight: Cell<u64>,
    duration: Histogram,
    overhead: Histogram,
    /// The worker has ended.
    ended: Cell<bool>,
}

/// Method, status and caller.
type Answered = (&'static str, u16, Option<Arc<str>>);

/// Counts by upper bound, [`BUCKETS`] and above.
#[derive(Debug, Default)]
struct Histogram {
    counts: [Cell<u64>; BUCKETS.len() + 1],
    sum: Cell<f64>,
}

/// A copy of the counts of one worker, or the sum of several.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    /// By route.
    pub routes: BTreeMap<Arc<str>, RouteCounts>,
    /// Open client connections by listener.
    pub connections: BTreeMap<Arc<str>, u64>,
    /// Connections ever opened, by upstream.
    pub opened: BTreeMap<Arc<str>, u64>,
}

/// A copy of the counts of one route.
#[derive(Debug, Default, Clone)]
pub struct RouteCounts {
    /// Answered requests by method, status and caller.
    pub requests: BTreeMap<Answered, u64>,
    /// Faults by code.
    pub faults: BTreeMap<&'static str, u64>,
    /// Answers of 401 to an attached credential, by what came of them.
    pub replays: BTreeMap<&'static str, u64>,
    /// Answers in which a credential was overwritten, by the part of them that it stood in.
    pub scrubbed: BTreeMap<&'static str, u64>,
    /// Requests under way.
    pub in_flight: u64,
    /// From the head of a request to the end of its answer.
    pub duration: HistogramCounts,
    /// What the proxy itself added before the request left.
    pub overhead: HistogramCounts,
}

/// A copy of a histogram.
#[derive(Debug, Default, Clone)]
pub struct HistogramCounts {
    /// Counts by bucket, the last one above every bound.
    pub counts: [u64; BUCKETS.len() + 1],
    /// Sum in seconds.
    pub sum: f64,
}

impl Tally {
    /// The counts of a route, which outlive any plan.
    pub fn route(&self, name: &Arc<str>) -> Rc<RouteTally> {
        cell(&self.routes, name)
    }

    /// The number of open connections of a listener.
    pub fn connections(&self, listener: &Arc<str>) -> Rc<Cell<u64>> {
        cell(&self.connections, listener)
    }

    /// The number of connections ever opened to an upstream.
    pub fn opened(&self, upstream: &Arc<str>) -> Rc<Cell<u64>> {
        cell(&self.opened, upstream)
    }

    /// The worker ends: what is still under way is cut by that, and by no client.
    pub fn end(&self) {
        for (_, route) in self.routes.borrow().iter() {
            route.ended.set(true);
        }
    }

    /// A copy, to be carried to another thread.
    pub fn counts(&self) -> Counts {
        let copy = |cells: &ByName<Cell<u64>>| {
            cells
                .borrow()
                .iter()
                .map(|(name, count)| (Arc::clone(name), count.get()))
                .collect()
        };
        Counts {
            routes: self
                .routes
                .borrow()
                .iter()
                .map(|(name, route)| (Arc::clone(name), route.counts()))
                .collect(),
            connections: copy(&self.connections),
            opened: copy(&self.opened),
        }
    }
}

fn cell<T: Default>(cells: &ByName<T>, name: &Arc<str>) -> Rc<T> {
    let mut cells = cells.borrow_mut();
    if let Some((_, found)) = cells.iter().find(|(known, _)| known == name) {
        return Rc::clone(found);
    }
    let made = Rc::new(T::default());
    cells.push((Arc::clone(name), Rc::clone(&made)));
    made
}

impl RouteTally {
    /// A request begins.
    pub fn begin(&self) {
        add(&self.in_flight, 1);
    }

    /// A request that began here is counted elsewhere.
    pub fn moved_on(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
    }

    /// A request has ended, with the status that the client saw.
    pub fn end(
        &self,
        method: &Method,
        status: StatusCode,
        caller: Option<&Arc<str>>,
        duration: Duration,
        overhead: Option<Duration>,
    ) {
        self.moved_on();
        let answered = (label(method), status.as_u16(), caller.cloned());
        count(&self.requests, answered);
        self.duration.record(duration);
        if let Some(overhead) = overhead {
            self.overhead.record(overhead);
        }
    }

    /// Whether what is under way is cut by the end of the worker.
    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// A fault, by its code.
    pub fn fault(&self, code: &'static str) {
        count(&self.faults, code);
    }

    /// A 401 to an attached credential, by what came of it.
    pub fn replay(&self, outcome: &'static str) {
        count(&self.replays, outcome);
    }

    /// A credential was overwritten in a part of an answer.
    pub fn scrubbed(&self, part: &'static str) {
        count(&self.scrubbed, part);
    }

    fn counts(&self) -> RouteCounts {
        RouteCounts {
            requests: self.requests.borrow().iter().cloned().collect(),
            faults: self.faults.borrow().iter().copied().collect(),
            replays: self.replays.borrow().iter().copied().collect(),
            scrubbed: self.scrubbed.borrow().iter().copied().collect(),
            in_flight: self.in_flight.get(),
            duration: self.duration.counts(),
            overhead: self.overhead.counts(),
        }
    }
}

impl Histogram {
    fn record(&self, value: Duration) {
        let seconds = value.as_secs_f64();
        let bucket = BUCKETS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BUCKETS.len());
        add(&self.counts[bucket], 1);
        self.sum.set(self.sum.get() + seconds);
    }

    fn counts(&self) -> HistogramCounts {
        HistogramCounts {
            counts: std::array::from_fn(|bucket| self.counts[bucket].get()),
            sum: self.sum.get(),
        }
    }
}

impl Counts {
    /// Adds the counts of another worker.
    pub fn add(&mut self, other: Self) {
        for (name, route) in other.routes {
            self.routes.entry(name).or_default().add(route);
        }
        for (name, count) in other.connections {
            *self.connections.entry(name).or_default() += count;
        }
        for (name, count) in other.opened {
            *self.opened.entry(name).or_default() += count;
        }
    }
}

impl RouteCounts {
    fn add(&mut self, other: Self) {
        for (key, count) in other.requests {
            *self.requests.entry(key).or_default() += count;
        }
        for (key, count) in other.faults {
            *self.faults.entry(key).or_default() += count;
        }
        for (outcome, count) in other.replays {
            *self.replays.entry(outcome).or_default() += count;
        }
        for (part, count) in other.scrubbed {
            *self.scrubbed.entry(part).or_default() += count;
        }
        self.in_flight += other.in_flight;
        self.duration.add(&other.duration);
        self.overhead.add(&other.overhead);
    }
}

impl HistogramCounts {
    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.sum += other.sum;
    }
}

fn add(cell: &Cell<u64>, by: u64) {
    cell.set(cell.get() + by);
}

/// A handful of keys at most: a search from the front beats a hash.
fn count<K: PartialEq>(counts: &RefCell<Vec<(K, u64)>>, key: K) {
    let mut counts = counts.borrow_mut();
    match counts.iter_mut().find(|(known, _)| *known == key) {
        Some((_, count)) => *count += 1,
        None => counts.push((key, 1)),
    }
}

/// A known method's name; no label takes a value from a request.
pub fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => "other",
    }
}

/// Upper bounds in seconds: from what the proxy adds to what a long generation takes.
pub const BUCKETS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0,
];
