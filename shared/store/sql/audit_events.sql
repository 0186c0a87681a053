-- Statements on audit events, and the conditions and orders that lists are put together from. An event is `e` in them.
-- The schema's trigger writes events.

-- name: page
-- A part of a list, for who sees everything.
select * from audit_events e where {conditions} order by {order} limit %(limit)s offset %(offset)s;

-- name: page_of_reader
-- The same of the events that a user may see: of each of their places as many as could be in it, put together. A walk
-- through the events of everybody until there are enough of this user's may go to the end.
with own_space as (select distinct space_guid from audited_spaces where user_guid = %(user_guid)s),
own_organization as (select distinct organization_guid from audited_organizations where user_guid = %(user_guid)s)
select e.*
from (select e.*
      from own_space p
      cross join lateral (
          select * from audit_events e
          where e.space_guid = p.space_guid and {conditions}
          order by {order}
          limit %(limit)s::bigint + %(offset)s::bigint) e
      union all
      select e.*
      from own_organization p
      cross join lateral (
          select * from audit_events e
          where e.organization_guid = p.organization_guid and {conditions}
            and not exists (select from own_space o where o.space_guid = e.space_guid)
          order by {order}
          limit %(limit)s::bigint + %(offset)s::bigint) e) e
order by {order}
limit %(limit)s offset %(offset)s;

-- name: page_of_targets
-- The same of what happened to some instances, in the same way.
select e.*
from (select distinct unnest(%(target_guids)s::text[]) as guid) t
cross join lateral (
    select * from audit_events e
    where e.target_guid = t.guid and {conditions}
    order by {order}
    limit %(limit)s::bigint + %(offset)s::bigint) e
order by {order}
limit %(limit)s offset %(offset)s;

-- name: count
-- How many events a list has, counted up to a bound.
select count(*) as n from (select from audit_events e where {conditions} limit %(count_max)s) counted;

-- name: count_of_reader
-- The same of the events that a user may see.
with own_space as (select distinct space_guid from audited_spaces where user_guid = %(user_guid)s),
own_organization as (select distinct organization_guid from audited_organizations where user_guid = %(user_guid)s)
select count(*) as n
from (select from own_space p
      cross join lateral (
          select from audit_events e where e.space_guid = p.space_guid and {conditions} limit %(count_max)s) e
      union all
      select from own_organization p
      cross join lateral (
          select from audit_events e
          where e.organization_guid = p.organization_guid and {conditions}
            and not exists (select from own_space o where o.space_guid = e.space_guid)
          limit %(count_max)s) e
      limit %(count_max)s) counted;

-- name: order_newest
e.created_at desc, e.guid desc

-- name: order_oldest
e.created_at, e.guid

-- name: everything
true

-- name: of_reader
-- What a user may see.
(e.space_guid in (select space_guid from audited_spaces where user_guid = %(user_guid)s)
 or e.organization_guid in (select organization_guid from audited_organizations where user_guid = %(user_guid)s))

-- name: of_types
e.type = any(%(types)s)

-- name: of_targets
e.target_guid = any(%(target_guids)s)

-- name: of_spaces
e.space_guid = any(%(space_guids)s)

-- name: of_organizations
e.organization_guid = any(%(organization_guids)s)

-- name: created_since
e.created_at >= %(since)s

-- name: created_before
e.created_at < %(before)s

-- name: find
-- One event, as far as the condition lets it be seen.
select * from audit_events e where e.guid = %(guid)s and {seen};

-- name: prune
-- Deletes some of the events that are too old.
delete from audit_events
where guid in (select guid from audit_events
               where created_at < now() - make_interval(secs => %(retention_s)s)
               order by created_at
               limit %(limit)s
               for update skip locked)
returning guid;
