use std::time::Duration;

use serde_json::json;
use silverback_entities::Tables;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

use super::{consumer, def, id_of, key, now, plugin, row, service, store};
use crate::watch::{Event, Watcher};
use crate::{Key, Store};

/// A node: applies what it sees.
pub(crate) struct Node {
    pub(crate) tables: Tables,
    pub(crate) seen: Vec<&'static str>,
    /// The names of the tokens that let in.
    pub(crate) tokens: Vec<String>,
    events: mpsc::UnboundedReceiver<Event>,
    _stop: oneshot::Sender<()>,
}

impl Node {
    pub(crate) fn start(store: &Store, poll: Duration) -> Node {
        let (send, events) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let watcher = Watcher::new(store, poll);
        tokio::spawn(watcher.run(move |e| drop(send.send(e)), async { drop(stopped.await) }));
        Node {
            tables: Tables::default(),
            seen: Vec::new(),
            tokens: Vec::new(),
            events,
            _stop: stop,
        }
    }

    /// The next event, applied. Revisions only go up.
    pub(crate) async fn next(&mut self) {
        let event = timeout(Duration::from_secs(30), self.events.recv())
            .await
            .expect("an event")
            .unwrap();
        self.seen.push(match event {
            Event::Tokens(all) => {
                self.tokens = all.into_iter().map(|t| t.name).collect();
                return Box::pin(self.next()).await;
            }
            Event::Loaded(t) => {
                self.tables = *t;
                "loaded"
            }
            Event::Changed { revision, changes } => {
                assert!(revision > self.tables.revision);
                changes.into_iter().for_each(|c| self.tables.apply(c));
                self.tables.revision = revision;
                "changed"
            }
            Event::Announced { .. } => "announced",
            Event::Lost(_) => "lost",
            Event::Back => "back",
        });
    }

    pub(crate) async fn until(&mut self, revision: i64) {
        while self.tables.revision < revision {
            self.next().await;
        }
    }
}

pub(crate) fn assert_same(a: &Tables, b: &Tables) {
    let (a, b) = (
        serde_json::to_value(a).unwrap(),
        serde_json::to_value(b).unwrap(),
    );
    assert_eq!(a, b);
}

