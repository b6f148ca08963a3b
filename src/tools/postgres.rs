//! Maps in PostgreSQL: the table `gxitproxy`, read when a notification says that it has changed, and every second anyway.
//!
//! A trigger that notifies the channel `gxitproxy` is not installed by Galaxy, so it may be missing.

use std::{
    error::Error as _,
    future::poll_fn,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_postgres::{AsyncMessage, Client, Connection, Socket, error::SqlState};

use super::{
    file::{MOST_ENTRIES, ReadError},
    postgres_tls::{MakeTls, Session},
    row::Row,
    watch::LiveMap,
};
use crate::config::{Database, read_database};

/// Pause between two readings without a notification.
const POLL: Duration = Duration::from_secs(1);

/// Pause before another connection after one that has failed.
const RECONNECT: Duration = Duration::from_secs(1);

/// Longest wait for the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// Says that it wants to know of changes.
const LISTEN: &str = "LISTEN gxitproxy";

/// The entries, whatever the types of their columns.
const ENTRIES: &str =
    "SELECT key::text, token::text, host::text, port::bigint, info::text FROM gxitproxy LIMIT $1";

/// Keeps a map up to date for as long as it is in use.
pub(super) async fn watch(map: Weak<LiveMap>, url: String) {
    loop {
        let Err(error) = session(&map, &url).await else { return };
        let Some(map) = map.upgrade() else { return };
        map.update(Err(ReadError::Postgres(error)));
        drop(map);
        sleep(RECONNECT).await;
    }
}

/// Uses one connection until it breaks. `Ok` when the map is no longer in use.
async fn session(map: &Weak<LiveMap>, url: &str) -> Result<(), String> {
    let Database { mut config, tls } = read_database(url)?;
    config.application_name("bowshock").connect_timeout(PATIENCE);
    let tls = spawn_blocking(move || MakeTls::new(&tls)).await.map_err(|error| error.to_string())?;
    let connected = patiently(config.connect(tls)).await?;
    let changed = Arc::new(Notify::new());
    let _driver = Driver(tokio::spawn(drive(connected.1, Arc::clone(&changed))));
    let client = connected.0;
    patiently(client.batch_execute(LISTEN)).await?;
    let mut known = None;
    loop {
        let rows = entries(&client).await?;
        let Some(map) = map.upgrade() else { return Ok(()) };
        if known.as_ref() != Some(&rows) {
            known = Some(rows.clone());
            map.update(Ok(rows));
        }
        drop(map);
        let _ = timeout(POLL, changed.notified()).await;
    }
}

async fn entries(client: &Client) -> Result<Vec<Row>, String> {
    let most = i64::try_from(MOST_ENTRIES).unwrap_or(i64::MAX);
    let rows = match timeout(PATIENCE, client.query(ENTRIES, &[&most])).await {
        // Galaxy creates the table when the first tool starts.
        Ok(Err(error)) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(Vec::new()),
        Ok(rows) => rows.map_err(|error| explain(&error))?,
        Err(_) => return Err(TOO_LONG.into()),
    };
    let row = |row: &tokio_postgres::Row| {
        Ok(Row {
            key: row.try_get::<_, Option<String>>(0)?.unwrap_or_default(),
            token: row.try_get(1)?,
            host: row.try_get(2)?,
            port: row.try_get(3)?,
            info: row.try_get(4)?,
        })
    };
    rows.iter().map(row).collect::<Result<_, _>>().map_err(|error: tokio_postgres::Error| explain(&error))
}

const TOO_LONG: &str = "PostgreSQL takes too long to answer";

async fn patiently<T>(asked: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, String> {
    timeout(PATIENCE, asked).await.map_err(|_| TOO_LONG.to_owned())?.map_err(|error| explain(&error))
}

/// The error with its cause, which says what happened.
fn explain(error: &tokio_postgres::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Task that exchanges the messages of a connection.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn drive(mut connection: Connection<Socket, Session>, changed: Arc<Notify>) {
    // An error ends the connection, and is the client's next one.
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notification(_) = message {
            changed.notify_one();
        }
    }
}
