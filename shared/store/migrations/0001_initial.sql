-- The first schema. PostgreSQL 14 or newer, core functions only.
--
-- Rules live here before they live in code: one operation at a time on an instance, a finished job never changes,
-- a failed job has a reason, an open job has a due time and a deadline.

-- ---------------------------------------------------------------- the directory: who knows what, who may do what

create table brokers (
    guid            uuid primary key default gen_random_uuid(),
    name            text not null unique check (name <> ''),
    url             text not null,
    username        text not null,
    password_sealed text not null, -- authenticated encryption, keys from settings
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now()
);

create table service_offerings (
    guid           uuid primary key default gen_random_uuid(),
    broker_guid    uuid not null references brokers,
    catalog_id     text not null, -- the id that the broker knows it by
    name           text not null,
    broker_catalog jsonb not null, -- as the broker published it, without its plans
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    unique (broker_guid, catalog_id)
);

create table service_plans (
    guid                       uuid primary key default gen_random_uuid(),
    offering_guid              uuid not null references service_offerings,
    catalog_id                 text not null,
    name                       text not null,
    broker_catalog             jsonb not null,
    backup_features            text[] not null, -- in force for this plan; empty where it does not support backup
    maximum_polling_duration_s integer check (maximum_polling_duration_s > 0),
    created_at                 timestamptz not null default now(),
    updated_at                 timestamptz not null default now(),
    unique (offering_guid, catalog_id)
);

create table organizations (
    guid text primary key check (guid <> ''),
    name text not null
);

create table spaces (
    guid              text primary key check (guid <> ''),
    name              text not null,
    organization_guid text not null references organizations
);

create table service_instances (
    guid                 text primary key check (guid <> ''),
    name                 text not null,
    type                 text not null check (type in ('managed', 'user-provided')),
    space_guid           text not null references spaces,
    plan_guid            uuid references service_plans,
    last_operation_type  text not null default 'create' check (last_operation_type in ('create', 'update', 'delete')),
    last_operation_state text not null default 'succeeded'
        check (last_operation_state in ('initial', 'in progress', 'succeeded', 'failed')),
    created_at           timestamptz not null default now(),
    updated_at           timestamptz not null default now(),
    check ((type = 'managed') = (plan_guid is not null))
);

create table users (
    guid text primary key check (guid <> ''), -- the token's user_id
    name text not null
);

create table roles (
    user_guid         text not null references users,
    type              text not null check (type in (
        'space_developer', 'space_manager', 'space_auditor', 'space_supporter',
        'organization_manager', 'organization_auditor', 'organization_billing_manager', 'organization_user')),
    space_guid        text references spaces,
    organization_guid text references organizations,
    check (num_nonnulls(space_guid, organization_guid) = 1),
    check ((type like 'space%') = (space_guid is not null))
);
create unique index roles_once on roles (user_guid, type, coalesce(space_guid, ''), coalesce(organization_guid, ''));

-- ---------------------------------------------------------------- backups and restores

create table backups (
    guid                  uuid primary key, -- chosen by us before the first call; the broker knows it by this too
    service_instance_guid text not null,
    state                 text not null default 'in progress' check (state in ('in progress', 'succeeded', 'failed')),
    trigger               text not null default 'on_demand' check (trigger in ('on_demand', 'scheduled')),
    size_bytes            bigint check (size_bytes >= 0),
    created_at            timestamptz not null default now(),
    completed_at          timestamptz,
    expires_at            timestamptz,
    check ((state = 'in progress') = (completed_at is null))
);
create index backups_newest on backups (service_instance_guid, created_at desc, guid desc) where state = 'succeeded';

create table restores (
    guid                         uuid primary key,
    service_instance_guid        text not null,
    backup_id                    text,
    source_service_instance_guid text,
    target_timestamp             timestamptz,
    restore_point                text,
    state                        text not null default 'in progress'
        check (state in ('in progress', 'succeeded', 'failed')),
    created_at                   timestamptz not null default now(),
    completed_at                 timestamptz,
    check (num_nonnulls(backup_id, target_timestamp, restore_point) > 0),
    check ((state = 'in progress') = (completed_at is null))
);

