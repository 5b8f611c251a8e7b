//! What the environment says about the ways to the servers of a configuration.

use std::sync::Arc;

use token_source::Origin;

use super::{
    Config,
    report::{Mistake, Place, Report, Severity},
};

impl Config {
    /// Every server that is contacted, with the table that names it: `upstream` or `credential`, and its name.
    pub fn servers(&self) -> impl Iterator<Item = (&'static str, &Arc<str>, &Origin)> {
        let upstreams = (self.upstreams.iter()).map(|one| ("upstream", &one.name, &one.origin));
        let credentials = (self.credentials.iter()).flat_map(|one| {
            let servers = one.kind.servers().into_iter();
            servers.map(|origin| ("credential", &one.name, origin))
        });
        upstreams.chain(credentials)
    }
}

/// Refuses a configuration whose way to a server is named by a variable that is not understood.
pub(super) fn check(config: &Config) -> Result<(), Report> {
    let mut mistakes: Vec<Mistake> = Vec::new();
    for (table, name, origin) in config.servers() {
        let Err(error) = origin.way() else { continue };
        let place = Place::Variable(error.variable().to_owned());
        if mistakes.iter().all(|known| known.place != place) {
            mistakes.push(Mistake {
                severity: Severity::Error,
                place,
                what: format!("{error}, and {table} {name} goes by it"),
                hint: error.hint().to_owned(),
            });
        }
    }
    match mistakes.is_empty() {
        true => Ok(()),
        false => Err(Report { mistakes }),
    }
}
