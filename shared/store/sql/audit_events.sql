-- Statements on audit events. The schema's trigger writes them.

-- name: count
-- How many events a page is one of, counted up to a bound.
select count(*) as n
from (select
      from find_audit_events(%(user_guid)s, %(sees_everything)s, %(types)s, %(target_guids)s, %(space_guids)s,
                             %(organization_guids)s, %(since)s, %(before)s)
      limit %(count_max)s) counted;

-- name: list_oldest
-- A page of events, the oldest first.
select *
from find_audit_events(%(user_guid)s, %(sees_everything)s, %(types)s, %(target_guids)s, %(space_guids)s,
                       %(organization_guids)s, %(since)s, %(before)s)
order by created_at, guid
limit %(limit)s offset %(offset)s;

-- name: list_newest
-- A page of events, the newest first.
select *
from find_audit_events(%(user_guid)s, %(sees_everything)s, %(types)s, %(target_guids)s, %(space_guids)s,
                       %(organization_guids)s, %(since)s, %(before)s)
order by created_at desc, guid desc
limit %(limit)s offset %(offset)s;

-- name: find
-- One event that the user may see.
select *
from find_audit_events(%(user_guid)s, %(sees_everything)s, null, null, null, null, null, null)
where guid = %(guid)s;

-- name: prune
-- Deletes some of the events that are too old.
delete from audit_events
where guid in (select guid from audit_events
               where created_at < now() - make_interval(secs => %(retention_s)s)
               order by created_at
               limit %(limit)s
               for update skip locked)
returning guid;
