-- What Cloud Foundry's clients expect beyond the main job: suspended and shared places, roles with guids, deleting backups,
-- keys that make a POST repeatable, and audit events.

-- ---------------------------------------------------------------- the directory

alter table organizations
    add column status     text not null default 'active' check (status in ('active', 'suspended', 'deleting')),
    add column created_at timestamptz not null default now(),
    add column updated_at timestamptz not null default now();

alter table spaces
    add column status     text not null default 'active' check (status in ('active', 'suspended', 'deleting')),
    add column created_at timestamptz not null default now(),
    add column updated_at timestamptz not null default now();

alter table roles
    add column guid       uuid not null default gen_random_uuid() unique,
    add column created_at timestamptz not null default now(),
    add column updated_at timestamptz not null default now();

-- Spaces that see an instance of another one.
create table service_instance_shares (
    service_instance_guid text not null references service_instances on delete cascade,
    space_guid            text not null references spaces,
    primary key (service_instance_guid, space_guid)
);

create index service_instance_shares_of_space on service_instance_shares (space_guid);
create index service_instances_of_space on service_instances (space_guid);
create index service_instances_of_plan on service_instances (plan_guid);
create index spaces_of_organization on spaces (organization_guid);
create index roles_in_space on roles (space_guid) where space_guid is not null;
create index roles_in_organization on roles (organization_guid) where organization_guid is not null;

-- What users may read because of their roles, for lists; shared/directory/roles.py has the same table for one instance,
-- and a test compares them. Who sees everything by a scope needs none of these.
create view readable_spaces as
    select user_guid, space_guid
    from roles
    where space_guid is not null
    union
    select r.user_guid, s.guid
    from roles r
    join spaces s on s.organization_guid = r.organization_guid
    where r.type = 'organization_manager';

create view readable_organizations as
    select user_guid, organization_guid
    from roles
    where organization_guid is not null
    union
    select r.user_guid, s.organization_guid
    from roles r
    join spaces s on s.guid = r.space_guid;

create view readable_instances as
    select v.user_guid, i.guid as service_instance_guid
    from readable_spaces v
    join service_instances i on i.space_guid = v.space_guid
    union
    select v.user_guid, h.service_instance_guid
    from readable_spaces v
    join service_instance_shares h on h.space_guid = v.space_guid;

-- ---------------------------------------------------------------- jobs: deleting backups, and who asked for what

alter table jobs
    drop constraint jobs_operation_check,
    add constraint jobs_operation_check check (operation in (
        'service_instance.create_backup', 'service_instance.restore', 'service_instance.delete_backup',
        'service_instance.clean_up_backup', 'service_instance.clean_up_restore')),
    -- Only what makes or uses data needs the instance for itself.
    add column holds_instance boolean not null generated always as (
        operation in ('service_instance.create_backup', 'service_instance.restore')) stored,
    -- As they were when the job was accepted, for audit events; the directory may change while the job runs.
    add column user_name             text not null default '',
    add column service_instance_name text not null default '',
    add column space_guid            text,
    add column organization_guid     text;

drop index jobs_one_open_per_instance;
create unique index jobs_one_open_per_instance on jobs (service_instance_guid)
    where completed_at is null and holds_instance;
drop index jobs_resource_once;
create unique index jobs_resource_once on jobs (resource_guid) where holds_instance;
create unique index jobs_one_open_deletion on jobs (resource_guid)
    where completed_at is null and operation = 'service_instance.delete_backup';

-- For lists, newest first; of everything, and of some instances.
create index jobs_newest on jobs (created_at, guid);
create index jobs_of_instance on jobs (service_instance_guid, created_at, guid);
-- What is looked for among many backups that succeeded, and is rare.
create index jobs_failed on jobs (created_at, guid) where state in ('failed', 'cancelled');
create index jobs_by_operation on jobs (operation, created_at, guid) where operation <> 'service_instance.create_backup';

-- Jobs as their pollers see them: with the job that cleans up after them, whether their instance exists, and whether
-- their broker is left alone at present. Whatever shows a job reads it from here.
create view public_jobs as
select j.guid, j.operation, j.state, j.service_instance_guid, j.broker_guid, j.can_undo, j.version, j.errors, j.warnings,
       j.created_at, j.updated_at, b.name as broker_name,
       case when j.completed_at is null then j.broker_description end as broker_description,
       extract(epoch from j.due_at - now())::float8 as due_in_s,
       case when j.completed_at is null and j.lease_until is null and s.retry_at > now() and not s.is_probing
            then s.retry_at end as broker_retry_at,
       (select c.guid from jobs c where c.parent_guid = j.guid order by c.created_at limit 1) as clean_up_guid,
       exists (select from service_instances i where i.guid = j.service_instance_guid) as instance_exists
