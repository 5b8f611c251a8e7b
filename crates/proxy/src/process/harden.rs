//! What the process gives up before it reads its first secret: to be looked into, to gain rights, and to open files
//! that it has no business with.
//!
//! What the platform does not have, or denies, is told at level debug: the proxy serves all the same.

#[cfg(target_os = "linux")]
use token_source::clock;
use token_source::{Location, secret};

use crate::config::Config;

/// Hardens this thread and those that it starts, so call it on the first one before there is another.
pub fn harden(config: &Config) {
    hide(config);
    #[cfg(target_os = "linux")]
    {
        let places = config.places();
        if let Some(reason) = opens_more(&places) {
            tracing::debug!(reason, "files are not confined");
        } else {
            // rustix looks for the kernel's clock in /proc, where an older kernel does not tell it: once, and now.
            let _ = clock::now();
            told("no new rights", rustix::thread::set_no_new_privs(true));
            super::confine::confine(config, &places);
        }
    }
}

/// Lets nobody look into the process but root: no core dump, no debugger, nothing in `/proc` beyond what is public.
/// The programs that it runs get no secret with their environment.
pub fn hide(config: &Config) {
    let places = config.places();
    secret::withhold(places.iter().filter_map(|place| match place {
        Location::Env(name) | Location::EnvField { variable: name, .. } => Some(name.as_str()),
        _ => None,
    }));
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{
            DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit,
        };

        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        told("no core file", setrlimit(Resource::Core, none));
        let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        told("not dumpable", hidden);
    }
}

/// Why the process opens files, or starts programs, that no list of files can know beforehand.
#[cfg(target_os = "linux")]
fn opens_more(places: &[Location]) -> Option<&'static str> {
    places.iter().find_map(|place| match place {
        // Programs may need anything: another user's rights as well, as those have that are installed setgid.
        Location::Command(_) => Some("a command is run for a secret"),
        #[cfg(feature = "kube")]
        Location::KubernetesSecret { .. } if !is_in_pod() => {
            Some("a kubeconfig may name files and a program")
        }
        #[cfg(feature = "keyring")]
        Location::Keyring { .. } => Some("a keyring is found by way of the user's session"),
        _ => None,
    })
}

/// Whether the Kubernetes API is reached by the pod's own service account: a kubeconfig goes before it.
#[cfg(all(target_os = "linux", feature = "kube"))]
fn is_in_pod() -> bool {
    use std::{env, path::Path};

    let kubeconfig = || {
        let home = env::var_os("HOME")?;
        Some(Path::new(&home).join(".kube/config").exists())
    };
    env::var_os("KUBERNETES_SERVICE_HOST").is_some()
        && env::var_os("KUBECONFIG").is_none()
        && !kubeconfig().unwrap_or(false)
}

#[cfg(target_os = "linux")]
fn told(what: &'static str, outcome: rustix::io::Result<()>) {
    match outcome {
        Ok(()) => tracing::debug!(what, "hardened"),
        Err(error) => tracing::debug!(what, %error, "hardening is denied"),
    }
}
