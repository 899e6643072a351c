//! The Admin API alone, without a gateway, on a database of its own; for playing with the API and for comparing its answers.
//!
//! `PGHOST`, `PGPORT`, `PGUSER`, `PGDATABASE` say where Postgres is; the first argument is the address to listen on.

use std::error::Error;

use silverback_admin::{AdminBuilder, Listen, NodeInfo};
use silverback_bundled::all as plugins;
use silverback_entities::CORE;
use silverback_store::{PgConfig, Store, migrate};
use uuid::Uuid;

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .init();
    let cfg = PgConfig {
        host: variable("PGHOST", "127.0.0.1"),
        port: variable("PGPORT", "5432").parse()?,
        user: variable("PGUSER", "silverback"),
        database: variable("PGDATABASE", "silverback"),
        ..PgConfig::default()
    };
    migrate::up(&cfg).await?;
    let mut entities = CORE.clone();
    entities.extend(plugins().into_iter().flat_map(|p| p.entities));
    let store = Store::new(cfg, entities.clone())?;
    let node = NodeInfo {
        node_id: Uuid::new_v4(),
        hostname: "localhost".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        configuration: serde_json::json!({ "role": "traditional", "database": "postgres", "router_flavor": "traditional_compatible" }),
    };
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:8001".into());
    let server = AdminBuilder::new(store, entities, plugins(), node)
        .listen(Listen::plain(address.parse()?))
        .bind()?;
    println!("http://{}", server.addrs()[0]);
    server.run(std::future::pending()).await?;
    Ok(())
}
