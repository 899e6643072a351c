create table keyauth_credentials (
    id uuid primary key,
    created_at timestamptz not null,
    consumer_id uuid not null constraint keyauth_credentials_consumer_id_fkey references consumers on delete cascade,
    key text constraint keyauth_credentials_key_key unique,
    tags text[],
    expires_at timestamptz
);

create index keyauth_credentials_tags_idx on keyauth_credentials using gin (tags);
create index keyauth_credentials_consumer_id_idx on keyauth_credentials (consumer_id, id);
create index keyauth_credentials_expires_at_idx on keyauth_credentials (expires_at) where expires_at is not null;
