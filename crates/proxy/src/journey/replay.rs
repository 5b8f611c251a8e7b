//! Forward, once more: a request that was answered with a 401 is sent again, if there is another value to send it with.

use std::rc::Rc;

use http::{StatusCode, Uri, request::Parts, response};
use token_source::Proof;

use super::{
    answer::Passing,
    attach::{Attached, Attacher},
    forward::forward,
    http1::Head,
    pool::Pool,
    rewrite::Target,
    trip::Trip,
    upgrade::is_switch,
};
use crate::fault::Fault;

/// What came of a 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The request was sent once more, and the answer is no 401.
    Helped,
    /// The upstream answered 401 to the other value as well; the client sees that answer.
    RejectedAgain,
    /// No answer came to the request that was sent once more.
    Failed,
    /// More of the body had gone out than is kept, or than the worker had memory for; the client sees the 401.
    NotKept,
    /// The 401 is the upstream's opinion, or there was no other value in time; the client sees it.
    NoOtherValue,
}

impl Outcome {
    /// The word for it in metrics, logs and `Proxy-Status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Helped => "helped",
            Self::RejectedAgain => "rejected_again",
            Self::Failed => "failed",
            Self::NotKept => "not_kept",
            Self::NoOtherValue => "no_other_value",
        }
    }
}

/// Passes a 401 on, unless it is for a value that is no longer the one to send, or can be replaced: then the answer to
/// the same request with another value. `target` is the request's with nothing attached; `attached` is what was attached,
/// and in the end all of both.
///
/// # Errors
/// Those of [`forward`], of the second sending.
pub async fn replay(
    answer: (Head, Box<Passing>),
    head: &mut Parts,
    mut target: Target,
    attachers: &[Attacher],
    attached: &mut Attached,
    pool: &Rc<Pool>,
    trip: &mut Trip,
) -> Result<(Head, Box<Passing>), Fault> {
    let progress = Rc::clone(&answer.1.progress);
    if !progress.hold()? {
        progress.forget();
        for (attacher, rejected) in attachers.iter().zip(&*attached) {
            attacher.reject(rejected);
        }
        trip.replayed(Outcome::NotKept);
        return Ok(answer);
    }
    let Some(others) = other_values(attachers, attached).await else {
        progress.forget();
        trip.replayed(Outcome::NoOtherValue);
        return Ok(answer);
    };

    // Each in the place of the one before.
    for built in &others {
        built.put_on(&mut head.headers, &mut target)?;
    }
    head.uri = Uri::from(target.into_path_and_query()?);
    answer.1.discard();
    let body = progress.again();
    let second = forward(pool, head, body, trip.is_handshake).await;
    progress.forget();

    let (outcome, proof) = match &second {
        Ok(((head, _), _)) => judge(head, trip.is_handshake),
        Err(_) => (Outcome::Failed, Proof::Unknown),
    };
    trip.replayed(outcome);
    for (attacher, rejected) in attachers.iter().zip(&*attached) {
        attacher.replayed(rejected, proof);
    }
    attached.extend(others);
    second
}

/// What came of the second sending, and what that proves of the value that it was sent with.
fn judge(answer: &response::Parts, was_handshake: bool) -> (Outcome, Proof) {
    let status = answer.status;
    match is_switch(answer, was_handshake) {
        Ok(true) => (Outcome::Helped, Proof::Taken),
        // To something that nobody asked for: the client does not get it.
        Err(_) => (Outcome::Failed, Proof::Unknown),
        Ok(false) if status == StatusCode::UNAUTHORIZED => {
            (Outcome::RejectedAgain, Proof::Rejected)
        }
        Ok(false) if status.is_success() || status.is_redirection() => {
            (Outcome::Helped, Proof::Taken)
        }
        Ok(false) => (Outcome::Helped, Proof::Unknown),
    }
}

/// What to attach instead of what was rejected; `None` where nothing of it is to be replaced, or some of it has ended.
async fn other_values(attachers: &[Attacher], rejected: &Attached) -> Option<Attached> {
    let mut others = Attached::new();
    let mut is_other = false;
    for (attacher, rejected) in attachers.iter().zip(rejected) {
        let other = attacher.after_rejection(rejected).await;
        is_other |= other.is_some();
        others.push(other.or_else(|| attacher.in_force())?);
    }
    is_other.then_some(others)
}

#[cfg(test)]
mod tests {
    use http::{Response, header};

    use super::*;

    #[test]
    fn a_second_answer_that_switches_to_another_protocol_has_not_helped() {
        let judged = |status: u16, to: &str, was_handshake| {
            let answer = Response::builder()
                .status(status)
                .header(header::UPGRADE, to)
                .header(header::CONNECTION, "upgrade")
                .body(());
            judge(&answer.unwrap().into_parts().0, was_handshake)
        };
        let (helped, failed) = (Outcome::Helped, Outcome::Failed);
        assert_eq!(judged(101, "websocket", true), (helped, Proof::Taken));
        assert_eq!(judged(101, "other", true), (failed, Proof::Unknown));
        assert_eq!(judged(101, "websocket", false), (failed, Proof::Unknown));
        assert_eq!(judged(200, "other", true), (helped, Proof::Taken));
        assert_eq!(judged(403, "other", true), (helped, Proof::Unknown));
        let again = (Outcome::RejectedAgain, Proof::Rejected);
        assert_eq!(judged(401, "other", true), again);
    }
}