-- ---------------------------------------------------------------- jobs

create table jobs (
    guid                  uuid primary key,
    operation             text not null
        check (operation in ('service_instance.create_backup', 'service_instance.restore')),
    state                 text not null default 'start' check (state in ('start', 'poll', 'succeeded', 'failed')),
    service_instance_guid text not null,
    broker_guid           uuid not null references brokers,
    resource_guid         uuid not null unique, -- the backup or restore; the id that the broker sees on every try
    user_guid             text not null,
    request_id            text not null, -- X-VCAP-Request-ID of the accepting request
    traceparent           text,
    request_body          text not null, -- sent as it stands on every try, so that no try differs from another

    -- three clocks, one meaning each; all of them the database's
    due_at                timestamptz, -- when the next step may run; null when the job has ended
    next_hint_at          timestamptz not null, -- when the dispatcher may publish the next hint
    lease_until           timestamptz, -- somebody is on the step until then

    lease_owner           text,
    fence                 bigint not null default 0, -- rises with every claim; a late writer no longer fits
    hint_count            integer not null default 0, -- hints since the last claim
    attempts              integer not null default 0, -- claims of the start step, counted before the call
    waits                 integer not null default 0, -- start steps after which a busy broker asked us to wait
    waiting_since         timestamptz, -- first of those answers in a row
    polls                 integer not null default 0,
    broker_operation      text check (length(broker_operation) <= 10000),
    broker_description    text, -- the broker's latest words while it works
    deadline_at           timestamptz not null,

    version               integer not null default 1, -- rises exactly when what a client sees changes
    errors                jsonb not null default '[]' check (jsonb_typeof(errors) = 'array'),
    warnings              jsonb not null default '[]' check (jsonb_typeof(warnings) = 'array'),
    created_at            timestamptz not null default now(),
    updated_at            timestamptz not null default now(),
    completed_at          timestamptz,

    constraint ended_means_not_due check (
        (state in ('succeeded', 'failed')) = (due_at is null)
        and (due_at is null) = (completed_at is not null)),
    constraint failed_means_reason check ((state = 'failed') = (jsonb_array_length(errors) > 0)),
    constraint lease_has_owner check ((lease_until is null) = (lease_owner is null)),
    constraint ended_means_no_lease check (completed_at is null or lease_until is null)
);

-- One operation at a time on an instance. This index, not a read before the write, decides who is first.
create unique index jobs_one_open_per_instance on jobs (service_instance_guid) where completed_at is null;

-- What the dispatcher looks for; open jobs only, so that finished ones cost nothing.
create index jobs_next_hint on jobs (next_hint_at) where completed_at is null;

comment on column jobs.state is 'see shared/states.py; clients see PROCESSING, POLLING, COMPLETE, FAILED';

create function refuse_change_of_ended_job() returns trigger language plpgsql as $$
begin
    raise exception 'job % has ended and does not change', old.guid using errcode = 'integrity_constraint_violation';
end $$;

create trigger jobs_ended_is_final before update on jobs for each row
    when (old.completed_at is not null)
    execute function refuse_change_of_ended_job();

create function refuse_falling_fence() returns trigger language plpgsql as $$
begin
    raise exception 'the fence of job % may only rise', old.guid using errcode = 'integrity_constraint_violation';
end $$;

create trigger jobs_fence_rises before update on jobs for each row
    when (new.fence < old.fence)
    execute function refuse_falling_fence();

-- What each step found out. A step is one claim, so the fence numbers the steps of a job.
create table job_steps (
    job_guid    uuid not null references jobs on delete cascade,
    fence       bigint not null,
    call        text not null, -- what was asked of the broker: 'start', 'poll', or 'none' when the job had expired
    event       text not null, -- see shared/states.py
    outcome     text not null, -- see worker/broker/outcome.py
    http_status integer,
    duration_ms integer not null check (duration_ms >= 0),
    detail      text,
    worker      text not null,
    recorded_at timestamptz not null default now(),
    primary key (job_guid, fence)
);
