//! The demo's upstream: the test kit's echo on a few threads.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result};
use silverback_testkit::echo;
use silverback_testkit::h1::{self, Parsed};

/// Serves on a free port of 127.0.0.1 until the process ends.
pub(super) fn start() -> Result<SocketAddr> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("the echo upstream cannot listen")?;
    let addr = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away in the middle is no concern of a demo.
            thread::spawn(move || serve(stream).ok());
        }
    });
    Ok(addr)
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match h1::request(&received) {
            Parsed::Complete(request, length) => {
                received.drain(..length);
                let reply = echo::reply(&request, "echo");
                thread::sleep(reply.delay);
                stream.write_all(&reply.bytes)?;
                if !reply.keep_alive {
                    return Ok(());
                }
            }
            Parsed::Invalid(_) => return Ok(()),
            Parsed::Partial => match stream.read(&mut buffer)? {
                0 => return Ok(()),
                count => received.extend_from_slice(&buffer[..count]),
            },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use silverback_testkit::client::Client;

    #[test]
    fn it_echoes_request_after_request_on_one_connection() {
        let mut client = Client::new(super::start().unwrap());
        for path in ["/a", "/b"] {
            assert_eq!(client.get(path).unwrap().json()["path"], path);
        }
    }
}
