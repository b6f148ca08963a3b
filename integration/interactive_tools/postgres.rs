//! The map in a real PostgreSQL (`make interactive-tools`).

use super::{becomes, get, handshake, site_of};
use crate::fixtures::{
    Authority, Backend, Entry, Postgres, Proxy, Scratch, eventually, interactive_tool, ms, pass,
};

/// The table as Galaxy makes it.
const TABLE: &str = "CREATE TABLE gxitproxy (key VARCHAR(16) NOT NULL, key_type TEXT NOT NULL, token VARCHAR(32), \
                     host TEXT, port INTEGER, info TEXT, PRIMARY KEY (key, key_type))";

/// The trigger of the documentation.
const TRIGGER: &str = "CREATE FUNCTION gxitproxy_changed() RETURNS trigger LANGUAGE plpgsql AS \
                       $$ BEGIN NOTIFY gxitproxy; RETURN NULL; END $$; \
                       CREATE TRIGGER gxitproxy_changed AFTER INSERT OR UPDATE OR DELETE ON gxitproxy \
                       FOR EACH STATEMENT EXECUTE FUNCTION gxitproxy_changed();";

fn save(map: &Postgres, entry: &Entry) {
    let Entry { key, token, host, port, info } = entry;
    map.sql(&format!(
        "BEGIN; DELETE FROM gxitproxy WHERE key = '{key}'; INSERT INTO gxitproxy VALUES \
         ('{key}', 'interactivetoolentrypoint', '{token}', '{host}', {port}, '{info}'); COMMIT"
    ));
}

fn remove(map: &Postgres, entry: &Entry) {
    map.sql(&format!("DELETE FROM gxitproxy WHERE key = '{}'", entry.key));
}

async fn failures(proxy: &Proxy) -> u32 {
    proxy.metrics().await.sum("bowshock_interactive_tool_map_failures", &[]).round() as u32
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make interactive-tools"]
async fn a_tool_of_the_table_is_reached_by_both_addresses() {
    let (map, app, tool) =
        (Postgres::start().await, Backend::saying("app").await, interactive_tool("tool").await);
    map.sql(TABLE);
    let entry = Entry::new("a1", "t0ken", &tool.address());
    let whole = Entry::new("b2", "0ther", &tool.address()).with_path_in_url();
    save(&map, &entry);
    save(&map, &whole);
    let proxy = site_of(map.url(), &app, "").start().await;
    get(&proxy, &entry.host_name(), "/lab?x").await.expect(200);
    get(&proxy, "galaxy.test", &entry.path("/lab?x")).await.expect(200);
    get(&proxy, "galaxy.test", &whole.path("/lab?x")).await.expect(200);
    assert_eq!(tool.paths(), ["/lab?x".into(), "/lab?x".into(), whole.path("/lab?x")]);
    let mut wire = proxy.wire().await;
    wire.send(handshake(&entry.host_name(), "/channels")).await;
    assert!(wire.head().await.unwrap().contains(" 101 "));
    assert!(!proxy.succeed("print").contains("pa55w0rd"), "no password is shown");
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make interactive-tools"]
async fn changes_are_seen_and_at_once_with_the_trigger() {
    let (map, app, tool) =
        (Postgres::start().await, Backend::saying("app").await, interactive_tool("tool").await);
    let entry = Entry::new("a1", "t0ken", &tool.address());
    // Galaxy creates the table with the first tool.
    let proxy = site_of(map.url(), &app, "").start().await;
    get(&proxy, &entry.host_name(), "/").await.expect(404);
    map.sql(TABLE);
    save(&map, &entry);
    becomes(&proxy, &entry, 200).await;
    remove(&map, &entry);
    becomes(&proxy, &entry, 404).await;
    map.sql(TRIGGER);
    for _ in 0..5 {
        save(&map, &entry);
        // Without a notification it would be a second, in nearly all of ten cases more than this.
        pass(ms(250)).await;
        get(&proxy, &entry.host_name(), "/").await.expect(200);
        remove(&map, &entry);
        pass(ms(250)).await;
        get(&proxy, &entry.host_name(), "/").await.expect(404);
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make interactive-tools"]
async fn tools_stay_while_the_database_is_away() {
    let (mut map, app, tool) =
        (Postgres::start().await, Backend::saying("app").await, interactive_tool("tool").await);
    map.sql(TABLE);
    let (entry, other) =
        (Entry::new("a1", "t0ken", &tool.address()), Entry::new("b2", "0ther", &tool.address()));
    save(&map, &entry);
    let mut proxy = site_of(map.url(), &app, "").start().await;
    get(&proxy, &entry.host_name(), "/").await.expect(200);
    map.stop();
    eventually("it is noticed", async || failures(&proxy).await == 1).await;
    get(&proxy, &entry.host_name(), "/").await.expect(200);
    map.restart().await;
    save(&map, &other);
    becomes(&proxy, &other, 200).await;
    assert_eq!(failures(&proxy).await, 0);
    assert!(!proxy.process().stderr().contains("pa55w0rd"), "no password in the log");
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make interactive-tools"]
async fn a_database_that_is_not_there_at_the_start_is_waited_for() {
    let (mut map, app, tool) =
        (Postgres::start().await, Backend::saying("app").await, interactive_tool("tool").await);
    map.sql(TABLE);
    let entry = Entry::new("a1", "t0ken", &tool.address());
    save(&map, &entry);
    map.stop();
    let proxy = site_of(map.url(), &app, "").start().await;
    get(&proxy, &entry.host_name(), "/").await.expect(503);
    map.restart().await;
    becomes(&proxy, &entry, 200).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make interactive-tools"]
async fn tls_is_spoken_as_the_url_says() {
    let (ours, other) = (Authority::new("ours"), Authority::new("another"));
    let scratch = Scratch::new();
    let other = other.write(&scratch, "other");
    let (map, ca) = Postgres::start().await.with_tls(&ours).await;
    let (app, tool) = (Backend::saying("app").await, interactive_tool("tool").await);
    map.sql(TABLE);
    let entry = Entry::new("a1", "t0ken", &tool.address());
    save(&map, &entry);
    for (query, status) in [
        (String::new(), 200),
        ("?sslmode=disable".into(), 503),
        ("?sslmode=require".into(), 200),
        (format!("?sslmode=verify-full&sslrootcert={}", ca.display()), 200),
        (format!("?sslmode=verify-full&sslrootcert={}", other.display()), 503),
        (format!("?sslmode=require&sslrootcert={}", other.display()), 503),
    ] {
        let proxy = site_of(map.tcp_url(&query), &app, "").start().await;
        assert_eq!(get(&proxy, &entry.host_name(), "/").await.status, status, "{query}");
    }
}
