use crate::migrate::{self, MigrateError};
use crate::testpg::{self, Server, database};

#[tokio::test]
async fn tables_are_what_the_entities_say() {
    let store = super::store().await;
    assert_eq!(store.check_schema().await.unwrap(), Vec::<String>::new());
    store
        .pool()
        .query(
            "alter table services drop constraint services_name_key",
            &[],
        )
        .await
        .unwrap();
    store
        .pool()
        .query("alter table services alter port type text", &[])
        .await
        .unwrap();
    let found = store.check_schema().await.unwrap();
    assert_eq!(
        found,
        [
            "services.port is text and not int8",
            "services has no unique index services_name_key"
        ]
    );
}

#[tokio::test]
async fn nodes_that_start_at_once_migrate_once() {
    let (server, name) = testpg::empty();
    let cfg = server.cfg(&name);
    assert_eq!(
        migrate::status(&cfg).await.unwrap().pending,
        migrate::list()
    );
    let nodes = (0..6).map(|_| {
        let cfg = cfg.clone();
        tokio::spawn(async move { migrate::up(&cfg).await.unwrap() })
    });
    let done: Vec<_> = futures::future::try_join_all(nodes).await.unwrap();
    assert_eq!(done.iter().filter(|d| !d.is_empty()).count(), 1, "{done:?}");
    assert_eq!(done.concat(), migrate::list());
    let status = migrate::status(&cfg).await.unwrap();
    assert_eq!(
        (status.applied, status.pending),
        (migrate::list(), Vec::new())
    );
}

#[tokio::test]
async fn reset_leaves_nothing_of_ours_and_everything_of_others() {
    let (server, name) = testpg::empty();
    let cfg = server.cfg(&name);
    server.psql(&name, "create table theirs (id int)");
    migrate::up(&cfg).await.unwrap();
    migrate::reset(&cfg).await.unwrap();
    let left = server.psql(&name, "select string_agg(table_name, ' ') from information_schema.tables where table_schema = 'public'");
    assert_eq!(left, "theirs");
    migrate::up(&cfg).await.unwrap();
}

#[tokio::test]
async fn another_schema_is_made_and_used() {
    let (server, name) = testpg::empty();
    let cfg = crate::PgConfig {
        schema: Some("gate\"way".into()),
        ..server.cfg(&name)
    };
    migrate::bootstrap(&cfg).await.unwrap();
    let store = super::on(cfg.clone());
    store
        .insert(
            &super::def("services"),
            super::service(serde_json::json!({})),
        )
        .await
        .unwrap();
    assert_eq!(store.check_schema().await.unwrap(), Vec::<String>::new());
    assert_eq!(
        server.psql(&name, "select count(*) from \"gate\"\"way\".services"),
        "1"
    );
    migrate::reset(&cfg).await.unwrap();
}

fn server_of(cfg: &crate::PgConfig) -> &'static Server {
    let (server, _) = testpg::empty();
    assert_eq!(server.port, cfg.port);
    server
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let cfg = database().await;
    server_of(&cfg).psql(
        &cfg.database,
        "insert into silverback_migrations select version + 1000, 'from_the_future', applied_on, checksum \
         from silverback_migrations where version = 1",
    );
    for error in [
        migrate::up(&cfg).await.unwrap_err(),
        migrate::status(&cfg).await.unwrap_err(),
    ] {
        assert!(
            matches!(&error, MigrateError::Newer { version: 1001, .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
    let cfg = database().await;
    server_of(&cfg).psql(
        &cfg.database,
        "update silverback_migrations set checksum = '1' where version = 2",
    );
    let error = migrate::up(&cfg).await.unwrap_err();
    assert!(
        matches!(&error, MigrateError::Changed { version: 2, .. }),
        "{error}"
    );
}
