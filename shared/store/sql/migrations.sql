-- Statements on the schema's own version.

-- name: lock
-- One migration at a time in this database; freed with the transaction. The number means nothing, it only is ours.
select pg_advisory_xact_lock(7236451908);

-- name: create_table
create table if not exists schema_migrations (
    version    integer primary key,
    name       text not null,
    checksum   text not null,
    applied_at timestamptz not null default now()
);

-- name: list_applied
select version, name, checksum from schema_migrations order by version;

-- name: insert_applied
insert into schema_migrations (version, name, checksum) values (%(version)s, %(name)s, %(checksum)s);

-- name: is_migrated
select to_regclass('schema_migrations') is not null as is_migrated;

-- name: latest_applied
select coalesce(max(version), 0) as version from schema_migrations;
