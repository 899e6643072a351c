//! For tests of what counts in Redis: a server of one's own. Everything here panics when it cannot be done.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// A Redis server that ends with its owner. It keeps nothing on disk.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    process: Child,
}

impl RedisServer {
    /// Starts one on a free port.
    pub fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        Self::start_on(free.expect("a port is free").port())
    }

    /// Starts one on that port.
    pub fn start_on(port: u16) -> Self {
        let mut process = Command::new("redis-server")
            .args(["--port", &port.to_string()])
            .args(["--bind", "127.0.0.1", "--save", ""])
            .args(["--requirepass", "secret"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is installed");
        let log = BufReader::new(process.stdout.take().expect("its output is piped"));
        let mut lines = log.lines().map_while(Result::ok);
        assert!(
            lines.any(|l| l.contains("Ready to accept connections")),
            "redis-server did not start"
        );
        // Its output has to be read on, or it would wait for that one day.
        std::thread::spawn(move || lines.for_each(drop));
        RedisServer { port, process }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What a plugin's `config.redis` says of it.
    pub fn settings(&self) -> Value {
        json!({ "host": "127.0.0.1", "port": self.port, "database": 1, "password": "secret" })
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
