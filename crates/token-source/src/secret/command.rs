//! Running a command that prints a secret; nothing of it is left when nobody waits for it any more.

use std::{io, process::Stdio, time::Duration};

use secrecy::zeroize::Zeroizing;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    select, time,
};

use super::{SecretError, environment::withheld};

/// What the command prints; its error output is dropped, because nobody knows what is in there.
pub(super) async fn run(arguments: &[String]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let mut running = Running::start(arguments).ok_or(SecretError::NotStarted)?;
    // All the room at once: a vector that grows leaves copies behind.
    let mut output = Zeroizing::new(Vec::with_capacity(OUTPUT_LIMIT + ROOM_TO_SEE_THE_END));
    let succeeded = running
        .finish(&mut output)
        .await
        .map_err(|_| SecretError::CommandFailed)?;
    match succeeded {
        _ if output.len() > OUTPUT_LIMIT => Err(SecretError::TooLarge),
        true => Ok(output),
        false => Err(SecretError::CommandFailed),
    }
}

/// A command and what it has started itself, in a process group of their own; killed when dropped before the end.
struct Running {
    child: Child,
}

impl Running {
    fn start(arguments: &[String]) -> Option<Self> {
        let (program, arguments) = arguments.split_first()?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        for name in withheld() {
            command.env_remove(name);
        }
        #[cfg(unix)]
        command.process_group(0);
        let child = command.spawn().ok()?;
        Some(Self { child })
    }

    /// Reads up to one byte more than is allowed, and says whether the command succeeded. It has ended when it
    /// exits: something that it leaves behind, such as an agent, may hold its output open for ever.
    async fn finish(&mut self, output: &mut Vec<u8>) -> io::Result<bool> {
        let stdout = self.child.stdout.take().expect("stdout is piped");
        let mut stdout = stdout.take(OUTPUT_LIMIT as u64 + 1);
        let mut read = std::pin::pin!(stdout.read_to_end(output));
        let status = select! {
            biased;
            count = &mut read => {
                if count? > OUTPUT_LIMIT {
                    return Ok(false);
                }
                self.child.wait().await?
            }
            status = self.child.wait() => {
                if let Ok(count) = time::timeout(LAST_OUTPUT, read).await {
                    count?;
                }
                status?
            }
        };
        Ok(status.success())
    }
}

#[cfg(unix)]
impl Drop for Running {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process_group};

        // Once it was waited for there is no id: the number may be somebody else's, and what the command left
        // behind is meant to live.
        let group = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = group.and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

const OUTPUT_LIMIT: usize = 64 << 10;
/// The byte that is too much, and tokio's reserve to find the end with.
const ROOM_TO_SEE_THE_END: usize = 64;
/// What was printed before the exit is there already, or about to be.
const LAST_OUTPUT: Duration = Duration::from_millis(100);

#[cfg(all(test, unix))]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn shell(script: &str, argument: &str) -> Vec<String> {
        ["sh", "-c", script, argument].map(str::to_owned).into()
    }

    #[tokio::test]
    async fn what_a_command_started_ends_with_it_when_it_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        )
        .unwrap();
        let arguments = shell(r#"sleep 600 > "$0" & wait"#, pipe.to_str().unwrap());
        let given_up = tokio::spawn(async move { run(&arguments).await.is_ok() });
        // Opens when the grandchild has opened its end, and ends when that is gone. Not a thread of the runtime,
        // which would be waited for.
        let (opened, is_open) = oneshot::channel();
        let (ended, end) = oneshot::channel();
        std::thread::spawn(move || {
            let mut pipe = std::fs::File::open(pipe).unwrap();
            opened.send(()).unwrap();
            let _ = ended.send(io::Read::read_to_end(&mut pipe, &mut Vec::new()).unwrap());
        });
        is_open.await.unwrap();
        given_up.abort();
        let end = time::timeout(Duration::from_secs(60), end).await;
        assert_eq!(end.expect("the grandchild is gone").unwrap(), 0);
    }

    #[tokio::test]
    async fn a_variable_that_holds_a_secret_is_not_inherited() {
        let arguments = shell(r#"echo "${CARGO_PKG_NAME-gone} $CARGO_MANIFEST_DIR""#, "sh");
        let inherited = run(&arguments).await.expect("it has succeeded");
        assert!(inherited.starts_with(b"token-source /"));
        crate::secret::withhold(["CARGO_PKG_NAME"]);
        let inherited = run(&arguments).await.expect("it has succeeded");
        assert!(inherited.starts_with(b"gone /"));
    }

    #[tokio::test]
    async fn what_stays_behind_with_the_output_open_is_not_waited_for() {
        let arguments = shell("sleep 600 & echo $!", "sh");
        let output = time::timeout(Duration::from_secs(60), run(&arguments)).await;
        let printed = output
            .expect("it ends with the command")
            .expect("it has succeeded");
        let id = std::str::from_utf8(&printed).unwrap().trim().parse();
        let left_behind = rustix::process::Pid::from_raw(id.unwrap()).unwrap();
        rustix::process::kill_process(left_behind, rustix::process::Signal::KILL)
            .expect("an agent that a command starts is left alone");
    }
}
