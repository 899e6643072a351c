create table basicauth_credentials (
    id uuid primary key,
    created_at timestamptz not null,
    consumer_id uuid not null constraint basicauth_credentials_consumer_id_fkey references consumers on delete cascade,
    username text not null constraint basicauth_credentials_username_key unique,
    -- A hash, in hexadecimal digits.
    password text not null,
    tags text[]
);

create index basicauth_credentials_tags_idx on basicauth_credentials using gin (tags);
create index basicauth_credentials_consumer_id_idx on basicauth_credentials (consumer_id, id);

create table hmacauth_credentials (
    id uuid primary key,
    created_at timestamptz not null,
    consumer_id uuid not null constraint hmacauth_credentials_consumer_id_fkey references consumers on delete cascade,
    username text not null constraint hmacauth_credentials_username_key unique,
    secret text,
    tags text[]
);

create index hmacauth_credentials_tags_idx on hmacauth_credentials using gin (tags);
create index hmacauth_credentials_consumer_id_idx on hmacauth_credentials (consumer_id, id);

create table jwt_secrets (
    id uuid primary key,
    created_at timestamptz not null,
    consumer_id uuid not null constraint jwt_secrets_consumer_id_fkey references consumers on delete cascade,
    key text constraint jwt_secrets_key_key unique,
    secret text,
    rsa_public_key text,
    algorithm text,
    tags text[]
);

create index jwt_secrets_tags_idx on jwt_secrets using gin (tags);
create index jwt_secrets_consumer_id_idx on jwt_secrets (consumer_id, id);

create table oauth2_credentials (
    id uuid primary key,
    created_at timestamptz not null,
    consumer_id uuid not null constraint oauth2_credentials_consumer_id_fkey references consumers on delete cascade,
    name text not null,
    client_id text constraint oauth2_credentials_client_id_key unique,
    client_secret text,
    hash_secret boolean not null,
    redirect_uris jsonb,
    tags text[],
    client_type text not null
);

create index oauth2_credentials_tags_idx on oauth2_credentials using gin (tags);
create index oauth2_credentials_consumer_id_idx on oauth2_credentials (consumer_id, id);

create table oauth2_tokens (
    id uuid primary key,
    created_at timestamptz not null,
    service_id uuid constraint oauth2_tokens_service_id_fkey references services on delete cascade,
    credential_id uuid not null constraint oauth2_tokens_credential_id_fkey references oauth2_credentials on delete cascade,
    token_type text not null,
    expires_in bigint not null,
    access_token text constraint oauth2_tokens_access_token_key unique,
    refresh_token text constraint oauth2_tokens_refresh_token_key unique,
    authenticated_userid text,
    scope text,
    expires_at timestamptz
);

create index oauth2_tokens_service_id_idx on oauth2_tokens (service_id, id) where service_id is not null;
create index oauth2_tokens_credential_id_idx on oauth2_tokens (credential_id, id);
create index oauth2_tokens_expires_at_idx on oauth2_tokens (expires_at) where expires_at is not null;

create table acls (
    id uuid primary key,
    created_at timestamptz not null,
    consumer_id uuid not null constraint acls_consumer_id_fkey references consumers on delete cascade,
    "group" text not null,
    tags text[]
);

create unique index acls_consumer_group_key on acls (consumer_id, "group");
create index acls_tags_idx on acls using gin (tags);
create index acls_consumer_id_idx on acls (consumer_id, id);

create table sessions (
    id uuid primary key,
    session_id text not null constraint sessions_session_id_key unique,
    expires bigint,
    data text,
    created_at timestamptz not null,
    expires_at timestamptz
);

create index sessions_expires_at_idx on sessions (expires_at) where expires_at is not null;
