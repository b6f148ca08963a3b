//! Certificates that change, and those that end.

use std::time::Duration;

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
            std::fs::rename(scratch.path(&format!("next.{end}")), scratch.path(&format!("live.{end}")))
                .unwrap();
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
    std::fs::copy(folder.path("localhost.crt"), simple.scratch.path("localhost.crt")).unwrap();
    simple.proxy.process().logged("cannot be used; those before go on").await;
    assert!(shown(&simple.target(), &Tls::anybody()).await == old);
    // As soon as the key is there too, both are taken.
    std::fs::copy(folder.path("localhost.key"), simple.scratch.path("localhost.key")).unwrap();
    soon_eq!(shown(&simple.target(), &Tls::anybody()).await, new.der());
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
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    for (site, days) in [("soon.example", 13.5), ("late.example", 15.0), ("over.example", 0.0)] {
        let label = format!("site=\"{site}\"");
        let end = metrics.sum("bowshock_tls_certificate_expiry_timestamp_seconds", &[&label]);
        assert!((end - now - days * 86_400.0).abs() < 60.0, "{site}: {} days", (end - now) / 86_400.0);
    }
}
