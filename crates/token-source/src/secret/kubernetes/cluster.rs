//! The Kubernetes API as this process reaches it: one client, on a thread of its own, both made when first needed.
//!
//! A thread, because a kubeconfig may name a program that is run and waited for, and because a client belongs to the
//! runtime that it was made on, while secrets are read on several.

use std::{
    future::Future,
    sync::{Arc, LazyLock},
    thread,
    time::Duration,
};

use kube::{Api, Client, Error, core::Status};
use tokio::{runtime, sync::Mutex, task::AbortHandle, time};

use super::{Heard, SecretName, object::Object};
use crate::secret::SecretError;

pub(super) struct Cluster {
    runtime: runtime::Handle,
    client: Mutex<Option<Client>>,
}

/// Why the API did not tell.
pub(super) struct Failure {
    pub(super) cause: SecretError,
    /// What it answered.
    pub(super) status: Option<u16>,
    /// How long it asks us to stay away.
    pub(super) retry_after: Option<Duration>,
}

impl Cluster {
    /// That of this process.
    pub(super) fn of_process() -> Result<&'static Self, SecretError> {
        static CLUSTER: LazyLock<Option<Cluster>> = LazyLock::new(Cluster::start);
        CLUSTER.as_ref().ok_or(SecretError::ClusterUnreached)
    }

    fn start() -> Option<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .ok()?;
        let handle = runtime.handle().clone();
        thread::Builder::new()
            .name("kubernetes".to_owned())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .ok()?;
        Some(Self {
            runtime: handle,
            client: Mutex::default(),
        })
    }

    /// Runs a task on its thread.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.runtime.spawn(task).abort_handle()
    }

    /// What the API says of a Secret now.
    pub(super) async fn ask(&'static self, secret: SecretName) -> Heard {
        let answer = self.runtime.spawn(async move {
            let secrets = self.secrets(&secret).await?;
            match self.answered(secrets.get_opt(&secret.name)).await? {
                Some(object) => Ok(object.content_of(&secret.name)),
                None => Ok(None),
            }
        });
        match answer.await {
            Ok(Ok(content)) => content.map(Arc::new).ok_or(SecretError::Missing),
            Ok(Err(Failure { cause, .. })) => Err(cause),
            Err(_) => Err(SecretError::ClusterUnreached),
        }
    }

    /// The API for the Secrets of a namespace.
    pub(super) async fn secrets(&self, secret: &SecretName) -> Result<Api<Object>, Failure> {
        let mut client = self.client.lock().await;
        let client = match &*client {
            Some(client) => client.clone(),
            None => {
                let no_cluster = Failure {
                    cause: SecretError::NoCluster,
                    status: None,
                    retry_after: None,
                };
                let Some(made) = make_client().await else {
                    return Err(no_cluster);
                };
                client.insert(made).clone()
            }
        };
        Ok(Api::namespaced(client, &secret.namespace))
    }

    /// What a request yields, within a time limit.
    pub(super) async fn answered<T>(
        &self,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        match time::timeout(ANSWER_LIMIT, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failure(&error).await),
            Err(_) => Err(self.silence().await),
        }
    }

    /// What an error means. Its text is not shown to anybody: it may hold what came over the wire, or what the
    /// program of a kubeconfig printed.
    pub(super) async fn failure(&self, error: &Error) -> Failure {
        match error {
            Error::Api(status) => self.refusal(status).await,
            Error::SerdeError(_) | Error::FromUtf8(_) => Failure {
                cause: SecretError::ClusterFailed,
                status: None,
                retry_after: None,
            },
            _ => self.silence().await,
        }
    }

    /// What a status that is none of success means.
    pub(super) async fn refusal(&self, status: &Status) -> Failure {
        let cause = match status.code {
            401 | 403 => SecretError::Forbidden,
            _ => SecretError::ClusterFailed,
        };
        if status.code == 401 {
            self.forget_client().await;
        }
        let seconds = status
            .details
            .as_ref()
            .map(|details| details.retry_after_seconds);
        Failure {
            cause,
            status: Some(status.code),
            retry_after: seconds.map(|seconds| Duration::from_secs(seconds.into())),
        }
    }

    /// The API did not answer.
    pub(super) async fn silence(&self) -> Failure {
        self.forget_client().await;
        Failure {
            cause: SecretError::ClusterUnreached,
            status: None,
            retry_after: None,
        }
    }

    /// The next one is made of what the kubeconfig says then: it may have a new token, or lead elsewhere.
    async fn forget_client(&self) {
        *self.client.lock().await = None;
    }
}

async fn make_client() -> Option<Client> {
    let mut config = configuration().await?;
    // Whoever asks here has more patience than 5 ms.
    config.default_retry = false;
    config.connect_timeout = Some(ANSWER_LIMIT);
    Client::try_from(config).ok()
}

/// A kubeconfig (`$KUBECONFIG`, `~/.kube/config`), else the service account of this pod.
#[cfg(not(test))]
async fn configuration() -> Option<kube::Config> {
    use kube::config::{Config, KubeConfigOptions};

    // Not `Config::infer`, which lets variables that are meant for debugging lead elsewhere.
    let options = KubeConfigOptions::default();
    match Config::from_kubeconfig(&options).await {
        Ok(config) => Some(config),
        Err(_) => Config::incluster().ok(),
    }
}

#[cfg(test)]
use super::tests::configuration;

const ANSWER_LIMIT: Duration = Duration::from_secs(10);
