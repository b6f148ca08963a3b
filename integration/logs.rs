//! Logs, signals and what else belongs to running it: nobody who does not read, and no full disk, holds anything up.

use std::{
    io::Read,
    os::unix::fs::OpenOptionsExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    fs::OFlags,
    process::{Pid, Signal, kill_process},
};

use crate::fixtures::{
    Answer, Backend, Proxy, SOON, Scratch, SmallDisk, Target, answers, eventually, free_port, ms, outcome,
    within,
};

const HERE: &str = "[[site]]\nroutes = { \"/\" = { answer = 200, body = \"x\" } }\n";

/// A proxy whose output is that of a test, ended with it.
struct Bare {
    child: Child,
    site: Target,
    admin: Target,
}

impl Bare {
    /// Starts one of a configuration without listeners.
    async fn start(scratch: &Scratch, text: &str, change: impl FnOnce(&mut Command)) -> Self {
        let (site, admin) = (free_port(), free_port());
        let text = format!(
            "[[listen]]\naddress = \"127.0.0.1:{site}\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n{text}"
        );
        let file = scratch.write("bare.toml", text);
        let mut command = Proxy::command(["run", "-c", file.to_str().unwrap()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        change(&mut command);
        let child = command.spawn().unwrap();
        let (site, admin) =
            (Target::parse(&format!("127.0.0.1:{site}")), Target::parse(&format!("127.0.0.1:{admin}")));
        eventually("it accepts", async || site.accepts().await && admin.accepts().await).await;
        Self { child, site, admin }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().cast_signed()).unwrap(), signal).unwrap();
    }

    async fn ended(&mut self) {
        let mut ended = async || self.child.try_wait().unwrap().is_some();
        within(SOON, "the end", async {
            while !ended().await {
                tokio::time::sleep(ms(10)).await;
            }
        })
        .await;
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn messages_that_nobody_reads_hold_nothing_up() {
    let app = Backend::answering(|_| {
        let nowhere = "x".repeat(3_000);
        format!("HTTP/1.1 200 OK\r\nX-Accel-Redirect: /nowhere/{nowhere}\r\nContent-Length: 0\r\n\r\n").into()
    })
    .await;
    let scratch = Scratch::new();
    let text = format!(
        "[[site]]\n[site.routes]\n\"/\" = {{ proxy = \"app\" }}\n\"= /here\" = {{ answer = 200 }}\n\
         \"/nowhere\" = {{ answer = 200 }}\n[upstream.app]\nservers = [\"{}\"]\n",
        app.address()
    );
    let mut proxy = Bare::start(&scratch, &text, |command| {
        command.stderr(Stdio::piped());
    })
    .await;
    // Each is told, in more than there is room for in a pipe and in the queue.
    for _ in 0..20 {
        let asked: Vec<_> = (0..50).map(|_| proxy.site.get("/told").spawn()).collect();
        for asked in asked {
            outcome(asked).await.expect(404);
        }
    }
    within(SOON, "an answer", proxy.site.get("/here").send()).await.unwrap().expect(200);
    let reload = proxy.admin.request("POST", "/reload").header("x-bowshock", "1").send();
    within(SOON, "a reload", reload).await.unwrap().expect(200);
    let metrics =
        within(SOON, "metrics", proxy.admin.get("/metrics").send()).await.unwrap().expect(200).text();
    let dropped = metrics.lines().find(|line| line.starts_with("bowshock_log_dropped_total "));
    assert!(dropped.is_some_and(|line| !line.ends_with(" 0")), "{dropped:?}");
    proxy.signal(Signal::TERM);
    proxy.ended().await;
}

#[tokio::test]
async fn an_access_log_on_a_full_disk_is_told_once() {
    let disk = SmallDisk::mount(256 * 1024);
    let (log, filler) = (disk.root().join("access.log"), disk.root().join("filler"));
    let fill = || {
        while std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&filler)
            .and_then(|mut file| std::io::Write::write_all(&mut file, &[7; 1024]))
            .is_ok()
        {}
    };
    let mut proxy = Proxy::toml(&format!("[log]\naccess = {log:?}\n{HERE}")).start().await;
    fill();
    for _ in 0..20 {
        answers((0..100).map(|_| proxy.get("/full").spawn())).await;
        crate::fixtures::pass(ms(20)).await;
    }
    let dropped = async || proxy.metrics().await.sum("bowshock_access_log_dropped_total", &[]);
    eventually("lines are lost", async || dropped().await > 1_000.0).await;
    let told = |log: &str| log.lines().filter(|line| line.contains("access log")).count();
    proxy.process().logged("cannot write the access log").await;
    assert_eq!(told(&proxy.process().stderr()), 1, "{}", proxy.process().stderr());
    std::fs::remove_file(&filler).unwrap();
    eventually("it is written again", async || {
        proxy.get("/again").await.expect(200);
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("/again"))
    })
    .await;
    proxy.process().logged("the access log is written again").await;
    assert_eq!(told(&proxy.process().stderr()), 2, "{}", proxy.process().stderr());
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.lines().all(|line| line.starts_with("127.0.0.1 - - [") && line.ends_with('"')), "{text}");
}

