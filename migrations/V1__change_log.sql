-- How nodes learn what changed. Every transaction that writes configuration ends by taking the next revision; the lock of the only row
-- makes commit order = revision order, so a node that has read up to a revision never misses one below it.
create table config_revision (
    only_row boolean primary key default true check (only_row),
    revision bigint not null default 0,
    -- The log has no entries up to here any more: who is further behind reads everything.
    pruned bigint not null default 0,
    -- Another database (a new one, a copy) has another epoch, whatever its revision.
    epoch uuid not null default gen_random_uuid()
) with (fillfactor = 10);

insert into config_revision default values;

create table config_changes (
    id bigint generated always as identity primary key,
    revision bigint not null,
    entity text not null,
    entity_id uuid not null,
    op text not null check (op in ('insert', 'update', 'delete')),
    at timestamptz not null default now(),
    -- For audit: who did it, and the row before and after.
    actor text,
    before jsonb,
    after jsonb
);

create index config_changes_revision_idx on config_changes (revision);
create index config_changes_at_idx on config_changes using brin (at);
