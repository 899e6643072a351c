//! `silverback admin token`: works on the database, so it needs no running node; those that run are told by the database.

use anyhow::bail;
use silverback_admin::NewToken;
use silverback_store::{AdminToken as Kept, Role, Store, StoreError};

use crate::cli::{AdminToken, TokenRole};
use crate::config::Config;
use crate::pg;

/// Does what it was told, and prints it.
///
/// # Errors
/// When the database cannot be reached or refuses.
pub(crate) fn run(config: &Config, what: &AdminToken) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let store = Store::new(pg::settings(config)?, Vec::new())?.acting_as("command-line");
        match what {
            AdminToken::Create(name, role) => create(&store, name, *role).await,
            AdminToken::List => list(&store).await,
            AdminToken::Revoke(name) => {
                if !store.revoke_admin_token(name).await? {
                    bail!("there is no token '{name}'");
                }
                println!("revoked '{name}'");
                Ok(0)
            }
        }
    })
}

async fn create(store: &Store, name: &str, role: TokenRole) -> anyhow::Result<u8> {
    let new = NewToken::generate()?;
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let kept = Kept {
        name: name.to_owned(),
        role: match role {
            TokenRole::ReadOnly => Role::ReadOnly,
            TokenRole::ReadWrite => Role::ReadWrite,
        },
        lookup: new.lookup,
        hash: new.hash,
        created_at: i64::try_from(since.as_secs())?,
    };
    match store.create_admin_token(&kept).await {
        Ok(()) => {}
        Err(StoreError::Unique { .. }) => {
            bail!("there is a token '{name}' already; revoke it first")
        }
        Err(e) => return Err(e.into()),
    }
    // Alone on standard output, so that it can be taken by a script.
    println!("{}", new.text);
    eprintln!(
        "Token '{name}' ({}). Keep it: it cannot be shown again.",
        kept.role.as_str()
    );
    Ok(0)
}

async fn list(store: &Store) -> anyhow::Result<u8> {
    let all = store.admin_tokens().await?;
    println!("{:<32} {:<12} CREATED", "NAME", "ROLE");
    for token in all {
        let at = chrono::DateTime::from_timestamp(token.created_at, 0);
        let at = at.map(|t| t.to_rfc3339()).unwrap_or_default();
        println!("{:<32} {:<12} {at}", token.name, token.role.as_str());
    }
    Ok(0)
}
