//! Doing the work: once to see that it is done right, then for the CPU that it takes.

use std::{error::Error, io};

use crate::{
    client::Client,
    load::{GIB, Load, MIB, Work},
    server::Server,
    wrk::wrk,
};

/// What wrk does: so many connections, and requests on them as fast as possible for so many seconds.
const CONNECTIONS: u32 = 50;
const SECONDS: u32 = 1;

/// How much is sent where each GiB counts.
const BYTES: usize = 2 * GIB;

/// What files and answers are made of.
static EXPECTED: [u8; MIB] = [b'x'; MIB];

/// Sees that the server does it right; twice, so that a kept connection is seen to work.
pub fn check(load: &Load, server: &Server) -> Result<(), Box<dyn Error>> {
    let path = load.path(server.peer);
    let mut client = Client::connect(server.address)?;
    for _ in 0..2 {
        let checked = match load.work {
            Work::Uploads => upload(&mut client, &path, load.size),
            Work::Requests(_) | Work::Downloads(_) => download_checked(&mut client, &path, load.size),
        };
        checked.map_err(|error| format!("{}, {}: {error}", server.peer.name(), load.title))?;
    }
    Ok(())
}

/// The CPU that it takes the server, in the load's unit.
pub fn cost(load: &Load, server: &Server) -> Result<f64, Box<dyn Error>> {
    let path = load.path(server.peer);
    let before = server.cpu()?;
    let units = match load.work {
        Work::Requests(_) => wrk(server.address, &path, load.fields, CONNECTIONS, SECONDS)? as f64 / 1e6,
        Work::Downloads(_) | Work::Uploads => transfer(load, server, &path)? as f64 / GIB as f64,
    };
    Ok(server.cpu()?.since(&before) / units)
}

/// Moves the bytes, as often as it takes on one connection; tells how many they were.
fn transfer(load: &Load, server: &Server, path: &str) -> io::Result<usize> {
    let mut client = Client::connect(server.address)?;
    let times = BYTES / load.size;
    for _ in 0..times {
        match load.work {
            Work::Uploads => upload(&mut client, path, load.size)?,
            Work::Requests(_) | Work::Downloads(_) => download(&mut client, path, load.size, |_| ())?,
        }
    }
    Ok(times * load.size)
}

fn download(client: &mut Client, path: &str, size: usize, see: impl FnMut(&[u8])) -> io::Result<()> {
    let length = client.get(path, see)?;
    if length == size as u64 {
        Ok(())
    } else {
        Err(io::Error::other(format!("{length} bytes instead of {size}")))
    }
}

fn download_checked(client: &mut Client, path: &str, size: usize) -> io::Result<()> {
    let mut right = true;
    download(client, path, size, |piece| right &= EXPECTED.starts_with(piece))?;
    if right { Ok(()) } else { Err(io::Error::other("other bytes than expected")) }
}

fn upload(client: &mut Client, path: &str, size: usize) -> io::Result<()> {
    let received = client.post(path, size as u64)?;
    if received == size.to_string() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{received} bytes of {size} arrive")))
    }
}