#[tokio::test]
async fn a_log_that_was_moved_away_is_opened_anew() {
    let scratch = Scratch::new();
    let log = scratch.path("access.log");
    let mut proxy = Proxy::toml(&format!("[log]\naccess = {log:?}\n{HERE}")).start().await;
    for (number, how) in ["reload", "SIGHUP", "SIGUSR1"].into_iter().enumerate() {
        let moved = scratch.path(&format!("access.log.{number}"));
        std::fs::rename(&log, &moved).unwrap();
        match how {
            "reload" => drop(proxy.succeed("reload")),
            "SIGHUP" => proxy.signal(Signal::HUP),
            _ => proxy.signal(Signal::USR1),
        }
        eventually(&format!("there is a new one after {how}"), async || log.exists()).await;
        proxy.get(&format!("/after-{how}")).await.expect(200);
        eventually("the line is in it", async || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains(how))
        })
        .await;
    }
    assert!(proxy.process().running());
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_yet_holds_nothing_up() {
    let scratch = Scratch::new();
    let pipe = scratch.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let text = format!("[log]\naccess = {pipe:?}\n{HERE}");
    let mut from_the_start = Proxy::toml(&text).start().await;
    let mut reloaded = Proxy::toml(HERE).start().await;
    reloaded.rewrite(&Proxy::toml(&text));
    reloaded.succeed("reload");
    for proxy in [&mut from_the_start, &mut reloaded] {
        proxy.get("/before-the-reader").await.expect(200);
        let reader = std::fs::File::options()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&pipe)
            .unwrap();
        eventually("the line is there", async || {
            let mut text = [0; 4096];
            (&reader).read(&mut text).is_ok_and(|read| text[..read].starts_with(b"127.0.0.1 - - ["))
        })
        .await;
        proxy.signal(Signal::TERM);
        proxy.process().exited(SOON).await;
    }
}

#[tokio::test]
async fn what_is_not_ascii_is_in_the_log() {
    for (format, expected) in [("combined", "\"F\\xC3\\xBAtbol/1.0\""), ("json", "\"F\u{fa}tbol/1.0\"")] {
        let scratch = Scratch::new();
        let log = scratch.path("access.log");
        let text = format!("[log]\naccess = {{ to = {log:?}, format = {format:?} }}\n{HERE}");
        let proxy = Proxy::toml(&text).start().await;
        let mut wire = proxy.wire().await;
        wire.send("GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: F\u{fa}tbol/1.0\r\n\r\n").await;
        eventually("it is told", async || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains(expected))
        })
        .await;
    }
}

#[tokio::test]
async fn a_reload_tells_what_takes_effect_after_a_restart() {
    let scratch = Scratch::new();
    let mut proxy = Proxy::toml(HERE).start().await;
    assert!(!proxy.succeed("reload").contains("restart"));
    let changed = format!("[log]\nformat = \"json\"\n{HERE}");
    proxy.rewrite(
        &Proxy::toml(&changed).server(&format!("max_connections = 17\npid_file = {:?}", scratch.path("pid"))),
    );
    // Each time: it has not taken effect by being told.
    for _ in 0..2 {
        let told = proxy.succeed("reload");
        for setting in ["server.pid_file", "server.max_connections", "log.format"] {
            assert!(told.contains(&format!("`{setting}` takes effect after a restart")), "{setting}: {told}");
        }
        assert!(!told.contains("server.threads"), "{told}");
    }
    proxy.process().logged("the new `server.max_connections` takes effect after a restart").await;
}

