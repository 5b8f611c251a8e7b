//! The binary `watsonx-auth-proxy`; everything that it does is in the library.

use std::process::ExitCode;

use allocator::{ALLOCATOR, Wiping};

#[global_allocator]
static GLOBAL: Wiping = ALLOCATOR;

fn main() -> ExitCode {
    allocator::purge_at_once();
    watsonx_auth_proxy::command::run()
}
