use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use silverback_plugin::auth::AuthenticatedGroups;
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeDirectory, FakeRows, FakeServices, Outcome, config, consumer,
    entity_schema_without_descriptions, schema_without_descriptions,
};
use silverback_plugin::{Consumer, Credential, InstanceInfo, Plugin, Prepared};
use uuid::Uuid;

use crate::{Sessions, entity};

const NOW: u64 = 1_700_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW + seconds)
}

fn alice() -> Arc<Consumer> {
    consumer(7, "alice")
}

fn key_of(owner: &Arc<Consumer>) -> Arc<Credential> {
    Arc::new(Credential {
        lookup: b"k".as_slice().into(),
        consumer: owner.clone(),
        expires_at: None,
        id: Uuid::from_u128(100),
        extra: Map::new(),
        prepared: Prepared::default(),
    })
}

fn sessions(mut settings: Value) -> Compiled<Sessions> {
    settings["secret"] = "s".into();
    Compiled::new(settings)
}

/// A request of somebody whom an authentication plugin lets in.
fn let_in(seconds: u64) -> Exchange {
    let owner = alice();
    let key = key_of(&owner);
    Exchange::get("/")
        .consumer(&owner)
        .authenticated(Some(&owner), Some(&key))
        .at(at(seconds))
}

/// A request with cookies and nothing else.
fn with(cookies: &str, seconds: u64) -> Exchange {
    request("GET", "/", cookies, seconds)
}

fn request(method: &str, path: &str, cookies: &str, seconds: u64) -> Exchange {
    Exchange::new(method, path)
        .header("cookie", cookies)
        .consumer(&alice())
        .at(at(seconds))
}

/// The cookies that a browser has after this.
fn cookies(done: &Outcome) -> String {
    let set = done.header_values("set-cookie");
    let pairs = set.iter().filter_map(|c| c.split("; ").next());
    pairs.collect::<Vec<_>>().join("; ")
}

fn is_let_in(done: &Outcome) -> bool {
    done.facts().credential.is_some()
}

#[test]
fn schemas_are_those_of_kong() {
    let mut facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    let mut ours = schema_without_descriptions::<Sessions>();
    // The default of the secret is made up by each.
    for schema in [&mut facts, &mut ours] {
        let made_up = &mut schema["fields"][2]["config"]["fields"][0]["secret"]["default"];
        assert_eq!(made_up.as_str().unwrap().len(), 44);
        *made_up = Value::Null;
    }
    assert_eq!(ours, facts);

    let facts: Value =
        serde_json::from_str(include_str!("../testdata/session_schema.json")).unwrap();
    assert_eq!(entity_schema_without_descriptions(&entity::def()), facts);
    assert!(entity::def().ttl);
}

#[test]
fn old_names_of_settings_are_taken() {
    let old = json!({
        "cookie_lifetime": 10, "cookie_idletime": 20, "cookie_discard": 30, "cookie_renew": 40,
        "cookie_samesite": "off", "cookie_httponly": false, "cookie_persistent": true,
    });
    let config = config::<Sessions>(old).unwrap();
    assert_eq!(config["rolling_timeout"], 10);
    assert_eq!(config["idling_timeout"], 20);
    assert_eq!(config["stale_ttl"], 30);
    assert_eq!(config["cookie_same_site"], "Lax");
    assert_eq!(config["cookie_http_only"], false);
    assert_eq!(config["remember"], true);
    let none = config_of(json!({ "cookie_idletime": null }));
    assert_eq!(none["idling_timeout"], 0);
}

fn config_of(given: Value) -> Map<String, Value> {
    config::<Sessions>(given).unwrap()
}

#[tokio::test]
async fn who_was_let_in_once_is_let_in_by_a_cookie() {
    let plugin = sessions(json!({}));
    let first = let_in(0).run_on(&plugin).await;
    let set = first.header("set-cookie").unwrap();
    assert!(
        set.starts_with("session=AQAA")
            && set.ends_with("; Path=/; SameSite=Strict; Secure; HttpOnly"),
        "{set}"
    );

    let second = with(&cookies(&first), 10).run_on(&plugin).await;
    second.passed();
    let id = Uuid::from_u128(7).to_string();
    assert_eq!(second.upstream_header("x-consumer-id"), Some(id.as_str()));
    assert_eq!(second.upstream_header("x-consumer-username"), Some("alice"));
    let key = Uuid::from_u128(100);
    assert_eq!(
        second.upstream_header("x-credential-identifier"),
        Some(key.to_string().as_str())
    );
    assert_eq!(second.upstream_header("x-anonymous-consumer"), None);
    assert_eq!(second.facts().credential.as_ref().unwrap().id, key);
    assert_eq!(second.header("set-cookie"), None);
}

