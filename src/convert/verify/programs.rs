//! The two programs of the replay: nginx with the original, bowshock with the result.

use std::{
    fs::{self, File},
    io,
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    super::syntax::Directive,
    VerifyError,
    stage::{made, print},
};

/// Most directives that are left out as unknown to the installed nginx.
const MOST_UNKNOWN: usize = 50;

/// Time for a program to accept connections.
const START: Duration = Duration::from_secs(20);

/// A running program, which ends with the value.
#[derive(Debug)]
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts nginx, and tells which directives it does not know.
pub fn start_nginx(
    folder: &Path,
    tree: &[Directive],
    port: u16,
) -> Result<(Running, Vec<String>), VerifyError> {
    let mut tree = without_uploads(tree);
    let mut unknown = Vec::new();
    let file = folder.join("nginx.conf");
    loop {
        fs::write(&file, text(folder, &tree))?;
        let mut test = Command::new("nginx");
        test.arg("-t").arg("-p").arg(folder).arg("-c").arg(&file);
        let output = match test.output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(VerifyError::NoNginx),
            output => output?,
        };
        if output.status.success() {
            break;
        }
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let name = log.split("unknown directive \"").nth(1).and_then(|rest| rest.split('"').next());
        match name {
            Some(name) if unknown.len() < MOST_UNKNOWN => {
                tree = without(&tree, name);
                unknown.push(name.to_owned());
            }
            _ => return Err(VerifyError::Nginx(log)),
        }
    }
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(&file).arg("-g").arg("daemon off;");
    let running = start(command, folder, "nginx")?;
    accepts(port).map_err(|()| VerifyError::Nginx(log_of(folder, "nginx")))?;
    Ok((running, unknown))
}

/// Starts bowshock.
pub fn start_bowshock(program: &Path, folder: &Path, toml: &str, port: u16) -> Result<Running, VerifyError> {
    let file = folder.join("bowshock.toml");
    fs::write(&file, toml)?;
    let mut check = Command::new(program);
    let output = check.arg("check").arg("-c").arg(&file).output()?;
    if !output.status.success() {
        return Err(VerifyError::Refused(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let mut command = Command::new(program);
    command.arg("run").arg("-c").arg(&file);
    let running = start(command, folder, "bowshock")?;
    accepts(port).map_err(|()| VerifyError::Refused(log_of(folder, "bowshock")))?;
    Ok(running)
}

fn start(mut command: Command, folder: &Path, name: &str) -> io::Result<Running> {
    let log = File::create(folder.join(format!("{name}.log")))?;
    let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
    Ok(Running(child))
}

fn log_of(folder: &Path, name: &str) -> String {
    let log = fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
    format!("it does not accept connections:\n{log}")
}

/// Waits until a port accepts.
#[expect(clippy::disallowed_methods, reason = "no event loop runs in this command")]
fn accepts(port: u16) -> Result<(), ()> {
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if start.elapsed() > START {
            return Err(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn text(folder: &Path, tree: &[Directive]) -> String {
    let place = folder.display();
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let mut text = format!(
        "{user}pid {place}/nginx.pid;\nmaster_process off;\nerror_log {place}/error.log;\nevents {{ worker_connections 512; }}\n"
    );
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let mut tree = tree.to_vec();
    if let Some(block) = tree.first_mut().and_then(|http| http.block.as_mut()) {
        let paths =
            temporary.iter().map(|name| made(&format!("{name}_temp_path"), &[&format!("{place}/{name}")]));
        block.splice(0..0, paths.chain([made("access_log", &["off"])]));
    }
    print(&tree, 0, &mut text);
    text
}

/// The tree without directives of a name.
fn without(tree: &[Directive], name: &str) -> Vec<Directive> {
    let kept = tree.iter().filter(|directive| directive.name != name);
    kept.map(|directive| Directive {
        block: directive.block.as_deref().map(|block| without(block, name)),
        ..directive.clone()
    })
    .collect()
}

/// `upload_pass` as the internal redirect that it ends with: few packages of nginx have the module.
fn without_uploads(tree: &[Directive]) -> Vec<Directive> {
    let mut result = Vec::new();
    for directive in tree {
        let block = directive.block.as_deref().map(without_uploads);
        match directive.name.as_str() {
            "upload_pass" => result.push(made("rewrite", &["^", directive.first(), "last"])),
            name if name.starts_with("upload_") => {}
            _ => result.push(Directive { block, ..directive.clone() }),
        }
    }
    result
}
