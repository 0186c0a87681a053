-- Statements on jobs. Every time is the database's; every change of a claimed job is guarded by its fence.
--
-- Given jobs are looked up one by one, behind a fence (`offset 0`), and only then asked what they are. Plans are
-- kept, and one that was made when few jobs were open would otherwise go through all open jobs for each given one. What is
-- to be locked is asked before the lock and after it: a claim passes over rows that are locked, for nothing or not.

-- name: lock_keys
-- One request at a time decides about a key; freed with the transaction. The statement that follows in it sees what the
-- one before has committed.
select pg_advisory_xact_lock(hashtextextended(owned_key, 0))
from (select distinct jsonb_build_array(r ->> 'user_guid', r ->> 'key')::text as owned_key
      from jsonb_array_elements(%(requests)s) as r
      where r ->> 'key' is not null
      order by 1) k;

-- name: accept
-- Stores accepted requests with their backups and restores, due at once, and returns what became of each. A request is
-- left out when another operation is open on its instance: the unique index decides, here. It is left out, too, when
-- its key was used before, or when the backup that it restores is gone or about to be deleted; whoever locks the
-- backup's row first wins.
with request as (
    select *, row_number() over (partition by user_guid, key order by ordinality) as turn
    from rows from (jsonb_to_recordset(%(requests)s) as (
        guid uuid, operation text, service_instance_guid text, broker_guid uuid, resource_guid uuid,
        user_guid text, request_id text, traceparent text, request_body text, deadline_s float8, can_undo boolean,
        user_name text, service_instance_name text, space_guid text, organization_guid text,
        key text, fingerprint text, backup_guid uuid,
        backup_id text, source_service_instance_guid text, target_timestamp timestamptz, restore_point text))
        with ordinality
),
known as (
    select r.guid, k.job_guid, k.fingerprint
    from request r
    join idempotency_keys k on k.user_guid = r.user_guid and k.key = r.key
    where k.created_at > now() - make_interval(secs => %(key_lifetime_s)s)
),
restorable as (
    select guid
    from backups
    where guid in (select backup_guid from request) and state = 'succeeded'
    order by guid
    for share
),
accepted as (
    insert into jobs (guid, operation, service_instance_guid, broker_guid, resource_guid, user_guid, request_id,
                      traceparent, request_body, can_undo, due_at, next_hint_at, deadline_at,
                      user_name, service_instance_name, space_guid, organization_guid)
    select guid, operation, service_instance_guid, broker_guid, resource_guid, user_guid, request_id,
           traceparent, request_body, can_undo, now(), now() + make_interval(secs => %(hint_grace_s)s),
           now() + make_interval(secs => deadline_s),
           user_name, service_instance_name, space_guid, organization_guid
    from request
    where (key is null or (turn = 1 and guid not in (select guid from known)))
      and (backup_guid is null or backup_guid in (select guid from restorable))
    on conflict (service_instance_guid) where completed_at is null and holds_instance do nothing
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
),
new_key as (
    insert into idempotency_keys as k (user_guid, key, fingerprint, job_guid)
    select user_guid, key, fingerprint, guid
    from request join accepted using (guid)
    where key is not null
    on conflict (user_guid, key) do update
    set fingerprint = excluded.fingerprint, job_guid = excluded.job_guid, created_at = now()
)
select r.guid, a.guid is not null as is_stored, k.job_guid, k.fingerprint,
       r.backup_guid is not null and r.backup_guid not in (select guid from restorable) as is_backup_gone
from request r
left join accepted a using (guid)
left join known k using (guid);

-- name: lock_backup
-- Restores that were accepted before are over with this lock, or seen by the statement that follows in the transaction.
select from backups where guid = %(resource_guid)s and service_instance_guid = %(service_instance_guid)s for update;

