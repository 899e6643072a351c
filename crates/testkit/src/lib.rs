//! A whole gateway in-process, mock upstreams, a Postgres per test run
