//! Following one Secret: list it, watch it from there, and begin again, after a pause, whatever ended that.
//!
//! Not `kube`'s watcher, which resumes where this lists anew: for one object a list costs no more than a watch, and
//! needs no knowledge of versions and of what a server has forgotten. Nor does that one pause after a watch that ends
//! in order, however soon.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::TryStreamExt as _;
use kube::{
    api::{ListParams, WatchParams},
    core::WatchEvent,
};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tracing::{debug, info, warn};

use super::{
    Heard, SecretName,
    cluster::{Cluster, Failure},
    object::Object,
};
use crate::{schedule, secret::SecretError};

/// Tells what is heard of a Secret, for ever. What was heard stays while the API cannot be asked.
pub(super) async fn follow(
    cluster: &'static Cluster,
    secret: SecretName,
    told: watch::Sender<Option<Heard>>,
) {
    let mut follower = Follower {
        cluster,
        secret,
        told,
        is_known: false,
        complaint: None,
    };
    let mut failures = 0_u32;
    loop {
        let began = Instant::now();
        let ended = follower.list_and_watch().await;
        if began.elapsed() >= STEADY {
            failures = 0;
            if ended.is_ok() {
                continue;
            }
        }
        failures = failures.saturating_add(1);
        let retry_after = ended.as_ref().err().and_then(|failure| failure.retry_after);
        let pause = schedule::backoff(failures, retry_after, fastrand::f64());
        if let Err(failure) = ended {
            follower.complain(&failure, pause);
        }
        time::sleep(pause).await;
    }
}

struct Follower {
    cluster: &'static Cluster,
    secret: SecretName,
    told: watch::Sender<Option<Heard>>,
    /// It was there once, so its name is a name and may be told.
    is_known: bool,
    /// What is wrong at present; told once.
    complaint: Option<SecretError>,
}

impl Follower {
    /// Until the watch ends.
    async fn list_and_watch(&mut self) -> Result<(), Failure> {
        let cluster = self.cluster;
        let secrets = cluster.secrets(&self.secret).await?;
        // What a Role with `resourceNames` allows.
        let only_this = format!("metadata.name={}", self.secret.name);
        let parameters = ListParams::default().fields(&only_this);
        let list = cluster.answered(secrets.list(&parameters)).await?;
        let version = list.metadata.resource_version.unwrap_or_default();
        self.tell(list.items.into_iter().next());
        self.recover();

        let parameters = WatchParams::default()
            .fields(&only_this)
            .timeout(WATCH_TIME);
        let events = cluster
            .answered(secrets.watch(&parameters, &version))
            .await?;
        let mut events = pin!(events);
        // A connection that is dead without a sign of it is given up when the watch should have ended.
        let end = Instant::now() + Duration::from_secs(WATCH_TIME.into()) + GRACE;
        loop {
            match time::timeout_at(end, events.try_next()).await {
                Err(_) => return Err(cluster.silence()),
                Ok(Err(error)) => return Err(cluster.failure(&error)),
                Ok(Ok(None)) => return Ok(()),
                Ok(Ok(Some(event))) => match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        self.tell(Some(object));
                    }
                    WatchEvent::Deleted(_) => self.tell(None),
                    WatchEvent::Bookmark(_) => {}
                    WatchEvent::Error(status) => return Err(cluster.refusal(&status)),
                },
            }
        }
    }

    /// Tells what is there now, if that is something else than before.
    fn tell(&mut self, object: Option<Object>) {
        let content = object.and_then(|object| object.content_of(&self.secret.name));
        self.is_known |= content.is_some();
        let now = content.map(Arc::new).ok_or(SecretError::Missing);
        self.told.send_if_modified(|heard| {
            let is_news = heard.as_ref() != Some(&now);
            *heard = Some(now);
            is_news
        });
    }

    fn recover(&mut self) {
        if self.complaint.take().is_some() {
            info!(secret = self.name(), "Kubernetes Secret is followed again");
        }
    }

    /// Tells of a failure; what was heard before stays.
    fn complain(&mut self, failure: &Failure, pause: Duration) {
        let Failure { cause, status, .. } = failure;
        let secret = self.name();
        // Its version is too old to go on from, as happens now and then.
        let is_usual = *status == Some(GONE);
        if is_usual || self.complaint == Some(*cause) {
            debug!(secret, %cause, status, next_attempt_in = ?schedule::told(pause), "Kubernetes Secret still not followed");
        } else {
            warn!(secret, %cause, status, next_attempt_in = ?schedule::told(pause), "Kubernetes Secret not followed");
            self.complaint = Some(*cause);
        }
        self.told.send_if_modified(|heard| {
            let was_there = matches!(heard, Some(Ok(_) | Err(SecretError::Missing)));
            if was_there || *heard == Some(Err(*cause)) {
                return false;
            }
            *heard = Some(Err(*cause));
            true
        });
    }

    fn name(&self) -> String {
        if self.is_known {
            format!("{}/{}", self.secret.namespace, self.secret.name)
        } else {
            "…".to_owned()
        }
    }
}

const GONE: u16 = 410;
/// In seconds: how long the API lets a watch be open, and so how long a dead connection stays unnoticed.
const WATCH_TIME: u32 = 240;
const GRACE: Duration = Duration::from_secs(10);
/// A watch that lasted as long went well.
const STEADY: Duration = Duration::from_secs(10);