#[tokio::test]
async fn sessions_of_kong_go_on() {
    let plugin = Compiled::<Sessions>::new(json!({ "secret": "session-secret-abc" }));
    let cookie = "session=AQAAx779j6tQYuwl4mF_pf-UAtCT4EaPDSZ1Fob9uGGCUB2_vgJrAAAAAACHAADPTgboI6E3UbXbin-o0b7nAAAAAIwhRkpIpFZ_75s9PiJJlgHn7UJi1cLh2gUeHvq0dRnKS1UxuOW2l5x_38KNmH4px_FeQba-v_x7NwHpCf5BdRftV4WgkRzkerdJkjCeiFzLlsL-8_WP76oK9_j_6hSd-IVuTcO_fBOd705fwSjujzbuSwKZs";
    let owner = consumer(0x0000_0003_0000_4000_8000_0000_0000_0001, "alice");
    let made = UNIX_EPOCH + Duration::from_secs(KONGS_TIME + 5);
    let done = Exchange::get("/")
        .header("cookie", cookie)
        .consumer(&owner)
        .at(made)
        .run_on(&plugin)
        .await;
    assert_eq!(done.upstream_header("x-consumer-username"), Some("alice"));
    assert_eq!(
        done.upstream_header("x-credential-identifier"),
        Some("644ab6bd-a22f-4e61-a271-5b41f42dbdbe")
    );
}

/// When Kong made that session.
const KONGS_TIME: u64 = 1_795_342_015;

#[tokio::test]
async fn nobody_else_gets_a_session() {
    let plugin = sessions(json!({}));
    let nobody = Exchange::get("/").run_on(&plugin).await;
    assert_eq!(nobody.header("set-cookie"), None);
    let anonymous = Exchange::get("/").authenticated(Some(&alice()), None);
    assert_eq!(anonymous.run_on(&plugin).await.header("set-cookie"), None);
    for cookies in [
        "session=abc",
        "session=",
        "other=x",
        &format!("session={}", "A".repeat(200)),
    ] {
        let done = with(cookies, 0).run_on(&plugin).await;
        assert!(!is_let_in(&done), "{cookies}");
    }
    let of_other_secret = let_in(0).run::<Sessions>(json!({ "secret": "t" })).await;
    let done = with(&cookies(&of_other_secret), 0).run_on(&plugin).await;
    assert!(!is_let_in(&done));
}

#[tokio::test]
async fn everybody_gets_a_session_of_their_own() {
    let plugin = sessions(json!({}));
    let first = let_in(0).run_on(&plugin).await;
    let bob = consumer(8, "bob");
    let key = key_of(&bob);
    let second = Exchange::get("/")
        .authenticated(Some(&bob), Some(&key))
        .at(at(1));
    let second = second.run_on(&plugin).await;
    assert_ne!(cookies(&first), cookies(&second));
    let done = with(&cookies(&second), 2)
        .consumer(&bob)
        .run_on(&plugin)
        .await;
    assert_eq!(done.upstream_header("x-consumer-username"), Some("bob"));
}

#[tokio::test]
async fn a_session_ends_when_it_is_not_used_or_too_old() {
    let plugin = sessions(
        json!({ "idling_timeout": 100, "rolling_timeout": 1000, "absolute_timeout": 1500 }),
    );
    let mut browser = cookies(&let_in(0).run_on(&plugin).await);
    assert!(!is_let_in(&with(&browser, 101).run_on(&plugin).await));

    // Each use is noted, if the last note is more than a minute old.
    let used = with(&browser, 60).run_on(&plugin).await;
    assert!(is_let_in(&used) && used.header("set-cookie").is_none());
    for seconds in [90, 180, 270, 360, 450, 540, 630, 720] {
        let used = with(&browser, seconds).run_on(&plugin).await;
        assert!(is_let_in(&used), "{seconds}");
        browser = cookies(&used);
    }
    // In its last quarter it is replaced, and stays good for as long again, but not for longer than a session may last.
    let replaced = with(&browser, 751).run_on(&plugin).await;
    assert!(is_let_in(&replaced));
    assert_ne!(cookies(&replaced)[..80], browser[..80]);
    browser = cookies(&replaced);
    let mut seconds = 840;
    while seconds <= 1500 {
        let used = with(&browser, seconds).run_on(&plugin).await;
        assert!(is_let_in(&used), "{seconds}");
        browser = cookies(&used);
        seconds += 90;
    }
    assert!(!is_let_in(&with(&browser, 1501).run_on(&plugin).await));
}

