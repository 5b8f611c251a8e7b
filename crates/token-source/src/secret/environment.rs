//! Environment variables that hold a secret: the programs that are run for other secrets do not inherit them.

use std::sync::{PoisonError, RwLock};

/// Keeps variables from every program that is started from now on. They stay in this process's own environment, out
/// of which nothing can be taken while there are threads.
pub fn withhold<'a>(names: impl IntoIterator<Item = &'a str>) {
    let mut withheld = WITHHELD.write().unwrap_or_else(PoisonError::into_inner);
    for name in names {
        if !withheld.iter().any(|known| known == name) {
            withheld.push(name.to_owned());
        }
    }
}

/// Those that are kept from programs.
pub(super) fn withheld() -> Vec<String> {
    let withheld = WITHHELD.read().unwrap_or_else(PoisonError::into_inner);
    withheld.clone()
}

/// Of the process, as the environment is.
static WITHHELD: RwLock<Vec<String>> = RwLock::new(Vec::new());
