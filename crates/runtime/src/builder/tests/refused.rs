//! Plugins that cannot be made or that fail.

use super::*;

#[tokio::test]
async fn a_plugin_that_cannot_be_made_keeps_its_last_good_form() {
    let mut b = Builder::new(registries());
    b.apply(
        1,
        vec![
            service(1),
            route(2, "/", 1),
            plugin(5, "mark", [0, 0, 0], mark("good")),
        ],
    );
    b.build();
    b.apply(
        2,
        vec![plugin(
            5,
            "mark",
            [0, 0, 0],
            json!({"mark": "new", "bad": true}),
        )],
    );
    assert_eq!(ask(&b.build(), "/", "").await, "good");
    assert_eq!(
        b.problems()[0].to_string(),
        format!("plugins {}: mark: config.bad: is bad", id(5))
    );
    b.apply(3, vec![plugin(5, "mark", [0, 0, 0], mark("new"))]);
    assert_eq!(ask(&b.build(), "/", "").await, "new");
    assert_eq!(b.problems(), []);
}

const REFUSED: &str = "500 An unexpected error occurred";

#[tokio::test]
async fn what_a_plugin_guards_is_refused_while_it_cannot_be_made() {
    let mut b = Builder::new(registries());
    let bad = || plugin(5, "mark", [2, 0, 0], json!({"mark": "", "bad": true}));
    b.apply(
        1,
        vec![
            service(1),
            route(2, "/guarded", 1),
            route(3, "/open", 1),
            bad(),
        ],
    );
    for revision in 2..4 {
        let s = b.build();
        assert_eq!(ask(&s, "/guarded", "").await, REFUSED);
        assert_eq!(ask(&s, "/open", "").await, "next");
        assert_eq!(b.problems().len(), 1);
        b.apply(revision, vec![plugin(6, "mark", [0, 0, 9], mark("m"))]);
    }
    b.apply(4, vec![plugin(5, "mark", [2, 0, 0], mark("mended"))]);
    assert_eq!(ask(&b.build(), "/guarded", "").await, "mended");
    assert_eq!(b.problems(), []);
    b.apply(5, vec![bad()]);
    assert_eq!(ask(&b.build(), "/guarded", "").await, "mended");
}

#[tokio::test]
async fn what_an_unknown_plugin_guards_is_refused() {
    let mut b = Builder::new(registries());
    b.apply(
        1,
        vec![
            service(1),
            route(2, "/guarded", 1),
            route(3, "/open", 1),
            consumer(4, "alice"),
            key(5, 4, "k"),
            plugin(6, "auth", [0, 0, 0], mark("")),
            plugin(7, "newer", [2, 0, 0], json!({})),
            plugin(8, "newer", [0, 0, 4], json!({})),
        ],
    );
    let s = b.build();
    assert_eq!(ask(&s, "/guarded", "").await, REFUSED);
    assert_eq!(ask(&s, "/open", "").await, "next");
    assert_eq!(ask(&s, "/open", "k").await, REFUSED, "of alice");
    let of_the_row = |p: &Problem| p.what == "the plugin 'newer' is not known to this node";
    assert_eq!(b.problems().iter().filter(|p| of_the_row(p)).count(), 2);
    b.apply(
        2,
        vec![change("plugins", 7, None), change("plugins", 8, None)],
    );
    assert_eq!(ask(&b.build(), "/guarded", "k").await, "next");
    assert_eq!(b.problems(), []);
}

#[tokio::test]
async fn a_panic_in_a_plugin_becomes_a_failure() {
    let mut b = Builder::new(registries());
    b.apply(
        1,
        vec![
            service(1),
            route(2, "/", 1),
            plugin(5, "mark", [0, 0, 0], json!({"mark": "", "panic": true})),
        ],
    );
    assert_eq!(
        ask(&b.build(), "/", "").await,
        "mark failed: plugin mark panicked: told to"
    );
}
