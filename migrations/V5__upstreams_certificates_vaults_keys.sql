create table certificates (
    id uuid primary key,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    cert text not null,
    key text not null,
    cert_alt text,
    key_alt text,
    tags text[]
);

create index certificates_tags_idx on certificates using gin (tags);

create table snis (
    id uuid primary key,
    name text not null constraint snis_name_key unique,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    tags text[],
    certificate_id uuid not null constraint snis_certificate_id_fkey references certificates on delete restrict
);

create index snis_tags_idx on snis using gin (tags);
create index snis_certificate_id_idx on snis (certificate_id, id);

create table ca_certificates (
    id uuid primary key,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    cert text not null,
    cert_digest text constraint ca_certificates_cert_digest_key unique,
    tags text[]
);

create index ca_certificates_tags_idx on ca_certificates using gin (tags);

-- Until now there were no certificates to point at: no row is in the way, and the check is quick.
alter table services add constraint services_client_certificate_id_fkey
    foreign key (client_certificate_id) references certificates on delete restrict;
create index services_client_certificate_id_idx on services (client_certificate_id, id) where client_certificate_id is not null;
-- To see whether an authority is still trusted by somebody before it goes.
create index services_ca_certificates_idx on services using gin (ca_certificates) where ca_certificates is not null;

create table upstreams (
    id uuid primary key,
    created_at timestamptz not null,
    name text not null constraint upstreams_name_key unique,
    updated_at timestamptz not null,
    algorithm text,
    hash_on text,
    hash_fallback text,
    hash_on_header text,
    hash_fallback_header text,
    hash_on_cookie text,
    hash_on_cookie_path text,
    hash_on_query_arg text,
    hash_fallback_query_arg text,
    hash_on_uri_capture text,
    hash_fallback_uri_capture text,
    slots bigint,
    healthchecks jsonb not null,
    tags text[],
    host_header text,
    client_certificate_id uuid constraint upstreams_client_certificate_id_fkey references certificates on delete restrict,
    use_srv_name boolean
);

create index upstreams_tags_idx on upstreams using gin (tags);
create index upstreams_client_certificate_id_idx on upstreams (client_certificate_id, id) where client_certificate_id is not null;

create table targets (
    id uuid primary key,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    upstream_id uuid not null constraint targets_upstream_id_fkey references upstreams on delete cascade,
    target text not null,
    weight bigint,
    tags text[]
);

create unique index targets_upstream_target_key on targets (upstream_id, target);
create index targets_tags_idx on targets using gin (tags);
create index targets_upstream_id_idx on targets (upstream_id, id);

create table vaults (
    id uuid primary key,
    prefix text not null constraint vaults_prefix_key unique,
    name text not null,
    description text,
    config jsonb,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    tags text[]
);

create index vaults_tags_idx on vaults using gin (tags);

create table key_sets (
    id uuid primary key,
    name text constraint key_sets_name_key unique,
    tags text[],
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create index key_sets_tags_idx on key_sets using gin (tags);

create table keys (
    id uuid primary key,
    set_id uuid constraint keys_set_id_fkey references key_sets on delete cascade,
    name text constraint keys_name_key unique,
    kid text not null,
    jwk text,
    pem jsonb,
    tags text[],
    created_at timestamptz not null,
    updated_at timestamptz not null
);

-- "In no set" is a set too.
create unique index keys_kid_set_key on keys (kid, coalesce(set_id, '00000000-0000-0000-0000-000000000000'));
create index keys_tags_idx on keys using gin (tags);
create index keys_set_id_idx on keys (set_id, id) where set_id is not null;