#[tokio::test]
async fn no_signal_but_those_to_stop_ends_it() {
    let mut proxy = Proxy::toml(HERE).start().await;
    for signal in [
        Signal::USR2,
        Signal::ALARM,
        Signal::WINCH,
        Signal::IO,
        Signal::TTIN,
        Signal::TTOU,
        Signal::VTALARM,
        Signal::PROF,
        Signal::XCPU,
        Signal::XFSZ,
        Signal::POWER,
        Signal::PIPE,
        Signal::URG,
        Signal::CHILD,
        Signal::CONT,
    ] {
        proxy.signal(signal);
        proxy.get("/").await.expect(200);
    }
    for real_time in ["-34", "-64"] {
        let pid = proxy.process().pid().to_string();
        assert!(Command::new("kill").args([real_time, &pid]).status().unwrap().success());
        proxy.get("/").await.expect(200);
    }
    proxy.process().logged("SIGUSR2 is ignored").await;
    proxy.signal(Signal::TERM);
    assert!(proxy.process().exited(SOON).await.success());
}

#[tokio::test]
async fn the_file_with_another_process_in_it_stays() {
    let scratch = Scratch::new();
    let file = scratch.path("pid");
    for (is_ours, stays) in [(true, false), (false, true)] {
        let mut proxy = Proxy::toml(HERE).server(&format!("pid_file = {file:?}")).start().await;
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), proxy.process().pid().to_string());
        if !is_ours {
            std::fs::write(&file, "1\n").unwrap();
        }
        proxy.signal(Signal::TERM);
        assert!(proxy.process().exited(SOON).await.success());
        assert_eq!(file.exists(), stays);
    }
}

#[tokio::test]
async fn a_service_manager_may_have_a_name_in_no_file_system() {
    use std::os::{linux::net::SocketAddrExt as _, unix::net};
    let name = format!("bowshock-{}-{}", std::process::id(), free_port());
    let socket = net::UnixDatagram::bind_addr(&net::SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let scratch = Scratch::new();
    let _proxy = Bare::start(&scratch, HERE, |command| {
        command.env("NOTIFY_SOCKET", format!("@{name}"));
    })
    .await;
    let mut message = [0; 200];
    let length = socket.recv(&mut message).unwrap();
    assert!(message[..length].starts_with(b"READY=1\n"));
}

#[tokio::test]
async fn a_service_manager_that_is_not_there_is_a_warning() {
    let scratch = Scratch::new();
    let log = std::fs::File::create(scratch.path("log")).unwrap();
    let proxy = Bare::start(&scratch, HERE, |command| {
        command.env("NOTIFY_SOCKET", "/nowhere/at/all").stderr(log);
    })
    .await;
    let answer: Answer = proxy.site.get("/").send().await.unwrap();
    answer.expect(200);
    eventually("a warning", async || {
        let log = std::fs::read_to_string(scratch.path("log")).unwrap();
        log.lines().any(|line| line.contains("WARN") && line.contains("NOTIFY_SOCKET"))
    })
    .await;
}

#[tokio::test]
async fn both_families_may_be_listened_on_with_one_port() {
    let (port, scratch) = (free_port(), Scratch::new());
    let text = format!(
        "[[listen]]\naddress = \"0.0.0.0:{port}\"\n[[listen]]\naddress = \"[::]:{port}\"\n\
         [admin]\nlisten = {:?}\n{HERE}",
        format!("unix:{}", scratch.path("admin.sock").display())
    );
    let file = scratch.write("pair.toml", text);
    let file = file.to_str().unwrap();
    let (code, _, error) = crate::fixtures::run(&mut Proxy::command(["check", "-c", file]));
    assert_eq!(code, Some(0), "{error}");
    let mut child =
        Proxy::command(["run", "-c", file]).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for host in ["127.0.0.1", "[::1]"] {
        let target = Target::parse(&format!("{host}:{port}"));
        eventually("it accepts", async || target.accepts().await).await;
        target.get("/").send().await.unwrap().expect(200);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
