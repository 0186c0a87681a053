-- Statements on backups.

-- name: list_newest
-- The newest backups of an instance that succeeded.
select guid, service_instance_guid, created_at, size_bytes
from backups
where service_instance_guid = %(service_instance_guid)s and state = 'succeeded'
order by created_at desc, guid desc
limit %(limit)s;

-- name: find_succeeded
-- One backup of an instance, if it can be restored.
select guid, service_instance_guid, created_at, size_bytes
from backups
where guid = %(guid)s and service_instance_guid = %(service_instance_guid)s and state = 'succeeded';

-- name: find
-- One backup of an instance that there is, or that is being made or deleted, with the newest job on it. The job that
-- made it and those that came later are in an index each.
select guid, service_instance_guid, created_at, size_bytes, state, trigger, completed_at, expires_at,
       (select guid
        from (select guid, created_at from jobs where resource_guid = b.guid and holds_instance
              union all
              select guid, created_at from jobs where resource_guid = b.guid and not holds_instance and not is_clean_up) j
        order by created_at desc
        limit 1) as job_guid
from backups b
where guid = %(guid)s and service_instance_guid = %(service_instance_guid)s and state <> 'deleted';

-- name: list_instances
-- The managed instances whose plans have backups, with their brokers; those given, or with null all.
select i.guid, i.name, b.guid as broker_guid, b.name as broker_name, b.url as broker_url,
       b.username as broker_username, b.password_sealed as broker_password_sealed, b.calls_in_flight
from service_instances i
join service_plans p on p.guid = i.plan_guid
join service_offerings f on f.guid = p.offering_guid
join brokers b on b.guid = f.broker_guid
where 'backup' = any(p.backup_features)
  and (%(guids)s::text[] is null or i.guid = any(%(guids)s::text[]))
  and (%(broker_names)s::text[] is null or b.name = any(%(broker_names)s::text[]))
order by b.name, i.guid;

-- name: list_known
-- Every backup of some instances that our tables know of, in whatever state, with the newest job on it. One whose row
-- went with its own job is known as long as a clean-up of it is; nobody wants it. An id that the broker called
-- somebody else's (409) is not ours to remove. Each kind of state has its index, those in progress that of their jobs.
with newest_job as (
    select distinct on (resource_guid)
           resource_guid, service_instance_guid, guid, state, is_clean_up,
           is_clean_up or (can_undo and not exists (
               select from job_steps s where s.job_guid = j.guid and s.call = 'start' and s.http_status = 409))
               as can_remove
    from jobs j
    where service_instance_guid = any(%(instance_guids)s) and operation <> all(%(other_operations)s)
    order by resource_guid, created_at desc, is_clean_up desc
),
backup as (
    select guid, service_instance_guid, state, completed_at
    from backups
    where service_instance_guid = any(%(instance_guids)s) and state = 'succeeded'
    union all
    select guid, service_instance_guid, state, completed_at
    from backups
    where service_instance_guid = any(%(instance_guids)s) and completed_at is not null and state <> 'succeeded'
    union all
    select b.guid, b.service_instance_guid, b.state, b.completed_at
    from jobs j
    join backups b on b.guid = j.resource_guid
    where j.service_instance_guid = any(%(instance_guids)s) and j.completed_at is null and j.holds_instance
      and b.state = 'in progress'
)
select coalesce(b.guid, j.resource_guid) as guid,
       coalesce(b.service_instance_guid, j.service_instance_guid) as service_instance_guid,
       coalesce(b.state, 'failed') as state, b.completed_at,
       j.guid as job_guid, j.state as job_state, coalesce(j.is_clean_up, false) as job_is_clean_up,
       coalesce(j.can_remove, false) as can_remove,
       exists (select from jobs d
               where d.resource_guid = b.guid and not d.holds_instance
                 and d.operation = 'service_instance.delete_backup' and d.state = 'succeeded') as was_deleted_on_request
from backup b
full join newest_job j on j.resource_guid = b.guid
order by b.completed_at, guid;

-- name: mark_deleted
-- A backup that the broker no longer has, if it is still the one that was looked at.
update backups
set state = 'deleted'
where guid = %(guid)s and state = 'succeeded' and completed_at = %(completed_at)s
returning guid;

-- name: mark_succeeded_again
-- A backup that the broker has after all, if it is still the one that was looked at and nobody asked for its removal.
update backups
set state = 'succeeded'
where guid = %(guid)s and state = 'deleted' and completed_at = %(completed_at)s
  and not exists (select from jobs j where j.parent_guid = %(job_guid)s)
  and not exists (select from jobs d
                  where d.resource_guid = backups.guid and not d.holds_instance
                    and d.operation = 'service_instance.delete_backup' and d.state = 'succeeded')
returning guid;
