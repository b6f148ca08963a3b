//! Certificates that a CA gives: a real one (Let's Encrypt's pebble) that really looks at the proxy over loopback.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use crate::fixtures::{
    AcmeCa, Backend, Gatekeeper, Proxy, SOON, Scratch, Shown, eventually, handshake, ms, pass, run, shown,
};

const ONE: &str = "one.bowshock.test";
const TWO: &str = "two.bowshock.test";

/// What pebble writes when it looks for a token.
const BY_HTTP: &str = "Attempting to validate w/ HTTP";

/// A site with these names whose certificate the CA gives.
fn site(names: &[&str]) -> String {
    format!(
        "[[site]]\nhost = {names:?}\ntls = {{ acme = \"admin@bowshock.test\" }}\n\
         routes = {{ \"/\" = {{ answer = 200, body = \"here\" }} }}\n"
    )
}

fn stands_in(shown: &Shown) -> bool {
    shown.issuer.contains("bowshock placeholder certificate")
}

fn by_pebble(shown: &Shown) -> bool {
    shown.issuer.contains("Pebble")
}

/// Waits for a certificate of the CA that is another than this.
async fn another(port: u16, name: &str, before: Option<&Shown>) -> Shown {
    let mut now = None;
    eventually(&format!("{name} has a new certificate of the CA"), async || {
        let shown = shown(port, name).await;
        let good = by_pebble(&shown) && before != Some(&shown);
        now = good.then_some(shown);
        good
    })
    .await;
    now.expect("it is there")
}

async fn orders(proxy: &Proxy, result: &str) -> f64 {
    proxy.metrics().await.sum("bowshock_acme_orders_total", &[&format!("result={result:?}")])
}

