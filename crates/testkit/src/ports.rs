//! Ports for servers that must be told where to listen before they start.
//!
//! Whoever can listen on port 0 does that. A program that is given its ports in a file cannot, and between "this port is free"
//! and its `bind` somebody else may take it: another test with the same idea, or any outgoing connection. So these ports lie
//! below the range that the kernel takes from for both, and a lock says to the other test processes that one is taken.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::Error;

/// How many ports below the kernel's own range are ours to give.
const RANGE: u16 = 12_000;

/// The locks of the ports that this process was given; they go with the process.
static GIVEN: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 that nobody listens on, and that no other process is given by this function while this one runs.
///
/// # Errors
/// [`Error::Io`] when none is left.
pub fn free_port() -> Result<u16, Error> {
    let folder = std::env::temp_dir().join(format!("silverback-ports-{}", nix::unistd::geteuid()));
    fs::create_dir_all(&folder).map_err(Error::io("no folder for the locks of ports"))?;
    let end = first_of_the_kernel().max(RANGE + 1024);
    // Processes start at different places, so that they seldom try the same.
    let spread = std::process::id().wrapping_mul(97) % u32::from(RANGE);
    let offset = u16::try_from(spread).unwrap_or_default();
    let mut given = GIVEN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    for step in 0..RANGE {
        let port = end - RANGE + (offset + step) % RANGE;
        if let Some(lock) = locked(&folder, port)?
            && is_port_free(port)
        {
            given.push(lock);
            return Ok(port);
        }
    }
    Err(Error::io("no free port on 127.0.0.1")(
        std::io::ErrorKind::AddrInUse.into(),
    ))
}

/// The lock of a port, `None` when somebody has it.
fn locked(folder: &Path, port: u16) -> Result<Option<File>, Error> {
    let path: PathBuf = folder.join(port.to_string());
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Error::io("a port's lock cannot be opened"))?;
    Ok(file.try_lock().is_ok().then_some(file))
}

/// The first port that the kernel gives by itself, to outgoing connections and to those who listen on port 0.
fn first_of_the_kernel() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        // The kernel's default.
        .unwrap_or(32_768)
}

/// Whether somebody could listen on this port now, on any address.
pub fn is_port_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

/// For each wanted port the first free one from there on, no port twice; `None` where a hundred in a row are taken.
pub fn next_free_ports<const N: usize>(
    wanted: [u16; N],
    is_free: impl Fn(u16) -> bool,
) -> Option<[u16; N]> {
    // A port that somebody wants by number is not given away to an earlier one that had to move.
    let asked: HashSet<u16> = wanted.into_iter().collect();
    let mut given = HashSet::new();
    let mut ports = wanted;
    for (index, &first) in wanted.iter().enumerate() {
        let port = (first..first.saturating_add(100)).find(|&port| {
            (port == first || !asked.contains(&port)) && !given.contains(&port) && is_free(port)
        })?;
        given.insert(port);
        ports[index] = port;
    }
    Some(ports)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once_and_lies_below_the_kernels() {
        let ports: HashSet<u16> = (0..20).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 20);
        assert!(ports.iter().all(|&port| port < first_of_the_kernel()));
    }

    #[test]
    fn a_port_that_another_has_is_not_given() {
        let folder = crate::process::temporary("silverback-ports-test-");
        fs::create_dir_all(&folder).unwrap();
        let first = locked(&folder, 1).unwrap();
        assert!(first.is_some());
        assert!(locked(&folder, 1).unwrap().is_none());
        drop(first);
        assert!(locked(&folder, 1).unwrap().is_some());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn wanted_ports_are_kept_when_they_are_free() {
        assert_eq!(next_free_ports([8000, 8001], |_| true), Some([8000, 8001]));
    }

    #[test]
    fn a_taken_port_moves_past_the_ones_that_others_want() {
        assert_eq!(
            next_free_ports([8000, 8001, 8443], |p| p != 8000),
            Some([8002, 8001, 8443])
        );
    }

    #[test]
    fn no_port_is_given_twice() {
        assert_eq!(next_free_ports([8000, 8000], |_| true), Some([8000, 8001]));
        assert_eq!(next_free_ports([8000], |_| false), None);
    }

    #[test]
    fn a_listening_port_is_not_free() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        assert!(!is_port_free(listener.local_addr().unwrap().port()));
    }
}
