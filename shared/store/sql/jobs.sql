-- Statements on jobs. Every time is the database's; every change of a claimed job is guarded by its fence.

-- name: accept
-- Stores accepted requests with their backups and restores, due at once, and returns the guids of those that were
-- stored. A request is left out when another operation is open on its instance: the unique index decides, here.
with request as (
    select *
    from jsonb_to_recordset(%(requests)s) as r (
        guid uuid, operation text, service_instance_guid text, broker_guid uuid, resource_guid uuid,
        user_guid text, request_id text, traceparent text, request_body text, deadline_s float8,
        backup_id text, source_service_instance_guid text, target_timestamp timestamptz, restore_point text)
),
accepted as (
    insert into jobs (guid, operation, service_instance_guid, broker_guid, resource_guid, user_guid, request_id,
                      traceparent, request_body, due_at, next_hint_at, deadline_at)
    select guid, operation, service_instance_guid, broker_guid, resource_guid, user_guid, request_id,
           traceparent, request_body, now(), now() + make_interval(secs => %(hint_grace_s)s),
           now() + make_interval(secs => deadline_s)
    from request
    on conflict (service_instance_guid) where completed_at is null do nothing
    returning guid
),
new_backup as (
    insert into backups (guid, service_instance_guid)
    select resource_guid, service_instance_guid
    from request join accepted using (guid)
    where operation = 'service_instance.create_backup'
),
new_restore as (
    insert into restores (guid, service_instance_guid, backup_id, source_service_instance_guid, target_timestamp,
                          restore_point)
    select resource_guid, service_instance_guid, backup_id, source_service_instance_guid, target_timestamp,
           restore_point
    from request join accepted using (guid)
    where operation = 'service_instance.restore'
)
select guid from accepted;

-- name: find
-- One job as its pollers see it.
select guid, operation, state, service_instance_guid, version, errors, warnings, created_at, updated_at,
       extract(epoch from due_at - now())::float8 as due_in_s,
       exists (select from service_instances i where i.guid = service_instance_guid) as instance_exists
from jobs
where guid = %(guid)s;

-- name: hint_due
-- Takes due jobs that nobody is on and that were not hinted lately, oldest first, and says when each may be hinted
-- again: later and later while nobody claims it. Any number of dispatchers may run this at once.
with due as (
    select guid
    from jobs
    where completed_at is null and next_hint_at <= now()
      and due_at <= now() and (lease_until is null or lease_until <= now())
    order by next_hint_at
    limit %(limit)s
    for update skip locked
)
update jobs
set next_hint_at = now() + make_interval(
        secs => least(%(interval_s)s * 2 ^ least(hint_count, 20), %(interval_max_s)s)),
    hint_count = hint_count + 1
from due
where jobs.guid = due.guid
returning jobs.guid, jobs.state, jobs.broker_guid;

-- name: claim
-- Claims those of the given jobs that are due and that nobody is on. The new fence makes every earlier claim's writes
-- harmless. Counting the attempt here, before the call, bounds even a job that kills its worker.
with due as (
    select guid
    from jobs
    where guid = any(%(guids)s) and completed_at is null
      and due_at <= now() and (lease_until is null or lease_until <= now())
    for update skip locked
)
update jobs
set fence = fence + 1,
    lease_owner = %(owner)s,
    lease_until = now() + make_interval(secs => %(lease_s)s),
    next_hint_at = now() + make_interval(secs => %(lease_s)s),
    hint_count = 0,
    attempts = attempts + (state = 'start')::integer
from due, brokers
where jobs.guid = due.guid and brokers.guid = jobs.broker_guid
returning jobs.guid, jobs.fence, jobs.operation, jobs.state, jobs.deadline_at <= now() as is_expired,
          jobs.service_instance_guid, jobs.resource_guid, jobs.user_guid, jobs.request_id, jobs.traceparent,
          jobs.request_body, jobs.broker_operation, jobs.attempts, jobs.polls, jobs.waits,
          coalesce(extract(epoch from now() - jobs.waiting_since), 0)::float8 as waited_s,
          brokers.guid as broker_guid, brokers.name as broker_name, brokers.url as broker_url,
          brokers.username as broker_username, brokers.password_sealed as broker_password_sealed;

-- name: record
-- Writes down what steps found out, each only if its claim is still held and the fence is still the job's. The end of
-- a job, its errors, the end of its backup or restore and the freeing of its instance are this one statement. Returns the guids
-- of the jobs whose step was recorded; a guid that is missing had been claimed by somebody else meanwhile.
with step as (
    select *
    from jsonb_to_recordset(%(steps)s) as s (
        job_guid uuid, fence bigint, worker text, call text, event text, outcome text, http_status integer,
        duration_ms integer, detail text, state text, due_in_s float8, broker_operation text,
        broker_description text, errors jsonb, is_wait boolean, size_bytes bigint, expires_at_s float8)
),
recorded as (
    update jobs
    set state = step.state,
        due_at = case when step.due_in_s is not null
                      then least(now() + make_interval(secs => step.due_in_s), jobs.deadline_at) end,
        next_hint_at = least(now() + make_interval(secs => step.due_in_s), jobs.deadline_at),
        lease_until = null,
        lease_owner = null,
        attempts = jobs.attempts - step.is_wait::integer,
        waits = jobs.waits + step.is_wait::integer,
        waiting_since = case when step.is_wait then coalesce(jobs.waiting_since, now()) end,
        polls = jobs.polls + (step.call = 'poll')::integer,
        broker_operation = coalesce(step.broker_operation, jobs.broker_operation),
        broker_description = coalesce(step.broker_description, jobs.broker_description),
        errors = step.errors,
        version = jobs.version + (step.state <> jobs.state)::integer,
        updated_at = case when step.state <> jobs.state then now() else jobs.updated_at end,
        completed_at = case when step.due_in_s is null then now() end
    from step
    where jobs.guid = step.job_guid and jobs.fence = step.fence and jobs.lease_until is not null
    returning jobs.guid, jobs.resource_guid, jobs.state, jobs.completed_at, step.fence, step.size_bytes,
              step.expires_at_s
),
ended_backup as (
    update backups
    set state = recorded.state, completed_at = recorded.completed_at, size_bytes = recorded.size_bytes,
        expires_at = to_timestamp(recorded.expires_at_s)
    from recorded
    where backups.guid = recorded.resource_guid and recorded.completed_at is not null
),
ended_restore as (
    update restores
    set state = recorded.state, completed_at = recorded.completed_at
    from recorded
    where restores.guid = recorded.resource_guid and recorded.completed_at is not null
),
history as (
    insert into job_steps (job_guid, fence, call, event, outcome, http_status, duration_ms, detail, worker)
    select job_guid, step.fence, call, event, outcome, http_status, duration_ms, detail, worker
    from step join recorded on recorded.guid = step.job_guid and recorded.fence = step.fence
)
select guid from recorded;

-- name: release
-- Gives claimed jobs back at once, for a worker that stops before it has recorded their steps.
update jobs
set lease_until = null, lease_owner = null, next_hint_at = now()
from jsonb_to_recordset(%(claims)s) as c (job_guid uuid, fence bigint)
where jobs.guid = c.job_guid and jobs.fence = c.fence and jobs.lease_until is not null
returning jobs.guid;

-- name: take_back_hints
-- Undoes the marks of hints that the queue did not take, so that an outage of the queue does not add its pauses.
update jobs
set next_hint_at = now(), hint_count = greatest(hint_count - 1, 0)
where guid = any(%(guids)s) and completed_at is null and lease_until is null;
