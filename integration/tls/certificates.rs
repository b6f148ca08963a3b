//! Certificates that change, and those that end.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{ADDRESS, listening, shown, simple, site};
use crate::fixtures::{Authority, Proxy, Scratch, Tls, ms, pass};

#[tokio::test]
async fn new_files_take_effect_by_themselves() {
    let simple = simple("", "").await;
    let target = simple.target();
    let mut connection = target.connect().await.unwrap();
    let new = simple.authority.server(&["localhost"]);
    new.write(&simple.scratch, "localhost");
    soon_eq!(shown(&target, &Tls::anybody()).await, new.der());
    let request = connection.get("/");
    connection.send(request).await.unwrap().expect(200);
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_followed() {
    // As certbot has it: the file of the configuration is a link, and a renewal changes where it leads.
    let (authority, scratch) = (Authority::new("authority"), Scratch::new());
    let (old, new) = (authority.server(&["localhost"]), authority.server(&["localhost"]));
    old.write(&scratch, "old");
    new.write(&scratch, "new");
    let link = |from: &str| {
        for end in ["crt", "key"] {
            scratch.link(&format!("next.{end}"), format!("{from}.{end}"));
            fs::rename(scratch.path(&format!("next.{end}")), scratch.path(&format!("live.{end}"))).unwrap();
        }
    };
    link("old");
    let tls = format!("cert = {:?}, key = {:?}", scratch.path("live.crt"), scratch.path("live.key"));
    let proxy = Proxy::toml(&listening(&site("localhost", &tls, ""))).start().await;
    let target = proxy.listener(ADDRESS);
    assert!(shown(&target, &Tls::anybody()).await == old.der());
    link("new");
    soon_eq!(shown(&target, &Tls::anybody()).await, new.der());
}

#[tokio::test]
async fn a_reload_takes_new_files_at_once() {
    let mut simple = simple("", "").await;
    let new = simple.authority.server(&["localhost"]);
    let tls = new.write(&simple.scratch, "localhost");
    simple.proxy.reload(Proxy::toml(&listening(&site("localhost", &tls, "")))).await;
    assert!(shown(&simple.target(), &Tls::anybody()).await == new.der());
}

#[tokio::test]
async fn files_that_cannot_be_used_change_nothing_and_are_told() {
    let mut simple = simple("", "").await;
    let old = simple.identity.der();
    // The certificate is new and its key is not there yet.
    let new = simple.authority.server(&["localhost"]);
    let folder = Scratch::new();
    new.write_to(folder.root(), "localhost");
    fs::copy(folder.path("localhost.crt"), simple.scratch.path("localhost.crt")).unwrap();
    simple.proxy.process().logged("cannot be used; keeping the previous certificate").await;
    assert!(shown(&simple.target(), &Tls::anybody()).await == old);
    // As soon as the key is there too, both are taken.
    fs::copy(folder.path("localhost.key"), simple.scratch.path("localhost.key")).unwrap();
    soon_eq!(shown(&simple.target(), &Tls::anybody()).await, new.der());
}

/// Writes over a file in its place; it has the size `size` and the time `modified` afterwards.
fn write_over(path: &Path, text: &str, size: usize, modified: SystemTime) {
    assert!(text.len() <= size);
    fs::write(path, format!("{text}{}", "\n".repeat(size - text.len()))).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

#[tokio::test]
async fn files_that_are_renewed_in_place_with_their_size_and_time_are_taken() {
    const SIZE: usize = 4096;
    let (authority, scratch, made) = (Authority::new("authority"), Scratch::new(), Scratch::new());
    let modified = SystemTime::now() - Duration::from_secs(1000);
    let write = || {
        let identity = authority.server(&["localhost"]);
        identity.write_to(made.root(), "localhost");
        for end in ["key", "crt"] {
            let name = format!("localhost.{end}");
            write_over(&scratch.path(&name), &fs::read_to_string(made.path(&name)).unwrap(), SIZE, modified);
        }
        identity.der()
    };
    let old = write();
    let tls =
        format!("cert = {:?}, key = {:?}", scratch.path("localhost.crt"), scratch.path("localhost.key"));
    let proxy = Proxy::toml(&listening(&site("localhost", &tls, ""))).start().await;
    let target = proxy.listener(ADDRESS);
    assert!(shown(&target, &Tls::anybody()).await == old);
    let new = write();
    soon_eq!(shown(&target, &Tls::anybody()).await, new);
}

#[tokio::test]
async fn a_key_that_cannot_be_read_keeps_no_other_certificate_out() {
    let (authority, scratch) = (Authority::new("authority"), Scratch::new());
    let names = ["one.example", "two.example"];
    let renew = |name: &str| {
        let identity = authority.server(&[name]);
        (identity.der(), identity.write(&scratch, name))
    };
    let sites: String = names.map(|name| site(name, &renew(name).1, "")).concat();
    let mut proxy = Proxy::toml(&listening(&sites)).start().await;
    let target = proxy.listener(ADDRESS);
    // The first site comes first whichever is in order. Its key goes before its certificate comes, so that
    // there is one thing to tell whenever the files are looked at.
    let (new, made) = (authority.server(&["one.example"]), Scratch::new());
    new.write_to(made.root(), "one.example");
    let [key, certificate] = ["one.example.key", "one.example.crt"].map(|name| scratch.path(name));
    fs::remove_file(&key).unwrap();
    fs::copy(made.path("one.example.crt"), scratch.path("coming")).unwrap();
    fs::rename(scratch.path("coming"), certificate).unwrap();
    let (good, _) = renew("two.example");
    soon_eq!(shown(&target, &Tls::asking("two.example", &authority)).await, good);
    proxy.process().logged("cannot be used; keeping the previous certificate").await;
    pass(ms(6_000)).await;
    let told = proxy.process().stderr();
    assert_eq!(
        told.lines()
            .filter(|line| line.contains("keeping the previous certificate") && line.contains("one.example"))
            .count(),
        1,
        "{told}"
    );
    // Nothing else changes when it is there again.
    fs::copy(made.path("one.example.key"), &key).unwrap();
    soon_eq!(shown(&target, &Tls::asking("one.example", &authority)).await, new.der());
}

#[tokio::test]
async fn authorities_of_clients_that_are_away_for_a_moment_are_taken_later() {
    let (authority, other, scratch) = (Authority::new("authority"), Authority::new("other"), Scratch::new());
    let ca = authority.write(&scratch, "clients");
    let identity = authority.server(&["localhost"]).write(&scratch, "localhost");
    let tls = format!("{identity}, client_ca = {ca:?}");
    let mut proxy = Proxy::toml(&listening(&site("localhost", &tls, ""))).start().await;
    let target = proxy.listener(ADDRESS);
    let client = other.client("client");
    let asks = async || {
        let tls = Tls::showing("localhost", &authority, &client);
        target.under(tls).get("/").send().await.is_ok_and(|answer| answer.status == 200)
    };
    assert!(!asks().await);
    fs::remove_file(&ca).unwrap();
    proxy.process().logged("cannot be used; keeping the previous certificate").await;
    other.write(&scratch, "clients");
    crate::fixtures::eventually("the other authority counts", asks).await;
}

#[tokio::test]
async fn what_is_not_read_of_a_file_is_an_error_with_its_line() {
    let simple = simple("", "").await;
    let chain = simple.scratch.path("localhost.crt");
    let leaf = fs::read_to_string(&chain).unwrap();
    let end = leaf.trim_end().lines().count();
    let ca = simple.authority.write(&simple.scratch, "authority");
    let authority = fs::read_to_string(&ca).unwrap();
    let tls = format!("cert = {chain:?}, key = {:?}", simple.scratch.path("localhost.key"));
    let upstream = format!(
        "[upstream.app]\nservers = [\"127.0.0.1:1\"]\nprotocol = \"https\"\ntls = {{ ca = {ca:?} }}\n"
    );
    let routes = "[[site]]\nhost = \"up\"\nroutes = { \"/\" = { proxy = \"app\" } }\n";
    let client_ca = format!("{tls}, client_ca = {ca:?}");
    let plain = listening(&site("localhost", &tls, ""));
    let with_clients = listening(&site("localhost", &client_ca, ""));
    let with_upstream = format!("{plain}{routes}{upstream}");
    for (file, text, configuration, line) in [
        (&chain, format!("{}{authority}", leaf.trim_end()), &plain, end),
        (&chain, format!("{leaf}{}", authority.replace("-----BEGIN", "----BEGIN")), &plain, end + 1),
        (&chain, format!("{leaf}and more\n"), &plain, end + 1),
        (&ca, format!("{authority}{authority}x\n"), &with_clients, 2 * authority.lines().count() + 1),
        (
            &ca,
            format!("{}{authority}", authority.trim_end()),
            &with_upstream,
            authority.trim_end().lines().count(),
        ),
    ] {
        let good = fs::read_to_string(file).unwrap();
        fs::write(file, text).unwrap();
        simple.proxy.rewrite(&Proxy::toml(configuration));
        let (code, out, error) = simple.proxy.ctl("check");
        assert!(
            code == Some(1) && error.contains(&format!("line {line}: ")),
            "{line} {configuration}: {out}{error}"
        );
        let (code, out, error) = simple.proxy.ctl("reload");
        assert!(code != Some(0) && error.contains(&format!("line {line}: ")), "{line}: {out}{error}");
        fs::write(file, good).unwrap();
    }
    assert!(shown(&simple.target(), &Tls::anybody()).await == simple.identity.der());
}

#[tokio::test]
async fn the_end_of_a_certificate_is_measured_and_warned_of() {
    let (authority, scratch) = (Authority::new("authority"), Scratch::new());
    let day = Duration::from_secs(24 * 3600);
    let soon = authority.server_for(&["soon.example"], 13 * day + day / 2).write(&scratch, "soon");
    let late = authority.server_for(&["late.example"], 15 * day).write(&scratch, "late");
    let over = authority.server_for(&["over.example"], ms(0)).write(&scratch, "over");
    let sites =
        [site("soon.example", &soon, ""), site("late.example", &late, ""), site("over.example", &over, "")];
    pass(ms(1100)).await;
    let mut proxy = Proxy::toml(&listening(&sites.concat())).start().await;
    let process = proxy.process();
    process.logged("expires in 13 days").await;
    process.logged("has expired").await;
    let told = process.stderr();
    assert!(told.lines().any(|line| line.contains("soon.example") && line.contains("13 days")), "{told}");
    assert!(!told.lines().any(|line| line.contains("late.example")), "{told}");
    let metrics = proxy.metrics().await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    for (site, days) in [("soon.example", 13.5), ("late.example", 15.0), ("over.example", 0.0)] {
        let label = format!("site=\"{site}\"");
        let end = metrics.sum("bowshock_tls_certificate_expiry_timestamp_seconds", &[&label]);
        assert!((end - now - days * 86_400.0).abs() < 60.0, "{site}: {} days", (end - now) / 86_400.0);
    }
}
