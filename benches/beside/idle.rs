//! What an idle connection occupies.

use std::{
    collections::VecDeque,
    error::Error,
    io,
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{
    client::Client,
    load::PROXIES,
    options::Options,
    rounds::in_order,
    row::Row,
    server::{Place, Server},
};

pub const NAME: &str = "idle";

/// What each connection has asked for before it is idle: an answer of the application.
const PATH: &str = "/bytes/100";

/// Memory that changes less than this in so many readings is what a server keeps.
const STABLE: u64 = 64 * 1024;
const READINGS: usize = 4;
const BETWEEN_READINGS: Duration = Duration::from_millis(200);

/// After so long it is taken as it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures it, if it is wanted: every time with a server that has just been started.
pub fn run(options: &Options, place: &Place) -> Result<Option<Row>, Box<dyn Error>> {
    if !options.wants(NAME) {
        return Ok(None);
    }
    let mut row = Row::costs("idle connection", "bytes", PROXIES);
    for round in 0..options.long_rounds() {
        for peer in in_order(PROXIES, round) {
            let occupied = of_a_connection(&Server::start(peer, place, 1)?, options.connections());
            row.add(peer, occupied.map_err(|error| format!("{}, idle: {error}", peer.name()))?);
        }
        eprintln!("beside: round {} of {}: {}", round + 1, options.long_rounds(), row.title);
    }
    Ok(Some(row))
}

/// Bytes that the server grows by with each of so many connections that have had one request answered.
fn of_a_connection(server: &Server, connections: usize) -> io::Result<f64> {
    // The first requests are those that it gets ready for.
    let mut first = Client::connect(server.address)?;
    for _ in 0..100 {
        first.get(PATH, |_| ())?;
    }
    let before = settled(server)?;
    let idle: Vec<TcpStream> = (0..connections).map(|_| asked_once(server)).collect::<io::Result<_>>()?;
    let grown = settled(server)?.saturating_sub(before);
    Ok(grown as f64 / idle.len() as f64)
}

fn asked_once(server: &Server) -> io::Result<TcpStream> {
    let mut client = Client::connect(server.address)?;
    client.get(PATH, |_| ())?;
    Ok(client.into_idle())
}

/// The memory that the server has when it does not change any more.
#[expect(clippy::disallowed_methods, reason = "there is no event loop here, and memory tells nobody")]
fn settled(server: &Server) -> io::Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    let mut readings = VecDeque::new();
    loop {
        let now = server.memory()?;
        readings.push_back(now);
        if readings.len() > READINGS {
            readings.pop_front();
            let changed = readings.iter().max().zip(readings.iter().min()).map(|(most, least)| most - least);
            if changed.is_some_and(|changed| changed < STABLE) || Instant::now() > deadline {
                return Ok(now);
            }
        }
        std::thread::sleep(BETWEEN_READINGS);
    }
}
