//! A running server.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use rustix::process::{Pid, kill_process};

use crate::{cpu::Cpu, load::FILES, memory::resident, peer::Peer, process::Process};

/// Where everything is.
pub struct Place {
    folder: PathBuf,
    /// The files that servers send, all of the letter x.
    pub files: PathBuf,
    /// The socket of the application.
    pub upstream: PathBuf,
}

impl Place {
    /// Prepares `folder`.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let files = folder.join("files");
        fs::create_dir(&files)?;
        for size in FILES {
            let mut file = File::create(files.join(file_name(size)))?;
            io::copy(&mut io::repeat(b'x').take(size as u64), &mut file)?;
        }
        Ok(Self { folder: folder.into(), files, upstream: folder.join("upstream") })
    }
}

/// The name of the file of this size.
pub fn file_name(size: usize) -> String {
    format!("{size}.bin")
}

/// A server that accepts connections. It ends when it is dropped.
pub struct Server {
    pub peer: Peer,
    pub threads: usize,
    pub address: SocketAddr,
    process: Process,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts it, and waits until it accepts.
    pub fn start(peer: Peer, place: &Place, threads: usize) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(peer.name()).tempdir_in(&place.folder)?;
        // Free again at once; nobody else takes a port in that moment.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let command = peer.command(folder.path(), place, address.port(), threads)?;
        let mut process = Process::start(&command, folder.path())?;
        process
            .until_accepts(address)
            .map_err(|error| io::Error::other(format!("{}: {error}", peer.name())))?;
        Ok(Self { peer, threads, address, process, _folder: folder })
    }

    /// What it has taken so far.
    pub fn cpu(&self) -> io::Result<Cpu> {
        Cpu::of(self.process.pid())
    }

    /// Bytes resident.
    pub fn memory(&self) -> io::Result<u64> {
        resident(self.process.pid())
    }

    /// Has it read its configuration again.
    pub fn reload(&self) -> io::Result<()> {
        let pid = Pid::from_raw(self.process.pid().cast_signed()).ok_or(io::ErrorKind::NotFound)?;
        Ok(kill_process(pid, self.peer.reload())?)
    }
}
