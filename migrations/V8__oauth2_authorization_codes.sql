create table oauth2_authorization_codes (
    id uuid primary key,
    created_at timestamptz not null,
    service_id uuid constraint oauth2_authorization_codes_service_id_fkey references services on delete cascade,
    credential_id uuid not null constraint oauth2_authorization_codes_credential_id_fkey references oauth2_credentials on delete cascade,
    code text constraint oauth2_authorization_codes_code_key unique,
    authenticated_userid text,
    scope text,
    challenge text,
    challenge_method text,
    plugin_id uuid constraint oauth2_authorization_codes_plugin_id_fkey references plugins on delete cascade,
    expires_at timestamptz
);

create index oauth2_authorization_codes_service_id_idx on oauth2_authorization_codes (service_id, id) where service_id is not null;
create index oauth2_authorization_codes_credential_id_idx on oauth2_authorization_codes (credential_id, id);
create index oauth2_authorization_codes_plugin_id_idx on oauth2_authorization_codes (plugin_id, id) where plugin_id is not null;
create index oauth2_authorization_codes_expires_at_idx on oauth2_authorization_codes (expires_at) where expires_at is not null;