from jobs j
join brokers b on b.guid = j.broker_guid
left join broker_states s on s.broker_guid = j.broker_guid;

-- A backup that somebody asked to delete is neither listed nor restored from then on.
alter table backups
    drop constraint backups_state_check,
    add constraint backups_state_check check (state in ('in progress', 'succeeded', 'failed', 'deleting', 'deleted'));
create index restores_open_of_backup on restores (backup_id) where state = 'in progress';

-- ---------------------------------------------------------------- keys that make a POST repeatable

-- draft-ietf-httpapi-idempotency-key-header-07: the same key and request get the same answer, for a day.
create table idempotency_keys (
    user_guid   text not null,
    key         text not null,
    fingerprint text not null, -- of the request: another one with the same key is refused
    job_guid    uuid not null,
    created_at  timestamptz not null default now(),
    primary key (user_guid, key)
);
create index idempotency_keys_oldest on idempotency_keys (created_at);

-- ---------------------------------------------------------------- audit events

create table audit_events (
    guid              uuid primary key default gen_random_uuid(),
    type              text not null,
    actor_guid        text not null,
    actor_name        text not null,
    target_guid       text not null,
    target_type       text not null default 'service_instance',
    target_name       text not null,
    space_guid        text,
    organization_guid text,
    data              jsonb not null,
    created_at        timestamptz not null default now()
);
create index audit_events_newest on audit_events (created_at, guid);
create index audit_events_of_space on audit_events (space_guid, created_at, guid);

-- Those that a user may see: who works in a space or audits it, and who audits its organization. A null means any.
create function find_audit_events(
    reader_guid text, reader_sees_everything boolean, types text[], target_guids text[], space_guids text[],
    organization_guids text[], since timestamptz, before timestamptz
) returns setof audit_events language sql stable as $$
    select *
    from audit_events e
    where (reader_sees_everything
           or e.space_guid in (select r.space_guid from roles r
                               where r.user_guid = reader_guid and r.type in ('space_developer', 'space_auditor'))
           or e.organization_guid in (select r.organization_guid from roles r
                                      where r.user_guid = reader_guid and r.type = 'organization_auditor'))
      and (types is null or e.type = any(types))
      and (target_guids is null or e.target_guid = any(target_guids))
      and (space_guids is null or e.space_guid = any(space_guids))
      and (organization_guids is null or e.organization_guid = any(organization_guids))
      and (since is null or e.created_at >= since)
      and (before is null or e.created_at < before)
$$;

-- Who took a step, where that is not the one who asked for the job: who cancelled it.
alter table job_steps
    add column actor_guid text,
    add column actor_name text;

-- As Cloud Controller does it: `start_…` when the broker has taken the operation on, the bare verb when it is done, and
-- nothing for what failed. In the transaction that records the step, so that none is lost; and whatever goes wrong with
-- it is a warning, so that it fails nothing.
create function write_audit_event() returns trigger language plpgsql as $$
begin
    insert into audit_events (type, actor_guid, actor_name, target_guid, target_name, space_guid, organization_guid, data)
    select 'audit.service_instance.'
               || case new.event when 'accepted' then 'start_' when 'cancelled' then 'cancel_' else '' end
               || case operation when 'service_instance.create_backup' then 'backup'
                                 else split_part(operation, '.', 2) end,
           coalesce(new.actor_guid, user_guid), coalesce(new.actor_name, user_name),
           service_instance_guid, service_instance_name, space_guid, organization_guid,
           jsonb_build_object(
               'job_guid', guid,
               case when operation = 'service_instance.restore' then 'restore_guid' else 'backup_guid' end, resource_guid,
               'request', (request_body::jsonb - array['service_id', 'plan_id', 'context'])
                          || case when request_body::jsonb ? 'parameters'
                                  then '{"parameters": "[PRIVATE DATA HIDDEN]"}'::jsonb else '{}' end)
    from jobs
    where guid = new.job_guid and not is_clean_up;
    return null;
exception when others then
    raise warning 'no audit event of job % was written: %', new.job_guid, sqlerrm;
    return null;
end $$;

create trigger job_steps_audit after insert on job_steps for each row
    when (new.event in ('accepted', 'succeeded', 'cancelled'))
    execute function write_audit_event();
