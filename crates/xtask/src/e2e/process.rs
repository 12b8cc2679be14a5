//! Other programs: found, run for a limited time, and never left behind.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often is looked whether something has happened.
const TICK: Duration = Duration::from_millis(20);

/// How long one answer of the policy-server may take.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);

/// The program that the variable names, else the one on PATH; none if there is none. A variable that names nothing is an error.
pub(crate) fn find(variable: &str, name: &str) -> Result<Option<PathBuf>> {
    if let Some(named) = std::env::var_os(variable).filter(|value| !value.is_empty()) {
        let named = fs::canonicalize(&named)
            .with_context(|| format!("{variable} names {}, which cannot be read", named.display()))?;
        return Ok(Some(named));
    }
    Ok(on_path(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()), name))
}

fn on_path(folders: impl Iterator<Item = PathBuf>, name: &str) -> Option<PathBuf> {
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    // Absolute, because the programs are started in another folder.
    folders.filter_map(|folder| fs::canonicalize(folder.join(&file)).ok()).find(|path| path.is_file())
}

/// What the program calls itself.
pub(crate) fn version(program: &Path, folder: &Path) -> Result<String> {
    let mut command = Command::new(program);
    command.arg("--version");
    let answer = output(command, folder, ANSWER_LIMIT)?;
    match answer.stdout.lines().next() {
        Some(line) if answer.success => Ok(line.to_owned()),
        _ => bail!("{} does not tell its version: {}", program.display(), answer.stderr),
    }
}

/// What a program left.
pub(crate) struct Output {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the command to its end, at most for `limit`; what it says goes through files in `folder`.
pub(crate) fn output(mut command: Command, folder: &Path, limit: Duration) -> Result<Output> {
    // Files, not pipes: a program that says much must not wait for somebody to read it.
    let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
    command.stdin(Stdio::null()).stdout(create(&stdout)?).stderr(create(&stderr)?);
    let status = Running::spawn(command)?.wait(limit)?;
    let text = |file: &Path| -> Result<String> { Ok(String::from_utf8_lossy(&fs::read(file)?).into_owned()) };
    Ok(Output { success: status.success(), stdout: text(&stdout)?, stderr: text(&stderr)? })
}

fn create(file: &Path) -> Result<File> {
    File::create(file).with_context(|| format!("cannot write {}", file.display()))
}

/// A program that ends when this is dropped, if it has not before.
pub(crate) struct Running {
    child: Child,
    name: String,
    log: Option<PathBuf>,
}

impl Running {
    fn spawn(mut command: Command) -> Result<Self> {
        let name = command.get_program().display().to_string();
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name, log: None })
    }

    /// Starts a program that goes on, with all it says in the file `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let file = create(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut running = Self::spawn(command)?;
        running.log = Some(log.to_owned());
        Ok(running)
    }

    fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("{} did not end in {} s", self.name, limit.as_secs());
            }
            thread::sleep(TICK);
        }
    }

    /// Waits until the readiness probe on the port answers 200.
    pub(crate) fn wait_until_ready(&mut self, port: u16, limit: Duration) -> Result<()> {
        self.wait_until(port, "/readiness", limit)
    }

    /// Waits until the port answers 200 to a GET of the path.
    pub(crate) fn wait_until(&mut self, port: u16, path: &str, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            self.expect_alive()?;
            // An error is the answer of a program that does not listen yet.
            if exchange(port, "GET", path, "").is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            if start.elapsed() > limit {
                bail!("{} was not ready in {} s:\n{}", self.name, limit.as_secs(), self.said());
            }
            thread::sleep(TICK);
        }
    }

    /// Fails when the program has ended.
    pub(crate) fn expect_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.said()),
        }
    }

    fn said(&self) -> String {
        self.log.as_ref().and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Two ports that are free now.
pub(crate) fn free_ports() -> Result<(u16, u16)> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback");
    let (one, other) = (listen()?, listen()?);
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}

/// Sends JSON to loopback; gives the status and the body.
pub(crate) fn post(port: u16, path: &str, body: &str) -> Result<(u16, String)> {
    exchange(port, "POST", path, body)
}

/// One request of HTTP/1.0: the answer is neither cut into chunks nor followed by another, so that no library is needed.
fn exchange(port: u16, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("cannot connect")?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("no whole answer")?;
    parse(&String::from_utf8_lossy(&answer))
}

/// Status and body of an answer.
fn parse(answer: &str) -> Result<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n").context("no whole answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("no HTTP: {head}"))?, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_the_folders_in_turn() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, full) = (folder.path().join("empty"), folder.path().join("full"));
        fs::create_dir_all(&empty).unwrap();
        fs::create_dir_all(full.join("sub")).unwrap();
        let file = full.join(format!("tool{}", std::env::consts::EXE_SUFFIX));
        fs::write(&file, "").unwrap();
        let folders = || [empty.clone(), full.clone()].into_iter();
        assert_eq!(on_path(folders(), "tool"), Some(fs::canonicalize(&file).unwrap()));
        assert_eq!(on_path(folders(), "sub"), None);
        assert_eq!(on_path(folders(), "none"), None);
    }

    #[test]
    fn a_status_and_a_body_are_read() {
        assert_eq!(parse("HTTP/1.0 422 Unprocessable\r\nA: b\r\n\r\n{}").unwrap(), (422, "{}".to_owned()));
        assert!(parse("HTTP/1.0 200 OK\r\n").is_err());
        assert!(parse("SSH-2.0-x\r\n\r\n").is_err());
    }

    #[test]
    #[cfg(unix)]
    fn what_takes_too_long_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        let start = Instant::now();
        let error = output(command, folder.path(), Duration::from_millis(100)).err().unwrap().to_string();
        assert!(error.contains("did not end"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    #[cfg(unix)]
    fn what_a_program_says_is_kept_apart() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo answer; echo hint >&2; exit 1"]);
        let said = output(command, folder.path(), ANSWER_LIMIT).unwrap();
        assert_eq!((said.success, said.stdout.as_str(), said.stderr.as_str()), (false, "answer\n", "hint\n"));
    }

    #[test]
    #[cfg(unix)]
    fn a_server_that_ends_is_told_with_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no policy; exit 3"]);
        let mut running = Running::start(command, &folder.path().join("log")).unwrap();
        let (port, _) = free_ports().unwrap();
        let error = running.wait_until_ready(port, Duration::from_secs(30)).unwrap_err().to_string();
        assert!(error.contains("no policy"), "{error}");
    }
}
