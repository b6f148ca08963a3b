//! A program that is measured, and the end of it.

use std::{
    fs::{self, File},
    io,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long a program may take to start.
const SOON: Duration = Duration::from_secs(15);

/// How long a program may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(5);

/// A running program. Dropping it ends it; so does the end of this process.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Runs `command` with its output in `folder`. Call it from the main thread: the program is asked to end with the
    /// thread that started it.
    pub fn start(command: &Command, folder: &Path) -> io::Result<Self> {
        let log = folder.join("log");
        let output = File::create(&log)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(Self { child, log })
    }

    #[allow(dead_code, reason = "not every bench asks")]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits until it accepts connections.
    #[allow(dead_code, reason = "not every bench waits for that")]
    pub fn until_accepts(&mut self, address: SocketAddr) -> io::Result<()> {
        let deadline = Instant::now() + SOON;
        while TcpStream::connect(address).is_err() {
            if self.has_ended()? || Instant::now() > deadline {
                return Err(io::Error::other(format!("nobody accepts: {}", self.log())));
            }
            wait();
        }
        Ok(())
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let deadline = Instant::now() + GRACE;
        // nginx ends its own processes only when it is asked; who has ended already cannot be asked.
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed())
            && self.has_ended().is_ok_and(|ended| !ended)
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        while self.has_ended().is_ok_and(|ended| !ended) && Instant::now() < deadline {
            wait();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Neither that a program accepts nor that it has ended comes with an event.
#[expect(clippy::disallowed_methods, reason = "nothing is measured in that time")]
fn wait() {
    std::thread::sleep(Duration::from_millis(10));
}