-- name: accept_deletion
-- Stores the job that deletes a backup, which from then on is neither listed nor restored. Without a job, the state says
-- why; of a backup that is being deleted already, the job that does it is returned.
with backup as (
    select b.guid, b.state,
           exists (select from restores r where r.backup_id = b.guid::text and r.state = 'in progress')
               as is_being_restored
    from backups b
    where b.guid = %(resource_guid)s and b.service_instance_guid = %(service_instance_guid)s
),
marked as (
    update backups
    set state = 'deleting'
    from backup
    where backups.guid = backup.guid and backup.state = 'succeeded' and not backup.is_being_restored
    returning backups.guid
),
accepted as (
    insert into jobs (guid, operation, service_instance_guid, broker_guid, resource_guid, user_guid, request_id,
                      traceparent, request_body, can_undo, due_at, next_hint_at, deadline_at,
                      user_name, service_instance_name, space_guid, organization_guid)
    select %(guid)s, %(operation)s, %(service_instance_guid)s, %(broker_guid)s, marked.guid, %(user_guid)s,
           %(request_id)s, %(traceparent)s, %(request_body)s, %(can_undo)s, now(),
           now() + make_interval(secs => %(hint_grace_s)s), now() + make_interval(secs => %(deadline_s)s),
           %(user_name)s, %(service_instance_name)s, %(space_guid)s, %(organization_guid)s
    from marked
    returning guid
)
select b.state, b.is_being_restored, a.guid is not null as is_stored,
       coalesce(a.guid, (select j.guid from jobs j
                         where j.resource_guid = b.guid and j.operation = 'service_instance.delete_backup'
                           and j.completed_at is null))
           as job_guid
from backup b
left join accepted a on true;

-- name: find_due
-- Due jobs that nobody is on and that were not hinted lately: of each broker that may be called the first by priority
-- and age; and whatever has passed its deadline. Brokers take turns, so that none keeps the others out. Each row has the
-- number of those that were found of its broker.
with callable as (
    select broker_guid
    from broker_states
    where (retry_at is null or retry_at <= now()) and broker_guid <> all(%(left_alone)s::uuid[])
),
candidate as (
    select j.guid, j.broker_guid,
           row_number() over (partition by j.broker_guid order by j.priority, j.next_hint_at) as turn,
           count(*) over (partition by j.broker_guid) as of_broker
    from callable
    cross join generate_series(0, 3) as level
    cross join lateral (
        select guid, broker_guid, priority, next_hint_at
        from jobs
        where broker_guid = callable.broker_guid and priority = level and completed_at is null
          and next_hint_at <= now() and due_at <= now() and (lease_until is null or lease_until <= now())
        order by next_hint_at
        limit %(share)s) j
    union all
    (select guid, broker_guid, 0, 0
     from jobs
     where completed_at is null and deadline_at <= now() and next_hint_at <= now()
       and (lease_until is null or lease_until <= now())
     order by deadline_at
     limit %(share)s)
)
select guid, broker_guid, of_broker from candidate order by turn limit %(limit)s;

-- name: find_due_by_user
-- The same for brokers with many due jobs: some of each user, so that no user keeps the others out. Looks at a bounded
-- number of users, from any one on, so that all of them have their turns; those who are served already are passed over.
with recursive lane as (
    select broker_guid, first.user_guid, coalesce(first.user_guid <= %(start)s, true) as is_round, 1 as n
    from broker_states b
    cross join lateral (
        select coalesce((select min(user_guid) from jobs j
                         where j.broker_guid = b.broker_guid and completed_at is null and j.user_guid > %(start)s),
                        (select min(user_guid) from jobs j
                         where j.broker_guid = b.broker_guid and completed_at is null)) as user_guid) first
    where broker_guid = any(%(brokers)s::uuid[]) and (retry_at is null or retry_at <= now())
    union all
    select broker_guid, following.user_guid, following.is_round, n + 1
    from lane
    cross join lateral (
        select (select min(user_guid) from jobs j
                where j.broker_guid = lane.broker_guid and completed_at is null and j.user_guid > lane.user_guid)
               as user_guid) further
    cross join lateral (
        select coalesce(further.user_guid, (select min(user_guid) from jobs j
                                            where j.broker_guid = lane.broker_guid and completed_at is null
                                              and not is_round and j.user_guid <= %(start)s)) as user_guid,
               is_round or further.user_guid is null as is_round) following
    where n < %(users)s and following.user_guid is not null
      and not (following.is_round and following.user_guid > %(start)s)
),
candidate as (
    select j.guid, j.broker_guid,
           row_number() over (partition by j.broker_guid, j.user_guid order by j.priority, j.next_hint_at) as turn
    from lane
    cross join generate_series(0, 3) as level
    cross join lateral (
        select guid, broker_guid, user_guid, priority, next_hint_at
        from jobs
        where broker_guid = lane.broker_guid and user_guid = lane.user_guid and priority = level
          and completed_at is null
          and next_hint_at <= now() and due_at <= now() and (lease_until is null or lease_until <= now())
        order by next_hint_at
        limit %(share)s) j
    where (lane.broker_guid, lane.user_guid) not in (
        select * from unnest(%(served_brokers)s::uuid[], %(served_users)s::text[]))
)
select guid, broker_guid from candidate order by turn limit %(limit)s;

