use serde_json::json;

use super::store;
use super::watching::{NEVER, Node};
use crate::{AdminToken, Role, StoreError};

fn token(name: &str, role: Role) -> AdminToken {
    AdminToken {
        name: name.into(),
        role,
        lookup: format!("l-{name}"),
        hash: vec![0, 1, 255],
        created_at: 1_700_000_000,
    }
}

#[tokio::test]
async fn nodes_are_told_who_may_get_in_and_who_may_not_any_more() {
    let store = store().await.acting_as("command-line");
    let (a, b) = (token("a", Role::ReadOnly), token("b", Role::ReadWrite));
    store.create_admin_token(&b).await.unwrap();
    let mut node = Node::start(&store, NEVER);
    node.next().await;
    assert_eq!(node.tokens, ["b"]);
    store.create_admin_token(&a).await.unwrap();
    node.until(2).await;
    assert_eq!(node.tokens, ["a", "b"]);
    assert_eq!(store.admin_tokens().await.unwrap(), [a.clone(), b]);
    let taken = store.create_admin_token(&a).await.unwrap_err();
    assert_eq!(
        taken,
        StoreError::Unique {
            fields: vec![("name", json!("a"))]
        }
    );
    assert!(store.revoke_admin_token("b").await.unwrap());
    assert!(!store.revoke_admin_token("b").await.unwrap());
    node.until(3).await;
    assert_eq!(node.tokens, ["a"]);
    assert_eq!(node.seen, ["loaded", "changed", "changed"]);
    let (head, changes) = store.revision(3).await.unwrap().unwrap();
    assert_eq!(head.actor.as_deref(), Some("command-line"));
    let before = changes[0].before.as_ref().unwrap();
    assert_eq!((&before["name"], before.get("hash")), (&json!("b"), None));
}
