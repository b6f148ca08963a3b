//! Everybody does everything, again and again.

use std::{error::Error, io};

use crate::{
    load::{LOADS, Load},
    options::Options,
    peer::Peer,
    row::Row,
    server::{Place, Server},
    work::{check, cost},
};

/// Measures the CPU that the wanted loads take.
pub fn run(options: &Options, place: &Place) -> Result<Vec<Row>, Box<dyn Error>> {
    let loads: Vec<&Load> = LOADS.iter().filter(|load| options.wants(load.name)).collect();
    let mut rows: Vec<Row> =
        loads.iter().map(|load| Row::costs(load.title, load.unit(), load.peers)).collect();
    let mut fleet = Fleet { place, servers: Vec::new() };
    for load in &loads {
        for &peer in load.peers {
            check(load, fleet.server(peer, load.threads)?)?;
        }
        eprintln!("beside: all do it right: {}", load.title);
    }
    for round in 0..options.rounds() {
        for (load, row) in loads.iter().zip(&mut rows) {
            for peer in in_order(load.peers, round) {
                row.add(peer, cost(load, fleet.server(peer, load.threads)?)?);
            }
            eprintln!("beside: round {} of {}: {}", round + 1, options.rounds(), load.title);
        }
    }
    Ok(rows)
}

/// Every other round goes backwards, so that nobody always comes after the same one.
pub fn in_order(peers: &[Peer], round: usize) -> Vec<Peer> {
    let mut peers = peers.to_vec();
    if round % 2 == 1 {
        peers.reverse();
    }
    peers
}

/// The servers that run.
struct Fleet<'a> {
    place: &'a Place,
    servers: Vec<Server>,
}

impl Fleet<'_> {
    /// It is started when it is first asked for.
    fn server(&mut self, peer: Peer, threads: usize) -> io::Result<&Server> {
        let known = self.servers.iter().position(|server| server.peer == peer && server.threads == threads);
        let index = match known {
            Some(index) => index,
            None => {
                self.servers.push(Server::start(peer, self.place, threads)?);
                self.servers.len() - 1
            }
        };
        Ok(&self.servers[index])
    }
}
