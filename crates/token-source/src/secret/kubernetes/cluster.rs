//! The Kubernetes API as this process reaches it: one client, on a thread of its own, both made when first needed.
//!
//! A thread, because a client belongs to the runtime that it was made on, while secrets are read on several.

use std::{
    error::Error as _,
    future::Future,
    iter,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    thread,
    time::Duration,
};

use kube::{Api, Client, Error, client::ClientBuilder, core::Status};
use tokio::{runtime, sync, task::AbortHandle, time};
use tower::layer::layer_fn;

use super::{
    Heard, SecretName,
    bounded::{Bounding, TooMuch},
    object::Object,
};
use crate::secret::SecretError;
#[cfg(not(test))]
use crate::secret::environment;

pub(super) struct Cluster {
    runtime: runtime::Handle,
    client: Mutex<Option<Client>>,
    /// Held while a client is made, and with it the only program of a kubeconfig that is run for that.
    making: Arc<sync::Mutex<()>>,
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
            making: Arc::default(),
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
    pub(super) async fn secrets(
        &'static self,
        secret: &SecretName,
    ) -> Result<Api<Object>, Failure> {
        let client = match self.client() {
            Some(client) => client,
            None => match time::timeout(MAKING_LIMIT, self.make_client()).await {
                Ok(made) => made.ok_or(SecretError::NoCluster),
                Err(_) => Err(SecretError::ClusterProgramHangs),
            }
            .map_err(|cause| Failure {
                cause,
                status: None,
                retry_after: None,
            })?,
        };
        Ok(Api::namespaced(client, &secret.namespace))
    }

    fn client(&self) -> Option<Client> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.clone()
    }

    /// Makes the client, or waits for who does. Off the thread, which has watches to serve: kube runs the program of
    /// a kubeconfig and waits for its end, and there is no way to end it. What takes longer than anybody waits for is
    /// there for the next who asks.
    async fn make_client(&'static self) -> Option<Client> {
        let turn = Arc::clone(&self.making).lock_owned().await;
        if let Some(client) = self.client() {
            return Some(client);
        }
        let make = move || {
            // Held by the thread, because it may outlast whoever waits for it.
            let _turn = turn;
            let made = runtime::Handle::current().block_on(make_client())?;
            self.keep_client(Some(made.clone()));
            Some(made)
        };
        self.runtime.spawn_blocking(make).await.ok().flatten()
    }

    fn keep_client(&self, client: Option<Client>) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }

    /// What a request yields, within a time limit.
    pub(super) async fn answered<T>(
        &self,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        match time::timeout(ANSWER_LIMIT, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => Err(self.silence()),
        }
    }

    /// What an error means. Its text is not shown to anybody: it may hold what came over the wire, or what the
    /// program of a kubeconfig printed.
    pub(super) fn failure(&self, error: &Error) -> Failure {
        let is_no_secret =
            matches!(error, Error::SerdeError(_) | Error::FromUtf8(_)) || is_too_much(error);
        match error {
            Error::Api(status) => self.refusal(status),
            _ if is_no_secret => Failure {
                cause: SecretError::ClusterFailed,
                status: None,
                retry_after: None,
            },
            _ => self.silence(),
        }
    }

    /// What a status that is none of success means.
    pub(super) fn refusal(&self, status: &Status) -> Failure {
        let cause = match status.code {
            401 | 403 => SecretError::Forbidden,
            _ => SecretError::ClusterFailed,
        };
        if status.code == 401 {
            self.keep_client(None);
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

    /// The API did not answer. The next client is made of what the kubeconfig says then: it may have a new token, or
    /// lead elsewhere.
    pub(super) fn silence(&self) -> Failure {
        self.keep_client(None);
        Failure {
            cause: SecretError::ClusterUnreached,
            status: None,
            retry_after: None,
        }
    }
}

async fn make_client() -> Option<Client> {
    let mut config = configuration().await?;
    // Whoever asks here has more patience than 5 ms.
    config.default_retry = false;
    config.connect_timeout = Some(ANSWER_LIMIT);
    let stack = ClientBuilder::try_from(config).ok()?;
    Some(stack.with_layer(&layer_fn(Bounding)).build())
}

fn is_too_much(error: &Error) -> bool {
    let mut causes = iter::successors(error.source(), |&cause| cause.source());
    causes.any(|cause| cause.is::<TooMuch>())
}

/// A kubeconfig (`$KUBECONFIG`, `~/.kube/config`), else the service account of this pod.
#[cfg(not(test))]
async fn configuration() -> Option<kube::Config> {
    use kube::config::{Config, Kubeconfig};

    // Not `Config::infer`, which lets variables that are meant for debugging lead elsewhere.
    match Kubeconfig::read() {
        Ok(kubeconfig) => match of_kubeconfig(kubeconfig).await {
            Some(config) => Some(config),
            None => Config::incluster().ok(),
        },
        Err(_) => Config::incluster().ok(),
    }
}

/// What it says, but that its program inherits no variable that holds a secret.
#[cfg(not(test))]
async fn of_kubeconfig(mut kubeconfig: kube::config::Kubeconfig) -> Option<kube::Config> {
    let users = kubeconfig.auth_infos.iter_mut();
    for user in users.filter_map(|named| named.auth_info.as_mut()) {
        if let Some(program) = &mut user.exec {
            (program.drop_env.get_or_insert_default()).extend(environment::withheld());
        }
    }
    let options = kube::config::KubeConfigOptions::default();
    kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .ok()
}

#[cfg(test)]
use super::tests::configuration;

const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// A little less than the reader of a secret waits, who is to hear what is wrong.
const MAKING_LIMIT: Duration = Duration::from_secs(9);
