//! Secrets of the Kubernetes API: of one that is watched, what the last good event said; of any other, what the API
//! answers now.

mod bounded;
mod cluster;
mod follow;
mod object;

use std::{
    collections::HashMap,
    future,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use futures_util::future::select_all;
use secrecy::zeroize::Zeroizing;
use tokio::{sync::watch, task::AbortHandle};

use self::{cluster::Cluster, object::Content};
use super::SecretError;

/// A Secret, by its namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretName {
    /// The namespace.
    pub namespace: String,
    /// The name in it.
    pub name: String,
}

/// What is known of a Secret.
type Heard = Result<Arc<Content>, SecretError>;

/// A Secret that is being followed, for as long as somebody holds this.
struct Watch {
    heard: watch::Receiver<Option<Heard>>,
    follower: AbortHandle,
}

/// A [`Watch`], and what its holder has seen of it.
pub(super) struct Watched {
    seen: watch::Receiver<Option<Heard>>,
    _watch: Arc<Watch>,
}

/// The value of a key.
pub(super) async fn read(
    secret: &SecretName,
    key: &str,
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let heard = match watch_of(secret) {
        Some(watch) => watch.heard().await,
        None => Cluster::of_process()?.ask(secret.clone()).await,
    };
    heard?.value(key).cloned().ok_or(SecretError::Missing)
}

/// Follows a Secret from now on; together with others who do, so that all values of one change at once.
pub(super) fn watch(secret: &SecretName) -> Option<Watched> {
    let mut watches = WATCHES.lock().unwrap_or_else(PoisonError::into_inner);
    watches.retain(|_, watch| watch.strong_count() > 0);
    let watch = match watches.get(secret).and_then(Weak::upgrade) {
        Some(watch) => watch,
        None => {
            let cluster = Cluster::of_process().ok()?;
            let (told, heard) = watch::channel(None);
            let follower = cluster.spawn(follow::follow(cluster, secret.clone(), told));
            let watch = Arc::new(Watch { heard, follower });
            watches.insert(secret.clone(), Arc::downgrade(&watch));
            watch
        }
    };
    Some(Watched {
        seen: watch.heard.clone(),
        _watch: watch,
    })
}

/// Waits until one of them changes; with none, for ever.
pub(super) async fn any_change(watches: &mut [Watched]) {
    let changes: Vec<_> = watches
        .iter_mut()
        .map(|watched| Box::pin(watched.seen.changed()))
        .collect();
    if changes.is_empty() {
        return future::pending().await;
    }
    if let (Err(_), ..) = select_all(changes).await {
        // Nobody follows any more: only where the process is about to end.
        future::pending().await
    }
}

/// Namespace and name, if the API has told that this is what they are: what was written in their place may be the
/// secret itself.
pub(super) fn known_name(secret: &SecretName) -> String {
    let is_there = |watch: &Arc<Watch>| matches!(*watch.heard.borrow(), Some(Ok(_)));
    match watch_of(secret).filter(is_there) {
        Some(_) => format!("{}/{}", secret.namespace, secret.name),
        None => "…".to_owned(),
    }
}

fn watch_of(secret: &SecretName) -> Option<Arc<Watch>> {
    let watches = WATCHES.lock().unwrap_or_else(PoisonError::into_inner);
    watches.get(secret).and_then(Weak::upgrade)
}

impl Watch {
    /// Waits for the first answer, also one of a failure.
    async fn heard(&self) -> Heard {
        let mut heard = self.heard.clone();
        let heard = heard.wait_for(Option::is_some).await;
        heard
            .ok()
            .and_then(|heard| heard.clone())
            .unwrap_or(Err(SecretError::ClusterUnreached))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

static WATCHES: LazyLock<Mutex<HashMap<SecretName, Weak<Watch>>>> = LazyLock::new(Mutex::default);

#[cfg(test)]
mod tests;
