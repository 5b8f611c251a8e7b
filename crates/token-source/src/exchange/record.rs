//! What an attempt did, step by step: kept for who wants to see it, never by a keeper.

/// An account of the requests of one attempt; empty unless somebody asked for it.
#[derive(Debug, Default)]
pub struct Record {}
