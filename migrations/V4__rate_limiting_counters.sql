-- What nodes have counted together, for rate limits over a cluster.
create table rate_limiting_counters (
    key text not null,
    window_start bigint not null,
    value bigint not null,
    expires_at timestamptz not null,
    primary key (key, window_start)
) with (fillfactor = 50);

create index rate_limiting_counters_expires_at_idx on rate_limiting_counters (expires_at);
