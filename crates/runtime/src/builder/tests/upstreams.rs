//! Services whose host is the name of an upstream.

use silverback_balancer::Balancer;

use super::*;
use crate::snapshot::Destination;

/// An upstream with all defaults but those of `settings`.
fn upstream(n: u128, name: &str, settings: Value) -> Change {
    let mut row = json!({ "id": id(n), "name": name });
    row.as_object_mut()
        .unwrap()
        .extend(settings.as_object().unwrap().clone());
    let def = silverback_entities::core("upstreams").unwrap();
    let row = row.as_object().unwrap().clone();
    let row =
        silverback_plugin::schema::complete(def, row, silverback_plugin::schema::Op::Insert, 1)
            .unwrap();
    let row = serde_json::from_value(Value::Object(row)).unwrap();
    change("upstreams", n, Some(Row::Upstream(row)))
}

fn target(n: u128, of: u128, target: &str, weight: u16) -> Change {
    let row = json!({"id": id(n), "upstream": {"id": id(of)}, "target": target, "weight": weight, "created_at": 1.5, "updated_at": 1.5});
    let row = serde_json::from_value(row).unwrap();
    change("targets", n, Some(Row::Target(row)))
}

fn to(n: u128, host: &str) -> Change {
    let mut change = service(n);
    if let Some(Row::Service(row)) = &mut change.row {
        row.host = host.into();
    }
    change
}

/// Service 1 at `/`, whose host is `up`.
fn builder() -> Builder {
    let mut b = Builder::new(registries());
    b.apply(1, vec![to(1, "up"), route(2, "/", 1)]);
    b
}

fn balancer(s: &Snapshot) -> Option<Arc<Balancer>> {
    match &find(s, "/").unwrap().service.as_ref().unwrap().destination {
        Destination::Upstream(balancer) => Some(balancer.clone()),
        Destination::Host(_) => None,
    }
}

/// The port of the target chosen.
fn chosen(s: &Snapshot) -> Option<u16> {
    let picked = balancer(s)?.try_pick(b"", &[])?;
    picked.map(|p| p.addr.port()).ok()
}

#[tokio::test]
async fn a_service_follows_the_upstream_of_its_hosts_name() {
    let mut b = builder();
    assert!(balancer(&b.build()).is_none());
    b.apply(2, vec![upstream(10, "up", json!({}))]);
    let empty = b.build();
    assert!(balancer(&empty).is_some());
    assert_eq!(chosen(&empty), None, "it has no targets");
    b.apply(3, vec![target(11, 10, "127.0.0.1:1", 100)]);
    assert_eq!(chosen(&b.build()), Some(1));
    b.apply(
        4,
        vec![
            target(12, 10, "127.0.0.1:2", 100),
            target(11, 10, "127.0.0.1:1", 0),
        ],
    );
    assert_eq!(chosen(&b.build()), Some(2));
    b.apply(5, vec![change("targets", 12, None)]);
    assert_eq!(chosen(&b.build()), None);
    b.apply(6, vec![upstream(10, "other", json!({}))]);
    assert!(balancer(&b.build()).is_none());
    b.apply(7, vec![upstream(10, "up", json!({}))]);
    assert!(balancer(&b.build()).is_some());
    b.apply(8, vec![change("upstreams", 10, None)]);
    assert!(balancer(&b.build()).is_none());
}

#[tokio::test]
async fn a_target_that_moves_leaves_one_upstream_and_joins_the_other() {
    let mut b = builder();
    b.apply(
        2,
        vec![
            upstream(10, "up", json!({})),
            upstream(20, "down", json!({})),
            target(11, 10, "127.0.0.1:1", 100),
        ],
    );
    assert_eq!(chosen(&b.build()), Some(1));
    b.apply(3, vec![target(11, 20, "127.0.0.1:1", 100)]);
    let s = b.build();
    assert_eq!(chosen(&s), None);
    assert!(s.upstreams[&id(20)].try_pick(b"", &[]).unwrap().is_ok());
}

#[tokio::test]
async fn what_is_known_of_a_target_outlives_changes_of_others_and_a_load_of_everything() {
    let mut b = builder();
    let checks = json!({"healthchecks": {"passive": {"unhealthy": {"tcp_failures": 1}}}});
    b.apply(
        2,
        vec![
            upstream(10, "up", checks),
            target(11, 10, "127.0.0.1:1", 100),
            target(12, 10, "127.0.0.1:2", 100),
        ],
    );
    let first = b.build();
    balancer(&first)
        .unwrap()
        .set_health("127.0.0.1:1", None, false)
        .unwrap();
    b.apply(3, vec![target(13, 10, "127.0.0.1:3", 0)]);
    let second = b.build();
    assert_eq!((chosen(&second), chosen(&second)), (Some(2), Some(2)));

    b.apply(4, vec![to(5, "other"), route(6, "/other", 5)]);
    let third = b.build();
    assert!(Arc::ptr_eq(
        &balancer(&second).unwrap(),
        &balancer(&third).unwrap()
    ));
    let tables: Tables = serde_json::from_value(serde_json::to_value(b.tables()).unwrap()).unwrap();
    b.load(tables);
    assert!(Arc::ptr_eq(
        &balancer(&second).unwrap(),
        &balancer(&b.build()).unwrap()
    ));
}

#[tokio::test]
async fn a_service_without_a_certificate_shows_its_upstreams() {
    let mut b = builder();
    let pair = json!({"id": id(9), "cert": "{vault://env/cert}", "key": "{vault://env/cert_key}", "created_at": 1, "updated_at": 1});
    let certificate = Row::Certificate(serde_json::from_value(pair).unwrap());
    b.apply(
        2,
        vec![
            upstream(10, "up", json!({"client_certificate": {"id": id(9)}})),
            change("certificates", 9, Some(certificate)),
        ],
    );
    let shows = |s: &Snapshot| {
        let service = find(s, "/").unwrap().service.clone().unwrap();
        service.client_certificate.is_some()
    };
    assert!(shows(&b.build()));
    b.apply(3, vec![change("certificates", 9, None)]);
    assert!(!shows(&b.build()));
}
