-- Clean-ups, cancelling, limits and circuit breakers per broker, and more of the rules in the schema.

-- ---------------------------------------------------------------- jobs: clean-ups and cancelling

alter table jobs
    drop constraint jobs_operation_check,
    drop constraint jobs_state_check,
    drop constraint jobs_resource_guid_key,
    drop constraint ended_means_not_due,
    drop constraint failed_means_reason,
    add constraint jobs_operation_check check (operation in (
        'service_instance.create_backup', 'service_instance.restore',
        'service_instance.clean_up_backup', 'service_instance.clean_up_restore')),
    add constraint jobs_state_check check (state in ('start', 'poll', 'succeeded', 'failed', 'cancelled')),
    add constraint ended_means_not_due check (
        (state in ('succeeded', 'failed', 'cancelled')) = (due_at is null)
        and (due_at is null) = (completed_at is not null)),
    add constraint failed_means_reason check ((state in ('failed', 'cancelled')) = (jsonb_array_length(errors) > 0)),
    add constraint deadline_is_finite check (deadline_at < 'infinity'),
    add constraint counts_are_counts check (
        fence >= 0 and hint_count >= 0 and attempts >= 0 and waits >= 0 and polls >= 0),
    add column is_clean_up boolean not null generated always as (
        operation in ('service_instance.clean_up_backup', 'service_instance.clean_up_restore')) stored,
    -- Polls go before starts, restores before backups, and removing what others left comes last.
    add column priority smallint not null generated always as (
        case when state = 'poll' then 0
             when operation = 'service_instance.restore' then 1
             when operation = 'service_instance.create_backup' then 2
             else 3 end) stored,
    add column parent_guid uuid, -- the job whose remains this one removes; no reference, since it may be pruned first
    add column can_undo boolean not null default false, -- whether the broker can remove what this operation makes
    -- Claims of the start step of which we do not know that they had no effect at the broker. Counted when claimed.
    add column unclear_starts integer not null default 0 check (unclear_starts >= 0),
    -- Claims in a row whose step nobody recorded: their workers died, or the job killed them.
    add column lost_steps integer not null default 0 check (lost_steps >= 0),
    add constraint clean_up_has_parent check (is_clean_up = (parent_guid is not null));

-- The broker sees one id for each operation, and one clean-up at a time is at work on it.
create unique index jobs_resource_once on jobs (resource_guid) where not is_clean_up;
create unique index jobs_one_open_clean_up on jobs (resource_guid) where is_clean_up and completed_at is null;
create index jobs_children on jobs (parent_guid) where parent_guid is not null;

-- A clean-up may take days and does not hold its instance.
drop index jobs_one_open_per_instance;
create unique index jobs_one_open_per_instance on jobs (service_instance_guid)
    where completed_at is null and not is_clean_up;

-- What the dispatcher looks for: the due jobs of a broker by priority and age; when they are too many, those of each
-- user; and what has passed its deadline, whatever the state of the broker.
drop index jobs_next_hint;
create index jobs_next_hint on jobs (broker_guid, priority, next_hint_at) where completed_at is null;
create index jobs_next_hint_of_user on jobs (broker_guid, user_guid, priority, next_hint_at)
    where completed_at is null;
create index jobs_deadline on jobs (deadline_at) where completed_at is null;
-- Calls in flight of a broker are its leases.
create index jobs_leased on jobs (broker_guid) where lease_until is not null;
-- What pruning looks for.
create index jobs_ended on jobs (completed_at) where completed_at is not null;

-- What identifies a job, and what the broker is sent, never changes: every try is the same try.
create function refuse_change_of_identity() returns trigger language plpgsql as $$
begin
    raise exception 'what job % is does not change', old.guid using errcode = 'integrity_constraint_violation';
end $$;

create trigger jobs_identity_is_fixed before update on jobs for each row
    when ((old.guid, old.operation, old.service_instance_guid, old.broker_guid, old.resource_guid, old.user_guid,
           old.request_id, old.request_body, old.deadline_at, old.created_at, old.can_undo)
          is distinct from
          (new.guid, new.operation, new.service_instance_guid, new.broker_guid, new.resource_guid, new.user_guid,
           new.request_id, new.request_body, new.deadline_at, new.created_at, new.can_undo)
          or old.parent_guid is distinct from new.parent_guid)
    execute function refuse_change_of_identity();

create function refuse_second_start() returns trigger language plpgsql as $$
begin
    raise exception 'job % was started already', old.guid using errcode = 'integrity_constraint_violation';
end $$;

-- Only a clean-up, whose call can be repeated at will, goes back.
create trigger jobs_start_once before update on jobs for each row
    when (old.state = 'poll' and new.state = 'start' and not old.is_clean_up)
    execute function refuse_second_start();

-- A backup that the broker no longer has.
alter table backups
    drop constraint backups_state_check,
    add constraint backups_state_check check (state in ('in progress', 'succeeded', 'failed', 'deleted'));

-- ---------------------------------------------------------------- brokers: limits and circuit breakers

alter table brokers
    add column calls_in_flight integer check (calls_in_flight > 0), -- null: as the settings say
    add column calls_per_minute integer check (calls_per_minute > 0);

-- What we know of how a broker is at the moment. Claims lock these rows, so that limits hold over all workers.
create table broker_states (
    broker_guid uuid primary key references brokers on delete cascade,
    failures    integer not null default 0 check (failures >= 0), -- calls in a row without an answer, or with 5xx
    openings    integer not null default 0 check (openings >= 0), -- times in a row that the breaker opened
    retry_at    timestamptz, -- the breaker is open until then; null when it is closed
    is_probing  boolean not null default false, -- one call is out to see whether the broker is back
    tokens      float8, -- calls left of the limit per minute, at tokens_at
    tokens_at   timestamptz,
    check (retry_at is not null or not is_probing)
) with (fillfactor = 50);

insert into broker_states (broker_guid) select guid from brokers;

create function add_broker_state() returns trigger language plpgsql as $$
begin
    insert into broker_states (broker_guid) values (new.guid);
    return null;
end $$;

create trigger brokers_have_state after insert on brokers for each row execute function add_broker_state();