#[tokio::test]
async fn timeouts_of_zero_never_come() {
    let never = json!({ "idling_timeout": 0, "rolling_timeout": 0, "absolute_timeout": 0 });
    let plugin = sessions(never);
    let browser = cookies(&let_in(0).run_on(&plugin).await);
    let done = with(&browser, 50_000_000).run_on(&plugin).await;
    assert!(is_let_in(&done) && done.header("set-cookie").is_none());
}

#[tokio::test]
async fn a_session_ends_when_its_owner_says_so() {
    let plugin = sessions(json!({ "cookie_secure": false }));
    let browser = cookies(&let_in(0).run_on(&plugin).await);
    for (method, path) in [
        ("GET", "/?session_logout=1"),
        ("POST", "/"),
        ("PUT", "/?session_logout"),
    ] {
        let done = request(method, path, &browser, 1).run_on(&plugin).await;
        done.passed();
    }
    for (method, path) in [
        ("POST", "/?a=b&session_logout=1"),
        ("DELETE", "/?session_logout"),
    ] {
        let done = request(method, path, &browser, 1).run_on(&plugin).await;
        done.exit_status(200);
        assert_eq!(done.body_text(), "");
        assert_eq!(
            done.header_values("set-cookie"),
            [
                "session=; Path=/; SameSite=Strict; HttpOnly; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0"
            ]
        );
    }
}

