//! Rows of routes that no router can be made of, as a running node meets them.

use super::*;
use crate::{Engine, EngineConfig, Update};

struct Node {
    engine: Engine,
    revision: i64,
}

impl Node {
    fn start() -> Node {
        let registries = registries();
        let metrics = registries.metrics.clone();
        let config = EngineConfig {
            file: None,
            metrics,
        };
        let engine = Engine::start(Builder::new(registries), config).unwrap();
        Node {
            engine,
            revision: 0,
        }
    }

    /// The snapshot in force once all rows are these.
    async fn load(&mut self, rows: Vec<Change>) -> Arc<Snapshot> {
        self.revision += 1;
        let mut tables = Tables {
            revision: self.revision,
            ..Tables::default()
        };
        rows.into_iter().for_each(|r| tables.apply(r));
        self.send(Update::Loaded(Box::new(tables))).await
    }

    /// The snapshot in force once these rows have changed.
    async fn change(&mut self, changes: Vec<Change>) -> Arc<Snapshot> {
        self.revision += 1;
        let revision = self.revision;
        self.send(Update::Changed { revision, changes }).await
    }

    async fn send(&self, update: Update) -> Arc<Snapshot> {
        self.engine.updates().send(update).unwrap();
        self.engine.status().reached(self.revision).await;
        self.engine.current().load()
    }

    fn problems(&self) -> Vec<Uuid> {
        self.engine
            .status()
            .problems()
            .iter()
            .map(|p| p.id)
            .collect()
    }
}

/// The service that a path is served by.
fn served(s: &Snapshot, path: &str) -> Option<Uuid> {
    find(s, path).and_then(|r| Some(r.service.as_ref()?.service.id))
}

const BAD: &str = "~/bad(";

fn three_routes() -> Vec<Change> {
    vec![
        service(1),
        service(2),
        route(11, BAD, 1),
        route(12, "/a", 1),
        route(13, "/b", 2),
    ]
}

#[tokio::test]
async fn the_others_are_served_from_the_first_load_on() {
    let mut node = Node::start();
    let s = node.load(three_routes()).await;
    assert_eq!(node.problems(), [id(11)]);
    assert_eq!(
        ["/a", "/b", "/c"].map(|p| served(&s, p)),
        [Some(id(1)), Some(id(2)), None]
    );
}

#[tokio::test]
async fn the_others_keep_their_services_when_plugins_change() {
    let mut node = Node::start();
    node.load(three_routes()).await;
    for n in 0..3 {
        let text = format!("m{n}");
        let s = node
            .change(vec![plugin(5, "mark", [0, 0, 0], mark(&text))])
            .await;
        assert_eq!(
            ["/a", "/b"].map(|p| served(&s, p)),
            [Some(id(1)), Some(id(2))]
        );
        assert_eq!(ask(&s, "/a", "").await, text);
        assert_eq!(node.problems(), [id(11)]);
    }
}

#[tokio::test]
async fn the_others_can_be_changed() {
    let mut node = Node::start();
    node.load(three_routes()).await;
    let s = node
        .change(vec![route(12, "/new", 2), route(14, "/c", 1)])
        .await;
    assert_eq!(
        ["/a", "/new", "/b", "/c"].map(|p| served(&s, p)),
        [None, Some(id(2)), Some(id(2)), Some(id(1))]
    );
    let s = node.change(vec![change("routes", 13, None)]).await;
    assert_eq!(served(&s, "/b"), None);
}

#[tokio::test]
async fn a_row_that_was_good_is_served_as_it_was_with_todays_plugins() {
    let mut node = Node::start();
    node.load(vec![
        service(1),
        service(2),
        route(11, "/x", 1),
        route(12, "/a", 2),
    ])
    .await;
    let s = node.change(vec![route(11, BAD, 2)]).await;
    assert_eq!(
        ["/x", "/a"].map(|p| served(&s, p)),
        [Some(id(1)), Some(id(2))]
    );
    let s = node
        .change(vec![plugin(5, "mark", [11, 0, 0], mark("now"))])
        .await;
    assert_eq!(ask(&s, "/x", "").await, "now");
    assert_eq!(node.problems(), [id(11)]);
    // Mended, and deleted.
    let s = node.change(vec![route(11, "/y", 2)]).await;
    assert_eq!(["/x", "/y"].map(|p| served(&s, p)), [None, Some(id(2))]);
    assert!(node.problems().is_empty());
    node.change(vec![route(11, BAD, 2)]).await;
    let s = node.change(vec![change("routes", 11, None)]).await;
    assert_eq!(served(&s, "/y"), None);
    assert!(node.problems().is_empty());
}
