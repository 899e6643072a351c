//! What a change leaves as it was, and that a changed snapshot is the one that a whole build makes.

use super::*;

#[tokio::test]
async fn a_route_leaves_other_routes_and_a_plugin_leaves_the_router() {
    let mut b = Builder::new(registries());
    b.apply(1, vec![service(1), route(2, "/a", 1)]);
    let one = b.build();
    b.apply(2, vec![route(3, "/b", 1)]);
    let two = b.build();
    assert!(find(&one, "/a").unwrap().same(&find(&two, "/a").unwrap()));
    let two = b.settle().unwrap_or(two);
    b.apply(3, vec![plugin(5, "mark", [3, 0, 0], mark("m"))]);
    let three = b.build();
    assert!(Arc::ptr_eq(&two.router, &three.router));
    assert_eq!(ask(&three, "/b", "").await, "m");
    assert_eq!(ask(&three, "/a", "").await, "next");
}

#[tokio::test]
async fn loading_the_same_rows_again_keeps_what_was_made_of_them() {
    let mut b = Builder::new(registries());
    b.apply(
        1,
        vec![
            service(1),
            route(2, "/", 1),
            plugin(5, "mark", [0, 0, 0], mark("m")),
        ],
    );
    let before = b.build();
    let again: Tables = serde_json::from_value(serde_json::to_value(b.tables()).unwrap()).unwrap();
    b.load(again);
    let after = b.build();
    let service = |s: &Snapshot| find(s, "/").unwrap().service.clone().unwrap();
    assert!(Arc::ptr_eq(&service(&before), &service(&after)));
    assert!(Arc::ptr_eq(&before.global, &after.global));
}

#[tokio::test]
async fn the_retry_account_of_a_service_survives_a_change_of_its_row() {
    let mut b = Builder::new(registries());
    b.apply(1, vec![service(1), route(2, "/", 1)]);
    let now = silverback_retry::Moment::from_millis(1_000);
    find(&b.build(), "/").unwrap().budgets.deposit(now);
    b.apply(2, vec![service(1)]);
    let deposits: Vec<_> = find(&b.build(), "/")
        .unwrap()
        .budgets
        .gauges(now)
        .iter()
        .map(|g| g.deposits)
        .collect();
    assert_eq!(deposits, [1, 1]);
}

/// What a snapshot answers for the paths that the test below uses.
fn all_answers(s: &Snapshot) -> Vec<(String, Option<Uuid>, bool)> {
    let paths = (0..40).map(|n| format!("/p{n}"));
    let answer = |path: String| {
        let found = find(s, &path).map(|r| r.info().id);
        let shown = found.is_some_and(|id| s.row("routes", id).is_some());
        (path, found, shown)
    };
    paths.map(answer).collect()
}

#[tokio::test]
async fn amended_routes_are_those_of_a_whole_build() {
    let mut b = Builder::new(registries());
    let start = (10..30).map(|n| route(n, &format!("/p{}", n - 10), 1 + n % 2));
    b.apply(
        1,
        [service(1), service(2)].into_iter().chain(start).collect(),
    );
    b.build();
    let off = json!({
        "id": id(2), "created_at": 1, "updated_at": 2, "protocol": "http", "host": "up.test", "port": 80, "enabled": false,
    });
    let off = change(
        "services",
        2,
        Some(Row::Service(serde_json::from_value(off).unwrap())),
    );
    let steps = vec![
        vec![route(40, "/p30", 1)],
        vec![change("routes", 12, None), route(13, "/p31", 2)],
        vec![route(40, "/p32", 2), route(41, "/p0/longer", 1)],
        vec![off],
        vec![change("routes", 40, None), route(12, "/p2", 1)],
        vec![service(2), service(3), route(42, "/p33", 3)],
        vec![plugin(5, "mark", [42, 0, 0], mark("m"))],
        vec![change("routes", 42, None), change("services", 3, None)],
        vec![route(43, "~/p(33|34)$", 1), route(44, "/p34", 1)],
    ];
    for (n, step) in steps.into_iter().enumerate() {
        b.apply(2 + n as i64, step);
        let amended = b.build();
        let whole = build(b.tables().clone(), registries()).unwrap();
        assert_eq!(all_answers(&amended), all_answers(&whole), "after step {n}");
        assert_eq!(
            amended.routes.iter().count(),
            whole.routes.iter().count(),
            "after step {n}"
        );
        assert!(amended.routes.by_id(id(99)).is_none());
    }
    let settled = b.settle().unwrap();
    assert_eq!(all_answers(&settled), all_answers(&b.build()));
    assert!(b.settle().is_none(), "nothing is left to settle");
}

#[tokio::test]
async fn more_changes_than_are_amended_are_built_as_a_whole() {
    let mut b = Builder::new(registries());
    b.apply(1, vec![service(1)]);
    b.build();
    b.apply(
        2,
        (10..1000).map(|n| route(n, &format!("/p{n}"), 1)).collect(),
    );
    let all = b.build();
    assert!(b.settle().is_none());
    assert_eq!(find(&all, "/p999").map(|r| r.info().id), Some(id(999)));
}
