//! Why a secret could not be had.

/// Why a secret could not be had; says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SecretError {
    /// The file, field or variable does not exist.
    #[error("does not exist")]
    Missing,
    /// Reading failed, or it is no regular file.
    #[error("cannot be read")]
    Unreadable,
    /// The operating system does not let us open the file.
    #[error("cannot be read: the process may not open it")]
    Denied,
    /// Nothing but white space is there.
    #[error("is empty")]
    Empty,
    /// More than a secret can be: 1 MiB in a file, 64 KiB from a command.
    #[error("is too large")]
    TooLarge,
    /// Not UTF-8 text.
    #[error("is not UTF-8 text")]
    NotText,
    /// A field was asked for, but the file is not JSON or the field is no string.
    #[error("is not JSON with a string at that field")]
    NotJson,
    /// The command could not be started.
    #[error("cannot be started")]
    NotStarted,
    /// The command ended with a failure.
    #[error("failed")]
    CommandFailed,
    /// It took longer than 10 s.
    #[error("took longer than 10 s")]
    Timeout,
    /// Neither a pod's service account nor a kubeconfig tells where the Kubernetes API is, and who asks.
    #[error("is in a cluster that is not known: this is no pod, and there is no usable kubeconfig")]
    #[cfg(feature = "kube")]
    NoCluster,
    /// 401 or 403: the Kubernetes API does not let us read the Secret.
    #[error("may not be read: the Kubernetes API wants a right to get, list and watch it")]
    #[cfg(feature = "kube")]
    Forbidden,
    /// The program that the kubeconfig names, which says who asks, has not ended in time.
    #[error("is not told: the program of the kubeconfig does not end")]
    #[cfg(feature = "kube")]
    ClusterProgramHangs,
    /// The Kubernetes API does not answer in time: network, TLS, or a program of the kubeconfig that is run again.
    #[error("is not told: the Kubernetes API is not reached")]
    #[cfg(feature = "kube")]
    ClusterUnreached,
    /// The Kubernetes API answers with an error (429, 5xx), or with something that is no Secret.
    #[error("is not told: the Kubernetes API answers with an error, or with no Secret")]
    #[cfg(feature = "kube")]
    ClusterFailed,
    /// There is no keyring, or it is locked, or holds several secrets of that name.
    #[error("is not told: there is no keyring, or it is locked, or holds several of that name")]
    #[cfg(feature = "keyring")]
    KeyringFailed,
    /// It is to be sent as a token, but holds something other than visible ASCII, or is larger than 64 KiB.
    #[error("holds spaces or other characters that a header cannot carry")]
    NotAToken,
    /// It is to be sent as a token, and says itself that its time is over.
    #[error("is a token that has expired")]
    Expired,
}
