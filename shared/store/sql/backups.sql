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