-- name: lock_hints
-- One dispatcher at a time marks hints; freed with the transaction. The statement that follows in it sees what the one
-- before has marked and leaves it alone. Otherwise it would lock those rows, to find that it comes too late, and the
-- claims that follow their hints pass over what is locked: such a job would wait until its hint is repeated.
select pg_advisory_xact_lock(7236451910);

-- name: hint
-- Takes those of the given jobs that are still to be hinted, and says when each may be hinted again: later and later
-- while nobody claims it. Any number of dispatchers may run this at once; they take turns.
with candidate as materialized (
    select j.guid
    from unnest(%(guids)s::uuid[]) as w (guid)
    cross join lateral (
        select guid, completed_at, next_hint_at, due_at, lease_until from jobs where guid = w.guid offset 0) j
    where j.completed_at is null and j.next_hint_at <= now()
      and j.due_at <= now() and (j.lease_until is null or j.lease_until <= now())
),
due as (
    select j.guid
    from candidate c
    cross join lateral (
        select guid, completed_at, next_hint_at, due_at, lease_until
        from jobs
        where guid = c.guid
        offset 0
        for update skip locked) j
    where j.completed_at is null and j.next_hint_at <= now()
      and j.due_at <= now() and (j.lease_until is null or j.lease_until <= now())
)
update jobs
set next_hint_at = now() + make_interval(
        secs => least(%(interval_s)s * 2 ^ least(hint_count, 20), %(interval_max_s)s)),
    hint_count = hint_count + 1
from due
where jobs.guid = due.guid
returning jobs.guid, jobs.state, jobs.broker_guid;

-- name: look
-- Those of the given jobs that are due and that nobody is on, with what decides whose turn it is.
select j.guid, j.broker_guid, j.user_guid, j.priority
from unnest(%(guids)s::uuid[]) as w (guid)
cross join lateral (
    select guid, broker_guid, user_guid, priority, completed_at, due_at, lease_until
    from jobs
    where guid = w.guid
    offset 0) j
where j.completed_at is null and j.due_at <= now() and (j.lease_until is null or j.lease_until <= now());

-- name: lock_brokers
-- One claim at a time decides about a broker, so that limits hold over all workers. The statement that follows in the
-- same transaction sees what the one before it has committed.
select from broker_states
where broker_guid in (select broker_guid from jobs where guid = any(%(guids)s))
order by broker_guid
for no key update;

