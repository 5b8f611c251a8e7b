//! The plan as one worker sees it: with header values, connections and counts of its own, so that no request touches
//! what another worker writes.

use std::{rc::Rc, sync::Arc};

use http::HeaderMap;

use super::{
    ListenerPlan, Plan,
    admit::LastHost,
    attach::Attacher,
    kept::Memory,
    pool::Pool,
    route::{Path, Route},
};
use crate::{
    config::UNROUTED,
    fault::Fault,
    sweep::{Sweeper, Tick},
    tally::{RouteTally, Tally},
};

/// One worker's view of the plan: with its own header values and its own connections.
#[derive(Debug)]
pub struct View {
    pub(super) plan: Arc<Plan>,
    /// The names of the plan's listeners, in its order.
    pub(super) listeners: Vec<Rc<str>>,
    pub(super) routes: Vec<RouteView>,
    pub(super) pools: Vec<Rc<Pool>>,
    pub(super) last_host: LastHost,
    /// For copies of request bodies.
    pub(super) memory: Rc<Memory>,
    pub(super) unrouted: Rc<RouteTally>,
}

#[derive(Debug)]
pub(super) struct RouteView {
    pub(super) route: Route,
    pub(super) name: Rc<str>,
    pub(super) attachers: Vec<Attacher>,
    pub(super) tally: Rc<RouteTally>,
}

impl View {
    /// A view for one worker.
    pub fn new(plan: Arc<Plan>, sweeper: &Rc<Sweeper>, memory: &Rc<Memory>, tally: &Tally) -> Self {
        let view = |route: &Route| RouteView {
            route: Route {
                rewrite: route.rewrite.unshared(),
                ..route.clone()
            },
            name: Rc::from(&*route.name),
            attachers: route.attach.iter().cloned().map(Attacher::new).collect(),
            tally: tally.route(&route.name),
        };
        Self {
            listeners: (plan.listeners.iter())
                .map(|listener| Rc::from(&*listener.name))
                .collect(),
            routes: plan.routes.iter().map(view).collect(),
            pools: plan
                .upstreams
                .iter()
                .map(|up| Pool::new(Arc::clone(up), Rc::clone(sweeper), tally))
                .collect(),
            last_host: LastHost::default(),
            memory: Rc::clone(memory),
            unrouted: tally.route(&Arc::from(UNROUTED)),
            plan,
        }
    }

    /// Closes upstream connections that have been idle for too long, and lets go of values that are no longer in
    /// force, with the connections that may still remember one.
    pub fn reap(&self, now: Tick) {
        for mine in &self.routes {
            let ceased = mine.attachers.iter().filter(|attacher| attacher.let_go());
            if ceased.count() > 0 {
                self.pools[mine.route.upstream].retire_shared();
            }
        }
        self.pools.iter().for_each(|pool| pool.reap(now));
    }

    /// Lets go of all values that were built: nobody is here to send them.
    pub fn forget(&self) {
        self.pools.iter().for_each(|pool| pool.forget());
        let attachers = self.routes.iter().flat_map(|route| &route.attachers);
        attachers.for_each(Attacher::forget);
    }

    /// Closes all idle upstream connections.
    pub fn drop_idle(&self) {
        self.pools.iter().for_each(|pool| pool.drop_idle());
    }

    /// Makes the trailers of a request on a route fit to be sent.
    pub(super) fn clean_trailers(&self, route: usize, trailers: &mut HeaderMap) {
        self.routes[route].route.rewrite.trailers(trailers);
    }

    /// The route that takes a path, and the path as it goes upstream.
    pub(super) fn find<'a>(
        &self,
        listener: &ListenerPlan,
        host: &str,
        path: Path<'a>,
    ) -> Result<(usize, Path<'a>), Fault> {
        let take = |index: &usize| {
            self.routes[*index]
                .route
                .take(host, path)
                .map(|path| (*index, path))
        };
        listener.routes.iter().find_map(take).ok_or(Fault::NoRoute)
    }
}
