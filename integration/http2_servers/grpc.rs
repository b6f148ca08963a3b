//! Calls of gRPC: grpcio on both sides, TLS before the proxy and none behind it.

use std::{path::Path, process::Command};

use rustix::process::Signal;

use crate::fixtures::{Authority, Process, Proxy, SOON, Scratch, eventually, vacant, venv};

fn python(arguments: &[&str]) -> Command {
    let mut command = Command::new(venv().join("bin/python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/grpc_app.py")).args(arguments);
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("GRPC_VERBOSITY", "ERROR");
    command
}

async fn server(scratch: &Scratch, address: &str) -> Process {
    let mut process = Process::start("grpc", &python(&["serve", address]), scratch.root());
    eventually("it serves", async || {
        assert!(process.running(), "{}", process.stderr());
        process.stdout().contains("serving")
    })
    .await;
    process
}

/// A proxy under TLS before a server.
async fn before(server: &str, scratch: &Scratch) -> Proxy {
    let authority = Authority::new("of a test");
    authority.write(scratch, "authority");
    let tls = authority.server(&["localhost"]).write(scratch, "localhost");
    Proxy::to([server]).with("protocol = \"h2c\"").listener(&format!("tls = {{ {tls} }}")).start().await
}

/// A call by a client that trusts the proxy's certificate.
fn call(proxy: &Proxy, scratch: &Scratch, word: &str) -> Process {
    let certificate = scratch.path("authority.pem").display().to_string();
    Process::start(word, &python(&[word, &proxy.address(), &certificate]), scratch.root())
}

async fn succeeds(mut client: Process) -> String {
    let status = client.exited(4 * SOON).await;
    assert!(status.success(), "{}\n{}", client.stdout(), client.stderr());
    client.stdout()
}

#[tokio::test]
async fn calls_pass_with_their_metadata_and_errors() {
    let (scratch, address) = (Scratch::new(), vacant());
    let _server = server(&scratch, &address).await;
    let proxy = before(&address, &scratch).await;
    assert_eq!(succeeds(call(&proxy, &scratch, "call")).await, "all calls were answered\n");
    soon_eq!(proxy.inflight().await, [0]);
}

#[tokio::test]
async fn calls_are_held_while_their_server_restarts() {
    let (scratch, address) = (Scratch::new(), vacant());
    let mut first = server(&scratch, &address).await;
    let proxy = before(&address, &scratch).await;
    assert_eq!(succeeds(call(&proxy, &scratch, "unary")).await, "b'held'\n");
    first.signal(Signal::TERM);
    first.exited(SOON).await;
    let held = call(&proxy, &scratch, "unary");
    eventually("it waits", async || proxy.waiting().await == 1).await;
    let _second = server(&Scratch::new(), &address).await;
    assert_eq!(succeeds(held).await, "b'held'\nb'held'\n", "the second beside the first");
}
