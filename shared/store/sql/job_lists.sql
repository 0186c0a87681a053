-- Statements that read many jobs as their pollers see them, and the conditions and orders that lists are put together
-- from. A job is `j` in all of them.

-- name: read
-- Some jobs.
select * from public_jobs where guid = any(%(guids)s);

-- name: versions
-- Of some jobs what changes when their pollers would see something new, and nothing that is large.
select guid, version, instance_exists, broker_retry_at, clean_up_guid, due_in_s
from public_jobs
where guid = any(%(guids)s);

-- name: read_one
-- One of these by itself: planned once for all, where a list is planned anew for each length.
select * from public_jobs where guid = %(guid)s;

-- name: version_of_one
select guid, version, instance_exists, broker_retry_at, clean_up_guid, due_in_s from public_jobs where guid = %(guid)s;

-- name: recorded_since
-- The jobs of steps that were recorded in the last so many seconds. What workers change of a job is in one of them.
select distinct job_guid from job_steps where recorded_at >= now() - make_interval(secs => %(age_s)s);

-- name: page
-- A part of a list. It is cut out before anything is looked up for its jobs, and that by the guid of each.
with page as (
    select j.guid from jobs j where {conditions} order by {order} limit %(limit)s offset %(offset)s
)
select j.*
from page
cross join lateral (select * from public_jobs p where p.guid = page.guid limit 1) j
order by {order};

-- name: page_of_reader
-- The same of the instances that a user can read. So many of each as could be in it, put together: a walk through the
-- jobs of everybody until there are enough of this user's may go to the end. Jobs of instances that are gone have no
-- readers.
with page as (
    select j.guid
    from (select distinct service_instance_guid from readable_instances where user_guid = %(reader)s) i
    cross join lateral (
        select j.guid, j.created_at, j.updated_at
        from jobs j
        where j.service_instance_guid = i.service_instance_guid and {conditions}
        order by {order}
        limit %(limit)s::bigint + %(offset)s::bigint) j
    order by {order}
    limit %(limit)s offset %(offset)s
)
select j.*
from page
cross join lateral (select * from public_jobs p where p.guid = page.guid limit 1) j
order by {order};

-- name: count
-- How many jobs a list has, counted up to a bound.
select count(*) as n from (select from jobs j where {conditions} limit %(count_max)s) counted;

-- name: count_of_reader
-- The same of the instances that a user can read.
select count(*) as n
from (select
      from (select distinct service_instance_guid from readable_instances where user_guid = %(reader)s) i
      cross join lateral (
          select from jobs j
          where j.service_instance_guid = i.service_instance_guid and {conditions}
          limit %(count_max)s) j
      limit %(count_max)s) counted;

-- name: order_created_at
j.created_at, j.guid

-- name: order_created_at_descending
j.created_at desc, j.guid desc

-- name: order_updated_at
j.updated_at, j.guid

-- name: order_updated_at_descending
j.updated_at desc, j.guid desc

-- name: everything
true

-- name: of_guids
j.guid = any(%(guids)s)

-- name: of_instances
j.service_instance_guid = any(%(service_instance_guids)s)

-- name: created_since
j.created_at >= %(created_since)s

-- name: created_before
j.created_at < %(created_before)s

-- name: updated_since
-- A job that has ended does not change: it was changed since when it has ended since, and that has an index.
j.updated_at >= %(updated_since)s and (j.completed_at is null or j.completed_at >= %(updated_since)s)

-- name: updated_before
-- What was changed before had been created before; that has an index.
j.updated_at < %(updated_before)s and j.created_at < %(updated_before)s

-- name: doing_create_backup
-- Each operation and state by itself and literally, so that no plan misses the partial indexes.
j.operation = 'service_instance.create_backup'

-- name: doing_restore
j.operation = 'service_instance.restore'

-- name: doing_delete_backup
j.operation = 'service_instance.delete_backup'

-- name: doing_clean_up_backup
j.operation = 'service_instance.clean_up_backup'

-- name: doing_clean_up_restore
j.operation = 'service_instance.clean_up_restore'

-- name: in_start
j.state = 'start' and j.completed_at is null

-- name: in_poll
j.state = 'poll' and j.completed_at is null

-- name: in_succeeded
j.state = 'succeeded'

-- name: in_failed
j.state = 'failed'

-- name: in_cancelled
j.state = 'cancelled'
