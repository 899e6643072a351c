-- Constraints are named <table>_<field>_key, <table>_<field>_id_fkey and <table>_pkey: their names say which field of a refused row
-- is to blame.

create table services (
    id uuid primary key,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    name text constraint services_name_key unique,
    retries bigint,
    protocol text not null,
    host text not null,
    port bigint not null,
    path text,
    connect_timeout bigint,
    write_timeout bigint,
    read_timeout bigint,
    tags text[],
    client_certificate_id uuid,
    tls_verify boolean,
    tls_verify_depth bigint,
    ca_certificates jsonb,
    enabled boolean not null
);

create index services_tags_idx on services using gin (tags);

create table routes (
    id uuid primary key,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    name text constraint routes_name_key unique,
    protocols jsonb not null,
    https_redirect_status_code bigint not null,
    strip_path boolean not null,
    preserve_host boolean not null,
    request_buffering boolean not null,
    response_buffering boolean not null,
    tags text[],
    service_id uuid constraint routes_service_id_fkey references services on delete restrict,
    snis jsonb,
    sources jsonb,
    destinations jsonb,
    methods jsonb,
    hosts jsonb,
    paths jsonb,
    headers jsonb,
    regex_priority bigint,
    path_handling text
);

create index routes_tags_idx on routes using gin (tags);
create index routes_service_id_idx on routes (service_id, id);

create table consumers (
    id uuid primary key,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    username text constraint consumers_username_key unique,
    custom_id text constraint consumers_custom_id_key unique,
    tags text[]
);

create index consumers_tags_idx on consumers using gin (tags);

create table plugins (
    id uuid primary key,
    name text not null,
    instance_name text constraint plugins_instance_name_key unique,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    route_id uuid constraint plugins_route_id_fkey references routes on delete cascade,
    service_id uuid constraint plugins_service_id_fkey references services on delete cascade,
    consumer_id uuid constraint plugins_consumer_id_fkey references consumers on delete cascade,
    config jsonb,
    protocols jsonb not null,
    enabled boolean not null,
    tags text[]
);

-- Of the same plugin there may be one per combination of scopes; "no scope" is such a value too (`nulls not distinct` is younger than
-- the oldest Postgres we run on).
create unique index plugins_name_route_service_consumer_key on plugins (
    name,
    coalesce(route_id, '00000000-0000-0000-0000-000000000000'),
    coalesce(service_id, '00000000-0000-0000-0000-000000000000'),
    coalesce(consumer_id, '00000000-0000-0000-0000-000000000000')
);
create index plugins_tags_idx on plugins using gin (tags);
create index plugins_route_id_idx on plugins (route_id, id) where route_id is not null;
create index plugins_service_id_idx on plugins (service_id, id) where service_id is not null;
create index plugins_consumer_id_idx on plugins (consumer_id, id) where consumer_id is not null;
