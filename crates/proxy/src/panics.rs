//! Panics, which are mistakes in this program: each says where it was and not what it was about, and ends one request.

use std::{
    any::Any,
    future::{Future, poll_fn},
    io::{self, Write as _},
    panic::{self, AssertUnwindSafe, Location, PanicHookInfo},
    pin::Pin,
    task::Poll,
};

use tracing::dispatcher;

/// What was under way has panicked; the place has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panicked;

/// From now on a panic is told by its place. Its text is told only where it stands in the source: one that was put together
/// may quote a request or a secret. There is no backtrace: a confined process cannot read the names in its own file.
pub fn tell_places_alone() {
    panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let place = panic.location().map(Location::to_string);
        let place = place.unwrap_or_default();
        let text = fixed_text(panic.payload());
        if dispatcher::has_been_set() {
            tracing::error!(place, text, "a panic: please report this mistake");
        } else {
            let line = format!("a panic at {place}: {text}; please report this mistake");
            // Where nobody reads it there is nobody to tell.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }));
}

fn fixed_text(payload: &(dyn Any + Send)) -> &'static str {
    payload
        .downcast_ref()
        .copied()
        .unwrap_or("(its text is not shown)")
}

/// The future's output, unless it panics; then it is not polled again. Pinned where it is, since a large one is dear to
/// move.
///
/// # Errors
/// When it has panicked.
pub async fn caught<F: Future>(mut future: Pin<&mut F>) -> Result<F::Output, Panicked> {
    poll_fn(|cx| {
        // Who owns what the future has borrowed drops it next, whatever state it is in.
        match panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn a_panic_ends_what_panicked_alone() {
        assert_eq!(caught(pin!(async { 1 })).await, Ok(1));
        let late = async {
            yield_now().await;
            panic!("late");
        };
        assert_eq!(caught(pin!(late)).await, Err::<(), _>(Panicked));
    }

    #[test]
    fn a_text_that_was_put_together_is_not_told() {
        let secret = String::from("canary-in-a-panic");
        let put_together = panic::catch_unwind(|| panic!("{secret}")).unwrap_err();
        assert_eq!(fixed_text(&*put_together), "(its text is not shown)");
        let fixed = panic::catch_unwind(|| panic!("the pool is sound")).unwrap_err();
        assert_eq!(fixed_text(&*fixed), "the pool is sound");
    }
}
