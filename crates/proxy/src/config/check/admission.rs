//! Who may come at a listener: its callers, or anyone who reaches it.

use std::path::PathBuf;

use toml::Spanned;

use super::{Declared, resolve_each};
use crate::config::{
    Caller, ListenAddress,
    reading::{Reading, Span},
    wire::Table,
};

/// What a listener can know of those who come.
pub(super) struct Ways<'a> {
    /// `None` where it is wrong.
    pub(super) address: Option<&'a ListenAddress>,
    pub(super) has_tls: bool,
    pub(super) client_ca: Option<&'a Spanned<PathBuf>>,
}

/// Indexes of the callers that a listener names; a mistake where others than this machine reach it, and it names none.
pub(super) fn admitted(
    table: &mut Table<'_>,
    ways: &Ways<'_>,
    callers: &[Declared<Caller>],
    listener: &str,
) -> Option<Vec<usize>> {
    let named = named(table, callers);
    let anyone = table.boolean("anyone").unwrap_or(false);
    let is_local = ways.address.is_none_or(ListenAddress::is_local);
    let reading = table.reading;
    let waiver = table.key("anyone").filter(|_| anyone);
    match (table.key("callers"), waiver) {
        (Some(_), Some(waiver)) => {
            let hint = "leave out `anyone`, or leave out `callers`";
            reading.mistake(
                waiver,
                "anyone may come, or the callers that are named",
                hint,
            );
        }
        (None, Some(waiver)) if is_local => reading.warning(
            waiver,
            "anyone has no meaning for an address that only this machine reaches",
            "leave it out: it would open the listener without a word once the address is changed",
        ),
        (None, Some(_)) => reading.waive("anyone", format!("listener.{listener}")),
        (None, None) if !is_local => {
            let value = table.value("address");
            reading.mistake(
                value.map_or(table.span.clone(), Spanned::span),
                "anyone who reaches this address would act with the proxy's credentials",
                "callers = [\"NAME\"] of [caller.NAME] tables; or listen on 127.0.0.1 or a unix socket; or waive it by \
                 name: anyone = true",
            );
        }
        _ => {}
    }
    let named = named?;
    let mut asks_for_certificates = false;
    let mut asks_for_keys = false;
    for (span, index) in &named {
        if let Some(caller) = &callers[*index].built {
            asks_for_certificates |= !caller.certificates.is_empty();
            asks_for_keys |= !caller.keys.is_empty();
            refuse_what_cannot_hold(reading, span, caller, ways);
        }
    }
    if let Some(client_ca) = ways.client_ca
        && !asks_for_certificates
        && named
            .iter()
            .all(|(_, index)| callers[*index].built.is_some())
    {
        reading.mistake(
            client_ca.span(),
            "no caller of this listener has a certificate: it would be asked for, and let nobody in or out",
            "[caller.NAME] with certificate = \"…\", and NAME in the listener's callers",
        );
    }
    if asks_for_keys && !is_local && !ways.has_tls {
        if let Some(span) = table.key("callers") {
            reading.warning(
                span,
                "keys of callers cross the network in the clear",
                "tls = { certificate = \"tls.crt\", key = \"tls.key\" }",
            );
        }
        reading.waive("plain_key", format!("listener.{listener}"));
    }
    Some(named.into_iter().map(|(_, index)| index).collect())
}

/// The callers that are named, and where; `None` where a mistake was noted.
fn named(table: &mut Table<'_>, callers: &[Declared<Caller>]) -> Option<Vec<(Span, usize)>> {
    let Some(key) = table.key("callers") else {
        return Some(Vec::new());
    };
    let names = table.texts("callers")?;
    let reading = table.reading;
    if names.is_empty() {
        let hint = "callers = [\"NAME\"], or leave it out";
        reading.mistake(key, "callers is empty: nobody could come", hint);
        return None;
    }
    resolve_each(reading, callers, &names, "caller")
}

/// A condition that nobody can meet at this listener keeps the caller out for ever.
fn refuse_what_cannot_hold(reading: &Reading<'_>, span: &Span, caller: &Caller, ways: &Ways<'_>) {
    let name = &caller.name;
    let refuse = |what: &str, hint: &str| {
        reading.mistake(
            span.clone(),
            format!("caller `{name}` {what}"),
            hint.to_owned(),
        );
    };
    let is_unix = matches!(ways.address, Some(ListenAddress::Unix { .. }));
    let is_tcp = matches!(ways.address, Some(ListenAddress::Tcp(_)));
    if is_tcp && !(caller.uids.is_empty() && caller.gids.is_empty()) {
        let hint = "name it at a listener with address = \"unix:…\", or make it two callers";
        refuse("has uids or gids, which only a unix socket tells", hint);
    }
    if is_unix && !caller.networks.is_empty() {
        let hint = "name it at a listener with a TCP address, or make it two callers";
        refuse(
            "has networks, and nobody comes to a unix socket from one",
            hint,
        );
    }
    if ways.client_ca.is_none() && !caller.certificates.is_empty() {
        let hint = "tls = { …, client_ca = \"ca.crt\" } of the listener";
        refuse("has a certificate, and this listener asks for none", hint);
    }
}
