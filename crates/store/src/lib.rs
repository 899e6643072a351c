//! Postgres: pool, migrations, SQL made from the entity definitions, change log, LISTEN
