-- Who may use the Admin API, beside those with a client certificate. A token is never kept, only what it is recognised by.
create table admin_tokens (
    id uuid primary key,
    created_at timestamptz not null,
    name text not null constraint admin_tokens_name_key unique,
    role text not null check (role in ('read-only', 'read-write')),
    -- The part of the token by which it is found; not secret.
    lookup text not null constraint admin_tokens_lookup_key unique,
    -- SHA-256 of the whole token.
    hash bytea not null
);