#[tokio::test]
async fn bodies_are_searched_for_the_wish_when_told_so() {
    let deaf = sessions(json!({}));
    let plugin = sessions(json!({ "read_body_for_logout": true }));
    let browser = cookies(&let_in(0).run_on(&plugin).await);
    let form = "application/x-www-form-urlencoded";
    let post = |kind: &str, body: &'static str| {
        request("POST", "/", &browser, 1)
            .header("content-type", kind)
            .body(body)
    };
    post(form, "session_logout=1").run_on(&deaf).await.passed();
    for (kind, body) in [
        (form, "a=b&session_logout=1"),
        ("application/json", r#"{"session_logout": true}"#),
    ] {
        post(kind, body).run_on(&plugin).await.exit_status(200);
    }
    for (kind, body) in [
        (form, "session_logout2=1"),
        ("application/json", r#"{"session_logout": false}"#),
        ("application/json", "{"),
        ("text/plain", "session_logout=1"),
    ] {
        let done = post(kind, body).run_on(&plugin).await;
        done.passed();
        assert!(is_let_in(&done), "{body}");
    }
}

#[tokio::test]
async fn a_session_ends_with_its_consumer() {
    let plugin = sessions(json!({}));
    let browser = cookies(&let_in(0).run_on(&plugin).await);
    let done = Exchange::get("/")
        .header("cookie", &browser)
        .at(at(1))
        .run_on(&plugin)
        .await;
    done.passed();
    assert!(!is_let_in(&done));
    assert!(done.header("set-cookie").unwrap().contains("Max-Age=0"));
}

#[tokio::test]
async fn who_is_remembered_gets_a_session_anew() {
    let plugin = sessions(
        json!({ "remember": true, "remember_rolling_timeout": 5000, "remember_absolute_timeout": 8000 }),
    );
    let first = let_in(0).run_on(&plugin).await;
    let set = first.header_values("set-cookie");
    assert_eq!(set.len(), 2);
    assert!(set[1].starts_with("remember=AQAA"));
    assert!(
        set[1].ends_with("; Expires=Tue, 14 Nov 2023 23:36:40 GMT; Max-Age=5000"),
        "{}",
        set[1]
    );

    // The browser was closed in the meantime.
    let remembered = cookies(&first).split_once("; ").unwrap().1.to_owned();
    let second = with(&remembered, 4000).run_on(&plugin).await;
    assert!(is_let_in(&second));
    assert_eq!(second.header_values("set-cookie").len(), 2);
    let browser = cookies(&second);
    assert!(is_let_in(&with(&browser, 4001).run_on(&plugin).await));
    let again = browser
        .split("; ")
        .find(|c| c.starts_with("remember="))
        .unwrap();
    assert!(is_let_in(&with(again, 8000).run_on(&plugin).await));
    assert!(!is_let_in(&with(again, 8001).run_on(&plugin).await));
    assert!(!is_let_in(&with(&remembered, 5001).run_on(&plugin).await));

    let out = request("POST", "/?session_logout=1", &browser, 4002)
        .run_on(&plugin)
        .await;
    out.exit_status(200);
    assert_eq!(cookies(&out), "session=; remember=");
    // One cookie is not good for the other.
    let value = remembered.strip_prefix("remember=").unwrap();
    assert!(!is_let_in(
        &with(&format!("session={value}"), 1).run_on(&plugin).await
    ));
}

#[tokio::test]
async fn groups_stay_with_the_session() {
    let plugin = sessions(json!({}));
    let browser = {
        let plugin = plugin.plugin();
        let mut session = crate::session::Session::new(&plugin.terms, NOW);
        let groups: [Box<str>; 2] = ["a".into(), "b c".into()];
        session.assign(
            &Uuid::from_u128(7).to_string(),
            "x",
            Some(&groups[..]),
            "alice",
        );
        let none = http::HeaderMap::new();
        let mut effects = session.save(&plugin.terms, &none, NOW).unwrap();
        let (_, value) = effects.cookies.remove(0).header();
        value
            .to_str()
            .unwrap()
            .split_once(';')
            .unwrap()
            .0
            .to_owned()
    };
    let done = with(&browser, 1)
        .header("x-authenticated-groups", "root")
        .run_on(&plugin)
        .await;
    assert_eq!(
        done.upstream_header("x-authenticated-groups"),
        Some("a, b c")
    );
    let groups: Option<&AuthenticatedGroups> = done.facts().slots.get();
    assert_eq!(groups.unwrap().0, ["a".into(), "b c".into()]);
    // What is no id of a credential passes as it is.
    assert_eq!(done.upstream_header("x-credential-identifier"), Some("x"));

    let plain = cookies(&let_in(0).run_on(&plugin).await);
    let done = with(&plain, 1)
        .header("x-authenticated-groups", "root")
        .run_on(&plugin)
        .await;
    assert_eq!(done.upstream_header("x-authenticated-groups"), None);
}

#[tokio::test]
async fn audiences_share_a_cookie_but_not_what_it_says() {
    let (a, b) = (
        sessions(json!({ "audience": "a" })),
        sessions(json!({ "audience": "b" })),
    );
    let of_a = cookies(&let_in(0).run_on(&a).await);
    assert!(!is_let_in(&with(&of_a, 1).run_on(&b).await));
    let both = let_in(1).header("cookie", &of_a).run_on(&b).await;
    let both = cookies(&both);
    assert!(
        is_let_in(&with(&both, 2).run_on(&a).await) && is_let_in(&with(&both, 2).run_on(&b).await)
    );
    let left = request("POST", "/?session_logout=1", &both, 3)
        .run_on(&b)
        .await;
    left.exit_status(200);
    let left = cookies(&left);
    assert!(
        is_let_in(&with(&left, 4).run_on(&a).await) && !is_let_in(&with(&left, 4).run_on(&b).await)
    );
}

#[tokio::test]
async fn properties_are_told_in_headers() {
    let all = [
        "id",
        "audience",
        "subject",
        "timeout",
        "idling-timeout",
        "rolling-timeout",
        "absolute-timeout",
    ];
    let plugin =
        sessions(json!({ "request_headers": all, "response_headers": all, "audience": "app" }));
    let first = let_in(0).run_on(&plugin).await;
    assert_eq!(first.header("session-id").unwrap().len(), 43);
    let second = with(&cookies(&first), 30).run_on(&plugin).await;
    for header in [
        |o: &Outcome, n: &str| o.header(n).map(str::to_owned),
        |o: &Outcome, n: &str| o.upstream_header(n).map(str::to_owned),
    ] {
        let told = |name| header(&second, name).unwrap();
        assert_eq!(told("session-id"), first.header("session-id").unwrap());
        assert_eq!(told("session-audience"), "app");
        assert_eq!(told("session-subject"), "alice");
        assert_eq!(told("session-timeout"), "870");
        assert_eq!(told("session-idling-timeout"), "870");
        assert_eq!(told("session-rolling-timeout"), "3570");
        assert_eq!(told("session-absolute-timeout"), "86370");
    }
}

#[tokio::test]
async fn the_upstreams_other_cookies_stay() {
    let plugin = sessions(json!({}));
    let done = let_in(0)
        .upstream(
            200,
            &[
                ("set-cookie", "a=1"),
                ("set-cookie", "session=upstream"),
                ("set-cookie", "b=2"),
            ],
            "",
        )
        .run_on(&plugin)
        .await;
    let set = done.header_values("set-cookie");
    assert_eq!(set[..2], ["a=1", "b=2"]);
    assert!(set[2].starts_with("session=AQAA") && set.len() == 3);
}

/// A node with a database.
struct Node {
    rows: Arc<FakeRows>,
    plugin: Compiled<Sessions>,
}

impl Node {
    fn new(mut settings: Value) -> Self {
        settings["secret"] = "s".into();
        settings["storage"] = "kong".into();
        let rows = Arc::new(FakeRows::new(Sessions::entities()));
        let services = FakeServices::with_rows(rows.clone());
        let plugin = Compiled::with(settings, &InstanceInfo::default(), &services);
        Node { rows, plugin }
    }

    /// The rows, when there are that many: they are written in the background.
    async fn kept(&self, count: usize) -> Vec<Map<String, Value>> {
        loop {
            let rows = self.rows.all("sessions");
            if rows.len() == count {
                return rows;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn sessions_can_be_kept_in_the_database() {
    let node = Node::new(json!({}));
    let first = let_in(0).run_on(&node.plugin).await;
    let browser = cookies(&first);
    assert_eq!(browser.len(), "session=".len() + crate::seal::HEADER_TEXT);
    let row = node.kept(1).await.remove(0);
    assert_eq!(
        (&row["ttl"], &row["expires"]),
        (&json!(3600), &json!(NOW + 3600))
    );
    assert!(row["data"].as_str().unwrap().starts_with("[\""));

    // Another node has not heard of it yet: it asks the database. Later it has it in memory.
    assert!(is_let_in(&with(&browser, 1).run_on(&node.plugin).await));
    assert_eq!(node.rows.reads(), 1);
    let mut memory = FakeDirectory::default();
    memory.add_consumer(&alice());
    let key = row["session_id"].as_str().unwrap();
    memory.add_issued("sessions", key, None, row.clone());
    let known = with(&browser, 1)
        .directory(memory)
        .run_on(&node.plugin)
        .await;
    assert!(is_let_in(&known));
    assert_eq!(node.rows.reads(), 1);

    let out = request("POST", "/?session_logout=1", &browser, 2)
        .run_on(&node.plugin)
        .await;
    out.exit_status(200);
    assert!(node.rows.all("sessions").is_empty());
    assert!(!is_let_in(&with(&browser, 3).run_on(&node.plugin).await));
}

#[tokio::test]
async fn a_session_that_was_replaced_is_good_for_a_moment() {
    let node = Node::new(json!({ "idling_timeout": 0 }));
    let old = cookies(&let_in(0).run_on(&node.plugin).await);
    node.kept(1).await;
    node.rows.set_now(1_700_002_701);
    let replaced = with(&old, 2701).run_on(&node.plugin).await;
    let rows = node.rows.all("sessions");
    assert_eq!(
        (rows.len(), &rows[0]["ttl"], &rows[1]["ttl"]),
        (2, &json!(10), &json!(3600))
    );
    assert!(is_let_in(&with(&old, 2705).run_on(&node.plugin).await));
    node.rows.set_now(1_700_002_711);
    assert!(!is_let_in(&with(&old, 2711).run_on(&node.plugin).await));
    assert!(is_let_in(
        &with(&cookies(&replaced), 2711).run_on(&node.plugin).await
    ));
}

#[tokio::test]
async fn without_the_database_requests_pass_without_a_session() {
    let none = Compiled::<Sessions>::new(json!({ "storage": "kong" }));
    let done = let_in(0).run_on(&none).await;
    done.passed();
    assert_eq!(done.header("set-cookie"), None);

    let node = Node::new(json!({}));
    let browser = cookies(&let_in(0).run_on(&node.plugin).await);
    node.kept(1).await;
    node.rows.set_away(true);
    let done = with(&browser, 1).run_on(&node.plugin).await;
    done.passed();
    assert!(!is_let_in(&done));
}

#[tokio::test]
async fn sessions_that_wait_are_written_when_the_node_stops() {
    let rows = Arc::new(FakeRows::new(Sessions::entities()));
    let (later, inbox) = tokio::sync::mpsc::channel(4);
    let put = |key: &str| {
        vec![crate::session::Deed::Put {
            key: key.to_owned(),
            data: "[]".to_owned(),
            ttl: 10,
            now: NOW,
            replaces: None,
        }]
    };
    later.try_send(put("one")).unwrap();
    later.try_send(put("two")).unwrap();
    // It ends although somebody could still put something in.
    let stopped = Box::pin(std::future::ready(()));
    crate::storage::write_all(rows.clone(), inbox, stopped).await;
    assert_eq!(rows.all("sessions").len(), 2);
    assert!(later.is_closed());
}