/// So long that only a notification can be meant.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn every_kind_of_change_arrives() {
    let store = store().await;
    let mut node = Node::start(&store, NEVER);
    node.next().await;
    assert_eq!(
        (node.seen.as_slice(), node.tables.revision),
        (["loaded"].as_slice(), 0)
    );

    let c = store
        .insert(&def("consumers"), consumer(json!({"username": "a"})))
        .await
        .unwrap();
    let k = store
        .insert(&def("keyauth_credentials"), key(&c, json!({"key": "1"})))
        .await
        .unwrap();
    let s = store
        .insert(&def("services"), service(json!({"name": "s"})))
        .await
        .unwrap();
    store
        .insert(
            &def("plugins"),
            plugin(json!({"consumer": {"id": c["id"]}})),
        )
        .await
        .unwrap();
    let vault = json!({"id": Uuid::new_v4().to_string(), "created_at": 1, "updated_at": 1, "name": "env", "prefix": "v",
        "config": {"prefix": "X_"}});
    let v = store
        .insert(&def("vaults"), vault.as_object().unwrap().clone())
        .await
        .unwrap();
    node.until(5).await;
    assert_eq!(node.tables.vaults[&id_of(&v)].config["prefix"], "X_");
    store
        .delete(&def("vaults"), &Key::Id(id_of(&v)))
        .await
        .unwrap();
    node.until(6).await;
    assert!(node.tables.vaults.is_empty());
    let made = now();
    let given = json!({"session_id": "sid", "data": "d", "created_at": made, "ttl": 60});
    let given = store
        .insert(&def("sessions"), row("sessions", given))
        .await
        .unwrap();
    node.until(7).await;
    let known = &node.tables.issued["sessions"][&id_of(&given)];
    assert_eq!(&*known.lookup, "sid");
    assert_eq!(
        json!(known.fields),
        json!({"data": "d", "created_at": made})
    );
    assert!(known.expires_at.is_some_and(|end| end > now()));
    assert_eq!(
        &*node.tables.credentials["keyauth_credentials"][&id_of(&k)].lookup,
        "1"
    );
    assert_same(&node.tables, &store.load().await.unwrap());

    store
        .update(&def("services"), id_of(&s), service(json!({"name": "t"})))
        .await
        .unwrap();
    node.until(8).await;
    assert_eq!(node.tables.services[&id_of(&s)].name.as_deref(), Some("t"));

    store
        .delete(&def("consumers"), &Key::Id(id_of(&c)))
        .await
        .unwrap();
    node.until(9).await;
    assert!(node.tables.consumers.is_empty() && node.tables.plugins.is_empty());
    assert!(node.tables.credentials["keyauth_credentials"].is_empty());
    assert!(!node.seen[1..].contains(&"loaded"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_skipped_under_sixteen_writers_on_two_nodes() {
    let store = store().await;
    let other = super::on(store.cfg().clone());
    let mut node = Node::start(&store, NEVER);
    node.next().await;
    let writers = (0..16).map(|w| {
        let store = if w % 2 == 0 {
            store.clone()
        } else {
            other.clone()
        };
        tokio::spawn(async move {
            let d = def("services");
            for i in 0..40 {
                let s = store
                    .insert(&d, service(json!({"name": format!("{w}-{i}")})))
                    .await
                    .unwrap();
                match i % 4 {
                    0 => assert!(store.delete(&d, &Key::Id(id_of(&s))).await.unwrap()),
                    1 => assert!(
                        store
                            .insert(&d, service(json!({"name": format!("{w}-{i}")})))
                            .await
                            .is_err()
                    ),
                    2 => {
                        let change = |old: &crate::Row| {
                            let mut new = old.clone();
                            new.insert("port".into(), json!(i));
                            Ok::<_, ()>(new)
                        };
                        store
                            .update_with(&d, &Key::Id(id_of(&s)), None, change)
                            .await
                            .unwrap()
                            .unwrap();
                    }
                    _ => drop(store.upsert(&d, s).await.unwrap()),
                }
            }
        })
    });
    futures::future::try_join_all(writers).await.unwrap();
    let all = store.load().await.unwrap();
    node.until(all.revision).await;
    assert_same(&node.tables, &all);
    assert_eq!(all.services.len(), 16 * 30);
    assert!(!node.seen[1..].contains(&"loaded"));
    // No revision without changes, none missing.
    let revisions: i64 = store
        .pool()
        .query("select count(distinct revision) from config_changes", &[])
        .await
        .unwrap()[0]
        .get(0);
    assert_eq!(revisions, all.revision);
}

#[tokio::test]
async fn a_lost_notification_is_made_up_for_by_looking() {
    let store = store().await;
    let mut node = Node::start(&store, Duration::from_millis(100));
    node.next().await;
    // A write whose notification goes nowhere.
    let sql = "with b as (update config_revision set revision = revision + 1 returning revision), \
         c as (insert into consumers (id, created_at, updated_at) values (gen_random_uuid(), now(), now()) returning id) \
         insert into config_changes (revision, entity, entity_id, op) select revision, 'consumers', c.id, 'insert' from b, c";
    store.pool().query(sql, &[]).await.unwrap();
    node.until(1).await;
    assert_eq!(node.tables.consumers.len(), 1);
    assert_eq!(node.seen, ["loaded", "changed"]);
}

#[tokio::test]
async fn everything_is_loaded_again_when_the_log_does_not_reach_back() {
    let store = store().await;
    let mut node = Node::start(&store, Duration::from_millis(100));
    node.next().await;
    store
        .insert(&def("services"), service(json!({})))
        .await
        .unwrap();
    node.until(1).await;
    store.prune(0).await.unwrap();
    assert_eq!(super::log(&store).await, []);
    // Up to date, so the pruned log does not matter.
    store
        .insert(&def("services"), service(json!({})))
        .await
        .unwrap();
    node.until(2).await;
    assert_eq!(node.seen, ["loaded", "changed", "changed"]);
    // Changes that are pruned before they are seen.
    let sql = "with b as (update config_revision set revision = revision + 5, pruned = revision + 5), \
         d as (delete from services) select 1";
    store.pool().query(sql, &[]).await.unwrap();
    node.until(7).await;
    assert_eq!(node.seen.last(), Some(&"loaded"));
    assert!(node.tables.services.is_empty());
    // Another database under the same name: the revision goes back.
    store
        .pool()
        .query(
            "update config_revision set revision = 3, pruned = 0, epoch = gen_random_uuid()",
            &[],
        )
        .await
        .unwrap();
    while node.tables.revision != 3 {
        node.next().await;
    }
    assert_eq!(node.seen.last(), Some(&"loaded"));
}

#[tokio::test]
async fn a_node_waits_for_the_migrations() {
    let (server, name) = crate::testpg::empty();
    let store = super::on(server.cfg(&name));
    let mut node = Node::start(&store, NEVER);
    node.next().await;
    assert_eq!(node.seen, ["lost"]);
    crate::migrate::up(store.cfg()).await.unwrap();
    node.next().await;
    node.next().await;
    assert_eq!(node.seen, ["lost", "back", "loaded"]);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_left_out_of_what_is_loaded() {
    let store = store().await;
    let good = store
        .insert(&def("services"), service(json!({})))
        .await
        .unwrap();
    store
        .insert(
            &def("services"),
            service(json!({"protocol": "from-the-future"})),
        )
        .await
        .unwrap();
    let tables = store.load().await.unwrap();
    assert_eq!(tables.services.keys().collect::<Vec<_>>(), [&id_of(&good)]);
}

#[tokio::test]
async fn what_one_node_announces_all_hear() {
    let store = store().await;
    let (mut one, mut other) = (Node::start(&store, NEVER), Node::start(&store, NEVER));
    one.next().await;
    other.next().await;
    store.announce("weather", "sun\nand rain").await.unwrap();
    for node in [&mut one, &mut other] {
        match timeout(Duration::from_secs(30), node.events.recv()).await {
            Ok(Some(Event::Announced { topic, text })) => {
                assert_eq!(
                    (topic.as_str(), text.as_str()),
                    ("weather", "sun\nand rain")
                );
            }
            got => panic!("{got:?}"),
        }
    }
    // It is no change, and does not hide one.
    let row = store
        .insert(&def("services"), service(json!({"name": "a"})))
        .await
        .unwrap();
    one.until(1).await;
    assert!(one.tables.services.contains_key(&id_of(&row)));
    store.announce("a\nb", "").await.unwrap_err();
    store.announce("a", &"x".repeat(8000)).await.unwrap_err();
}

#[tokio::test]
async fn everything_is_read_anew_when_asked() {
    let store = store().await;
    let (send, mut events) = mpsc::unbounded_channel();
    let watcher = Watcher::new(&store, NEVER);
    let anew = watcher.anew();
    let running = tokio::spawn(watcher.run(move |e| drop(send.send(e)), std::future::pending()));
    for _ in 0..2 {
        // Who may get in comes before the rest.
        let first = timeout(Duration::from_secs(30), events.recv()).await;
        assert!(matches!(first, Ok(Some(Event::Tokens(_)))), "{first:?}");
        let second = timeout(Duration::from_secs(30), events.recv()).await;
        assert!(matches!(second, Ok(Some(Event::Loaded(_)))), "{second:?}");
        anew.ask();
    }
    running.abort();
}