#[tokio::test]
async fn a_first_certificate_by_http_01() {
    let authority = AcmeCa::new().await.names(&[ONE, TWO]);
    let pebble = authority.start().await;
    let text = authority.toml().replace("[acme]\n", "[acme]\nchallenges = [\"http-01\"]\n");
    // Everybody is led to HTTPS, and refused by address: the CA is not.
    let closed = site(&[ONE, TWO]).replace("tls =", "redirect_https = true\ndeny = [\"0.0.0.0/0\"]\ntls =");
    let proxy = Proxy::toml(&(text + &closed)).start().await;
    let shown = another(authority.https, ONE, None).await;
    assert!(shown.names.iter().any(|name| name.contains(ONE)), "{shown:?}");
    assert!(shown.names.iter().any(|name| name.contains(TWO)), "one certificate for all names: {shown:?}");
    assert!(pebble.log().contains(BY_HTTP));
    soon_eq!(orders(&proxy, "success").await, 1.0);
    let metrics = proxy.metrics().await;
    let ends = metrics.sum("bowshock_tls_certificate_expiry_timestamp_seconds", &[&format!("site={ONE:?}")]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((ends - now - 90.0 * 24.0 * 3600.0).abs() < 600.0, "it ends at {ends}");

    assert_eq!(authority.stored(), ["account-admin@bowshock.test.json".to_owned(), format!("{ONE}.pem")]);
    for entry in fs::read_dir(authority.store()).unwrap() {
        let folder = entry.unwrap();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        for file in fs::read_dir(folder.path()).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
    // Nothing is shown any more, and who asks is led on as everybody.
    let target = crate::fixtures::Target::parse(&format!("127.0.0.1:{}", authority.http));
    let asked = target.get("/.well-known/acme-challenge/abc").header("host", ONE).await;
    assert_eq!(asked.status, 301);
}

#[tokio::test]
async fn a_first_certificate_by_tls_alpn_01() {
    let authority = AcmeCa::new().await.names(&[ONE]);
    let pebble = authority.start().await;
    let text = authority.toml().replace("[acme]\n", "[acme]\nchallenges = [\"tls-alpn-01\"]\n");
    let _proxy = Proxy::toml(&(text + &site(&[ONE]))).start().await;
    another(authority.https, ONE, None).await;
    assert!(pebble.log().contains("VALID by completed challenge") && !pebble.log().contains(BY_HTTP));
    assert_eq!(handshake::get(authority.https, ONE, "/").await.unwrap().expect(200).text(), "here");
}

#[tokio::test]
async fn the_other_challenge_when_the_first_fails() {
    let authority = AcmeCa::new().await.names(&[ONE]);
    let _pebble = authority.start().await;
    // Nothing listens without TLS where the CA looks, and HTTP comes first by default.
    let text = authority.toml().replace(&format!("127.0.0.1:{}", authority.http), "127.0.0.1:0");
    let proxy = Proxy::toml(&(text + &site(&[ONE]))).start().await;
    another(authority.https, ONE, None).await;
    soon_eq!(orders(&proxy, "success").await, 1.0);
    assert_eq!(orders(&proxy, "failure").await, 0.0);
}

#[tokio::test]
async fn a_restart_uses_what_is_stored() {
    let authority = AcmeCa::new().await.names(&[ONE]);
    let pebble = authority.start().await;
    let text = authority.toml() + &site(&[ONE]);
    let proxy = Proxy::toml(&text).start().await;
    let first = another(authority.https, ONE, None).await;
    drop(proxy);
    // The CA is not needed.
    drop(pebble);
    let proxy = Proxy::toml(&text).start().await;
    assert_eq!(shown(authority.https, ONE).await, first, "at once");
    pass(ms(1500)).await;
    assert!(!proxy.metrics().await.has("bowshock_acme_orders_total"), "nothing is ordered");
    assert_eq!(shown(authority.https, ONE).await, first);
}

#[tokio::test]
async fn renewed_ahead_under_load_without_a_failed_request() {
    let authority = AcmeCa::new().await.names(&[ONE]).validity(15);
    let _pebble = authority.start().await;
    let backend = Backend::saying("counted").await;
    let text = authority.toml()
        + &site(&[ONE]).replace("answer = 200, body = \"here\"", "proxy = \"app\"")
        + &format!("[upstream.app]\nservers = [{:?}]\n", backend.address());
    let proxy = Proxy::toml(&text).start().await;
    let first = another(authority.https, ONE, None).await;
    // A connection that is there all the time.
    let (mut kept, _) = handshake::handshake(authority.https, ONE).await.unwrap();
    let mut counted = 0;
    let mut serials = vec![first.serial];
    let began = std::time::Instant::now();
    while serials.len() < 3 {
        assert!(began.elapsed() < SOON * 4, "only {serials:?}");
        let request = format!("GET /count HTTP/1.1\r\nhost: {ONE}\r\n\r\n");
        kept.send(&request).await;
        assert_eq!(kept.answer().await.expect("not closed").status, 200);
        let (mut wire, shown) = handshake::handshake(authority.https, ONE).await.expect("a handshake");
        assert!(by_pebble(&shown));
        wire.send(&request).await;
        assert_eq!(wire.answer().await.expect("an answer").status, 200);
        counted += 2;
        if serials.last() != Some(&shown.serial) {
            serials.push(shown.serial);
        }
        pass(ms(5)).await;
    }
    assert!(counted > 200, "there was a load: {counted}");
    // Ten seconds each: two thirds of fifteen.
    let took = began.elapsed();
    assert!(took > Duration::from_secs(17), "{took:?}");
    assert_eq!(orders(&proxy, "failure").await, 0.0);
}

#[tokio::test]
async fn a_ca_that_is_down_at_the_start() {
    let authority = AcmeCa::new().await.names(&[ONE]);
    let scratch = Scratch::new();
    // A site with its own certificate stands beside.
    let made = rcgen::generate_simple_self_signed([TWO.to_owned()]).unwrap();
    let (cert, key) =
        (scratch.write("c.pem", made.cert.pem()), scratch.write("k.pem", made.signing_key.serialize_pem()));
    let own = format!(
        "[[site]]\nhost = {TWO:?}\ntls = {{ cert = {cert:?}, key = {key:?} }}\nroutes = {{ \"/\" = {{ answer = 204 }} }}\n"
    );
    let mut proxy = Proxy::toml(&(authority.toml() + &site(&[ONE]) + &own)).start().await;
    assert!(stands_in(&shown(authority.https, ONE).await));
    let ends = proxy.metrics().await;
    let ends = ends.sum("bowshock_tls_certificate_expiry_timestamp_seconds", &[&format!("site={ONE:?}")]);
    assert_eq!(ends, 0.0, "an alert on what ends soon tells of what is not there");
    assert_eq!(handshake::get(authority.https, ONE, "/").await.unwrap().expect(200).text(), "here");
    assert_eq!(shown(authority.https, TWO).await.names.len(), 1);
    eventually("an order has failed", async || orders(&proxy, "failure").await > 0.0).await;
    proxy.process().logged("is unreachable").await;
    let _pebble = authority.start().await;
    another(authority.https, ONE, None).await;
    let other = shown(authority.https, TWO).await;
    assert!(!by_pebble(&other) && !stands_in(&other), "{other:?}");
}

#[tokio::test]
async fn a_name_that_does_not_lead_here_is_told() {
    let authority = AcmeCa::new().await.names(&[ONE]);
    let _pebble = authority.start().await;
    let mut proxy = Proxy::toml(&(authority.toml() + &site(&[ONE, TWO]))).start().await;
    proxy.process().logged("could not validate the names of the site").await;
    let log = proxy.process().stderr();
    assert!(
        log.contains(&format!("{TWO} by http-01")) && log.contains(&format!("{TWO} by tls-alpn-01")),
        "{log}"
    );
    assert!(log.contains("check that DNS resolves each name to this machine"), "{log}");
    soon_eq!(orders(&proxy, "failure").await, 1.0);
    assert!(stands_in(&shown(authority.https, ONE).await));
    // A CA is not asked again at once, by a reload or a restart.
    proxy.reload(Proxy::toml(&(authority.toml() + &site(&[ONE, TWO])))).await;
    pass(ms(1000)).await;
    assert_eq!(orders(&proxy, "failure").await, 1.0);
    drop(proxy);
    let mut proxy = Proxy::toml(&(authority.toml() + &site(&[ONE, TWO]))).start().await;
    pass(ms(1000)).await;
    assert!(!proxy.metrics().await.has("bowshock_acme_orders_total"));
    // Unless it is told to forget it.
    let failed = authority.stored().into_iter().find(|name| name.ends_with(".failed")).expect("a note");
    authority.remove(&failed);
    proxy.reload(Proxy::toml(&(authority.toml() + &site(&[ONE])))).await;
    another(authority.https, ONE, None).await;
}

#[tokio::test]
async fn a_reload_brings_and_takes_sites() {
    let authority = AcmeCa::new().await.names(&[ONE, TWO]);
    let _pebble = authority.start().await;
    let mut proxy = Proxy::toml(&(authority.toml() + &site(&[ONE]))).start().await;
    let first = another(authority.https, ONE, None).await;
    let (mut kept, _) = handshake::handshake(authority.https, ONE).await.unwrap();
    proxy.reload(Proxy::toml(&(authority.toml() + &site(&[ONE]) + &site(&[TWO])))).await;
    another(authority.https, TWO, None).await;
    assert_eq!(shown(authority.https, ONE).await, first, "it has not been ordered again");
    proxy.reload(Proxy::toml(&(authority.toml() + &site(&[TWO])))).await;
    assert!(shown(authority.https, ONE).await.names[0].contains(TWO));
    kept.send(format!("GET / HTTP/1.1\r\nhost: {TWO}\r\n\r\n")).await;
    assert_eq!(kept.answer().await.expect("it was never closed").status, 200);
    assert_eq!(orders(&proxy, "success").await, 2.0);
}

#[tokio::test]
async fn a_ca_that_asks_for_patience_is_obeyed() {
    let authority = AcmeCa::new().await.names(&[ONE]);
    let _pebble = authority.start().await;
    let gate = Gatekeeper::before(&authority.target(), &authority.ca(), &authority.key()).await;
    gate.refuse(1, 6);
    let mut proxy = Proxy::toml(&(authority.toml_at(gate.port) + &site(&[ONE]))).start().await;
    proxy.process().logged("too many certificates for this week").await;
    another(authority.https, ONE, None).await;
    let orders = gate.orders();
    // Without the wish it would be half an hour, which `another` does not wait for.
    let pause = orders[1] - orders[0];
    assert!(pause >= Duration::from_secs(6), "{pause:?}");
}

#[tokio::test]
async fn a_ca_that_wants_a_renewal_gets_it() {
    let authority = AcmeCa::new().await.names(&[ONE]).validity(100);
    let _pebble = authority.start().await;
    let gate = Gatekeeper::before(&authority.target(), &authority.ca(), &authority.key()).await;
    let text = authority.toml_at(gate.port) + &site(&[ONE]);
    let proxy = Proxy::toml(&text).start().await;
    let first = another(authority.https, ONE, None).await;
    drop(proxy);
    gate.hurry();
    let _proxy = Proxy::toml(&text).start().await;
    let second = another(authority.https, ONE, Some(&first)).await;
    assert_ne!(first.serial, second.serial);
    assert_eq!(gate.replacing(), 1, "the order says which certificate it replaces");
}

#[tokio::test]
async fn a_ca_that_has_forgotten_the_account() {
    let authority = AcmeCa::new().await.names(&[ONE, TWO]);
    let pebble = authority.start().await;
    let mut proxy = Proxy::toml(&(authority.toml() + &site(&[ONE]))).start().await;
    another(authority.https, ONE, None).await;
    drop(pebble);
    // It keeps everything in memory.
    let _pebble = authority.start().await;
    proxy.reload(Proxy::toml(&(authority.toml() + &site(&[ONE]) + &site(&[TWO])))).await;
    another(authority.https, TWO, None).await;
}

#[tokio::test]
async fn a_ca_that_knows_us_from_elsewhere() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let authority = AcmeCa::new().await.names(&[ONE]).eab("kid-1", key);
    let _pebble = authority.start().await;
    let scratch = Scratch::new();
    let file = scratch.write("eab.key", format!("{key}\n"));
    let eab = format!("[acme]\neab = {{ id = \"kid-1\", key = {file:?} }}\n");
    let text = authority.toml().replace("[acme]\n", &eab);
    // Who does not say who he is, is told.
    let mut proxy = Proxy::toml(&(authority.toml() + &site(&[ONE]))).start().await;
    proxy.process().logged("certificate order failed: the CA refused it").await;
    drop(proxy);
    let failed = authority.stored().into_iter().find(|name| name.ends_with(".failed")).expect("a note");
    authority.remove(&failed);
    let _proxy = Proxy::toml(&(text + &site(&[ONE]))).start().await;
    another(authority.https, ONE, None).await;
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_told_by_check() {
    let scratch = Scratch::new();
    let text = format!("[acme]\nstore = \"/dev/null/acme\"\n{}", site(&[ONE]));
    let file = scratch.write("bowshock.toml", text);
    let (code, _, err) = run(Proxy::command(["check", "-c"]).arg(&file));
    assert_eq!(code, Some(1));
    assert!(err.contains("bowshock.toml:2:9") && err.contains("certificates cannot be stored"), "{err}");
    let good = format!("[acme]\nstore = {:?}\n{}", scratch.path("not/there/yet"), site(&[ONE]));
    scratch.write("bowshock.toml", good);
    let (code, out, err) = run(Proxy::command(["check", "-c"]).arg(&file));
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(!scratch.path("not").exists(), "nothing was made");
}