-- name: claim
-- Claims those of the given jobs that are due and that nobody is on, in the order given, as far as the limits and the
-- breaker of their brokers go. The new fence makes every earlier claim's writes harmless. Counting the attempt here,
-- before the call, bounds even a job that kills its worker. Jobs past their deadline are claimed in any case, but may
-- not call a broker that is at its limit. Returns a row for each job that could be claimed; those without a fence have
-- to wait, for `pause_s` seconds, or without one until a call to their broker ends.
with wanted as (
    select j.guid, j.broker_guid, j.user_guid, j.priority, j.deadline_at <= now() as is_expired, w.place,
           row_number() over (partition by j.broker_guid order by w.place) as turn
    from unnest(%(guids)s::uuid[]) with ordinality as w (guid, place)
    cross join lateral (
        select guid, broker_guid, user_guid, priority, deadline_at, completed_at, due_at, lease_until
        from jobs
        where guid = w.guid
        offset 0) j
    where j.completed_at is null and j.due_at <= now() and (j.lease_until is null or j.lease_until <= now())
),
limits as (
    select s.broker_guid, s.retry_at, s.is_probing, s.tokens, s.tokens_at,
           coalesce(b.calls_in_flight, %(calls_in_flight)s) as calls_in_flight,
           coalesce(b.calls_per_minute, %(calls_per_minute)s::integer) as calls_per_minute
    from broker_states s
    join brokers b on b.guid = s.broker_guid
    where s.broker_guid in (select broker_guid from wanted)
),
-- A tenth of the minute's calls may come at once; the rest is spread, so that no minute has more than its limit.
rate as (
    select *, greatest(1, calls_per_minute / 10.0) as burst,
           greatest(calls_per_minute - greatest(1, calls_per_minute / 10.0), calls_per_minute / 2.0) / 60 as per_s
    from limits
),
purse as (
    select *, case when calls_per_minute is not null
                   then least(burst, coalesce(tokens + per_s * extract(epoch from now() - tokens_at), burst))
              end as tokens_now
    from rate
),
room as (
    select broker_guid, calls_per_minute, tokens_now, retry_at,
           least(calls_in_flight - (select count(*) from jobs l
                                    where l.broker_guid = purse.broker_guid and l.lease_until > now()),
                 floor(tokens_now),
                 case when retry_at > now() then 0 when retry_at is not null then 1 end) as free,
           case when retry_at > now() then extract(epoch from retry_at - now())
                when tokens_now < 1 then (1 - tokens_now) / per_s end as pause_s
    from purse
),
due as (
    select j.guid, w.turn <= r.free as may_call
    from wanted w
    join room r using (broker_guid)
    cross join lateral (
        select guid, completed_at, due_at, lease_until
        from jobs
        where guid = w.guid and (w.turn <= r.free or w.is_expired)
        offset 0
        for update skip locked) j
    where j.completed_at is null and j.due_at <= now() and (j.lease_until is null or j.lease_until <= now())
),
claimed as (
    update jobs
    set fence = fence + 1,
        lease_owner = %(owner)s,
        lease_until = now() + make_interval(secs => %(lease_s)s),
        next_hint_at = now() + make_interval(secs => %(lease_s)s),
        hint_count = 0,
        attempts = attempts + (state = 'start')::integer,
        lost_steps = lost_steps + (lease_until is not null)::integer,
        unclear_starts = unclear_starts + (state = 'start')::integer
    from due
    where jobs.guid = due.guid
    returning jobs.*, due.may_call
),
spent as (
    update broker_states s
    set tokens = room.tokens_now - calls.n,
        tokens_at = now(),
        is_probing = s.retry_at is not null,
        retry_at = case when s.retry_at is not null then now() + make_interval(secs => %(lease_s)s) end
    from room
    join (select broker_guid, count(*) as n from claimed where may_call group by broker_guid) calls using (broker_guid)
    where s.broker_guid = room.broker_guid and (room.calls_per_minute is not null or s.retry_at is not null)
)
select w.guid, w.user_guid, w.priority, w.is_expired, c.fence, c.operation, c.state, c.may_call,
       c.service_instance_guid, c.resource_guid, c.request_id, c.traceparent,
       c.request_body, c.can_undo, c.broker_operation, c.attempts, c.unclear_starts, c.lost_steps, c.polls, c.waits,
       coalesce(extract(epoch from now() - c.waiting_since), 0)::float8 as waited_s,
       b.guid as broker_guid, b.name as broker_name, b.url as broker_url,
       b.username as broker_username, b.password_sealed as broker_password_sealed,
       r.pause_s::float8 as pause_s
from wanted w
join brokers b on b.guid = w.broker_guid
join room r on r.broker_guid = w.broker_guid
left join claimed c on c.guid = w.guid
where c.guid is not null or w.turn > r.free
order by w.place;

-- name: seize
-- Takes an open job away from whoever is on it, to cancel it: the fence rises, so that a step under way comes too late.
-- Returns nothing for a job that has ended, or whose operation the broker may have begun and cannot undo. `busy_s` is
-- how long a call that is under way may still take.
with taken as (
    select guid, case when state = 'start' then extract(epoch from lease_until - now()) end as busy_s
    from jobs
    where guid = %(guid)s and completed_at is null and not is_clean_up
      and (can_undo or (state = 'start' and unclear_starts = 0))
    for update
)
update jobs
set fence = fence + 1,
    lease_owner = %(owner)s,
    lease_until = now() + make_interval(secs => %(lease_s)s),
    next_hint_at = now() + make_interval(secs => %(lease_s)s)
from taken, brokers b
where jobs.guid = taken.guid and b.guid = jobs.broker_guid
returning jobs.guid, jobs.fence, jobs.operation, jobs.state, jobs.deadline_at <= now() as is_expired, true as may_call,
          jobs.service_instance_guid, jobs.resource_guid, jobs.user_guid, jobs.request_id, jobs.traceparent,
          jobs.request_body, jobs.can_undo, jobs.broker_operation, jobs.attempts, jobs.unclear_starts,
          jobs.lost_steps, jobs.polls, jobs.waits, 0::float8 as waited_s,
          b.guid as broker_guid, b.name as broker_name, b.url as broker_url,
          b.username as broker_username, b.password_sealed as broker_password_sealed,
          greatest(taken.busy_s, 0)::float8 as pause_s;

-- name: record
-- Writes down what steps found out, each only if its claim is still held and the fence is still the job's. The end of
-- a job, its errors, the end of its backup or restore, the freeing of its instance, and the job that cleans up after it
-- are this one statement. Returns the guids of the jobs whose step was recorded; a guid that is missing had been
-- claimed by somebody else meanwhile. Calls without an answer open the breaker of their broker, an answer closes it.
with step as (
    select *
    from jsonb_to_recordset(%(steps)s) as s (
        job_guid uuid, fence bigint, worker text, call text, event text, outcome text, http_status integer,
        duration_ms integer, detail text, state text, due_in_s float8, hint_in_s float8, broker_operation text,
        broker_description text, errors jsonb, warnings jsonb, is_wait boolean, had_no_effect boolean,
        was_answered boolean, clean_up_in_s float8, size_bytes bigint, expires_at_s float8, actor_guid text,
        actor_name text)
),
recorded as (
    update jobs
    set state = step.state,
        due_at = case when step.due_in_s is not null
                      then least(now() + make_interval(secs => step.due_in_s), jobs.deadline_at) end,
        next_hint_at = least(now() + make_interval(secs => step.hint_in_s), jobs.deadline_at),
        lease_until = null,
        lease_owner = null,
        attempts = jobs.attempts - step.is_wait::integer,
        lost_steps = 0,
        unclear_starts = jobs.unclear_starts - step.had_no_effect::integer,
        waits = jobs.waits + step.is_wait::integer,
        waiting_since = case when step.is_wait then coalesce(jobs.waiting_since, now()) end,
        polls = jobs.polls + (step.call = 'poll')::integer,
        broker_operation = coalesce(step.broker_operation, jobs.broker_operation),
        broker_description = coalesce(step.broker_description, jobs.broker_description),
        errors = step.errors,
        warnings = jobs.warnings || step.warnings,
        version = jobs.version + (step.state <> jobs.state
                                  or coalesce(step.broker_description, jobs.broker_description)
                                     is distinct from jobs.broker_description)::integer,
        updated_at = case when step.state <> jobs.state
                            or coalesce(step.broker_description, jobs.broker_description)
                               is distinct from jobs.broker_description
                          then now() else jobs.updated_at end,
        completed_at = case when step.due_in_s is null then now() end
    from step
    where jobs.guid = step.job_guid and jobs.fence = step.fence and jobs.lease_until is not null
    returning jobs.*, step.fence as step_fence, step.size_bytes, step.expires_at_s, step.clean_up_in_s,
              step.was_answered
),
ended_backup as (
    update backups
    set state = case when recorded.state = 'succeeded' then 'succeeded' else 'failed' end,
        completed_at = recorded.completed_at, size_bytes = recorded.size_bytes,
        expires_at = to_timestamp(recorded.expires_at_s)
    from recorded
    where backups.guid = recorded.resource_guid and recorded.completed_at is not null and recorded.holds_instance
),
-- What was not deleted is there as before, as far as we know; asking again does no harm.
ended_deletion as (
    update backups
    set state = case when recorded.state = 'succeeded' then 'deleted' else 'succeeded' end
    from recorded
    where backups.guid = recorded.resource_guid and recorded.completed_at is not null and backups.state = 'deleting'
      and recorded.operation = 'service_instance.delete_backup'
),
ended_restore as (
    update restores
    set state = case when recorded.state = 'succeeded' then 'succeeded' else 'failed' end,
        completed_at = recorded.completed_at
    from recorded
    where restores.guid = recorded.resource_guid and recorded.completed_at is not null and recorded.holds_instance
),
clean_up as (
    insert into jobs (guid, operation, service_instance_guid, broker_guid, resource_guid, user_guid, request_id,
                      traceparent, request_body, parent_guid, due_at, next_hint_at, deadline_at)
    select gen_random_uuid(), %(clean_up_of)s::jsonb ->> operation, service_instance_guid, broker_guid, resource_guid,
           user_guid, request_id, traceparent, request_body, guid,
           now() + make_interval(secs => clean_up_in_s), now() + make_interval(secs => clean_up_in_s),
           now() + make_interval(secs => %(clean_up_deadline_s)s)
    from recorded
    where clean_up_in_s is not null and can_undo and completed_at is not null and holds_instance
),
history as (
    insert into job_steps (job_guid, fence, call, event, outcome, http_status, duration_ms, detail, worker, actor_guid,
                           actor_name)
    select job_guid, step.fence, call, event, outcome, http_status, duration_ms, detail, worker, actor_guid, actor_name
    from step join recorded on recorded.guid = step.job_guid and recorded.step_fence = step.fence
),
health as (
    select broker_guid, count(*) filter (where not was_answered) as failures, bool_or(was_answered) as is_well
    from recorded
    where was_answered is not null
    group by broker_guid
),
-- In order, so that two of these do not wait for each other; a broker that was well and is well is left alone.
changing as (
    select s.broker_guid, health.failures, health.is_well
    from broker_states s
    join health using (broker_guid)
    where not health.is_well or s.failures > 0 or s.retry_at is not null
    order by s.broker_guid
    for no key update of s
),
breaker as (
    update broker_states s
    set failures = case when c.is_well then 0 else s.failures + c.failures end,
        openings = case when c.is_well then 0
                        when s.is_probing or (s.retry_at is null and s.failures + c.failures >= %(breaker_failures)s)
                        then s.openings + 1
                        else s.openings end,
        retry_at = case when c.is_well then null
                        when s.is_probing or (s.retry_at is null and s.failures + c.failures >= %(breaker_failures)s)
                        then now() + make_interval(secs => least(%(breaker_pause_s)s * 2 ^ least(s.openings, 20),
                                                                 %(breaker_pause_max_s)s))
                        else s.retry_at end,
        is_probing = false
    from changing c
    where s.broker_guid = c.broker_guid
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
-- Undoes the marks of hints that nobody will follow, so that neither an outage of the queue nor a full worker adds its
-- pauses.
with candidate as materialized (
    select j.guid
    from unnest(%(guids)s::uuid[]) as w (guid)
    cross join lateral (
        select guid, completed_at, due_at, lease_until from jobs where guid = w.guid offset 0) j
    where j.completed_at is null and j.lease_until is null and j.due_at <= now()
),
unfollowed as (
    select j.guid
    from candidate c
    cross join lateral (
        select guid, completed_at, due_at, lease_until
        from jobs
        where guid = c.guid
        offset 0
        for update skip locked) j
    where j.completed_at is null and j.lease_until is null and j.due_at <= now()
)
update jobs
set next_hint_at = now(), hint_count = greatest(hint_count - 1, 0)
from unfollowed
where jobs.guid = unfollowed.guid;

-- name: list_clean_ups
-- Clean-ups that are at work, and those that were given up and not tried again since.
select c.guid, c.operation, c.state, c.resource_guid, c.service_instance_guid, b.name as broker_name, c.parent_guid,
       c.attempts, c.created_at, c.completed_at, c.deadline_at, c.due_at, c.errors, c.broker_description,
       (select s.detail from job_steps s where s.job_guid = c.guid order by s.fence desc limit 1) as last_detail,
       now() as read_at
from jobs c
join brokers b on b.guid = c.broker_guid
where c.is_clean_up and c.state <> 'succeeded'
  and (c.completed_at is null
       or (c.state = 'failed' and not exists (select from jobs r where r.parent_guid = c.guid)))
order by c.created_at;

-- name: retry_clean_up
-- A new clean-up for one that was given up; nothing when it was not, or when another is at work on the same thing.
insert into jobs (guid, operation, service_instance_guid, broker_guid, resource_guid, user_guid, request_id,
                  traceparent, request_body, parent_guid, due_at, next_hint_at, deadline_at)
select gen_random_uuid(), operation, service_instance_guid, broker_guid, resource_guid, user_guid, request_id,
       traceparent, request_body, guid, now(), now(), now() + make_interval(secs => %(clean_up_deadline_s)s)
from jobs c
where guid = %(guid)s and is_clean_up and state = 'failed'
  and not exists (select from jobs r where r.parent_guid = c.guid)
on conflict (resource_guid) where is_clean_up and completed_at is null do nothing
returning guid;

-- name: begin_clean_up
-- A clean-up of a backup that nobody wants and that the broker still has, after the newest job on it, which has ended;
-- nothing when another job follows that one already, when somebody wants the backup after all, or when it may not be
-- removed.
insert into jobs (guid, operation, service_instance_guid, broker_guid, resource_guid, user_guid, request_id,
                  traceparent, request_body, parent_guid, due_at, next_hint_at, deadline_at)
select gen_random_uuid(), %(operation)s, service_instance_guid, broker_guid, resource_guid, user_guid, request_id,
       traceparent, request_body, guid, now(), now(), now() + make_interval(secs => %(clean_up_deadline_s)s)
from jobs c
where guid = %(guid)s and operation = any(%(operations)s) and completed_at is not null
  and (is_clean_up or can_undo)
  and not exists (select from jobs r where r.parent_guid = c.guid)
  and not exists (select from backups b
                  where b.guid = c.resource_guid and b.state in ('in progress', 'succeeded', 'deleting'))
on conflict (resource_guid) where is_clean_up and completed_at is null do nothing
returning guid;

-- name: explain_refused_retry
-- Why a clean-up cannot be begun anew: what it is, what followed it, and what is at work on the same thing.
select c.is_clean_up, c.state,
       (select r.guid from jobs r where r.parent_guid = c.guid order by r.created_at limit 1) as retried_as,
       (select o.guid from jobs o
        where o.resource_guid = c.resource_guid and o.is_clean_up and o.completed_at is null) as at_work
from jobs c
where c.guid = %(guid)s;

-- name: prune
-- Deletes some of the jobs that ended long ago, with their steps, their restores, and their backups unless these
-- succeeded. However old, the job of an instance's newest backup stays, and so does a clean-up that was given up and not
-- tried again: something is left at a broker, and nobody has seen to it. Returns how many went. `offset 0` has the
-- conditions looked at for one job after the other, from the oldest on, and not for all of them at once.
with old as (
    select j.guid, j.resource_guid
    from jobs j
    where j.completed_at < now() - make_interval(secs => %(retention_s)s)
      and not exists (
          select from backups b
          where b.guid = j.resource_guid and b.state = 'succeeded'
            and not exists (select from backups n
                            where n.service_instance_guid = b.service_instance_guid and n.state = 'succeeded'
                              and (n.created_at, n.guid) > (b.created_at, b.guid)
                            offset 0)
          offset 0)
      and not (j.is_clean_up and j.state = 'failed' and not exists (select from jobs r where r.parent_guid = j.guid offset 0))
    order by j.completed_at
    limit %(limit)s
    for update of j skip locked
),
gone as (delete from jobs using old where jobs.guid = old.guid returning old.resource_guid, jobs.is_clean_up),
gone_backups as (
    delete from backups using gone
    where backups.guid = gone.resource_guid and not gone.is_clean_up and backups.state in ('failed', 'deleted')
),
gone_restores as (
    delete from restores using gone where restores.guid = gone.resource_guid and not gone.is_clean_up
)
select count(*) as n from gone;
