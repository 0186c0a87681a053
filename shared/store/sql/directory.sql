-- Statements on the directory's own tables.

-- name: find_instance
-- An instance with its plan, offering and broker, and the roles that a user has where it lives.
select i.guid, i.name, i.type, i.last_operation_type, i.last_operation_state,
       s.guid as space_guid, s.name as space_name, o.guid as organization_guid, o.name as organization_name,
       p.name as plan_name, p.catalog_id as plan_catalog_id, p.backup_features, p.maximum_polling_duration_s,
       f.name as offering_name, f.catalog_id as offering_catalog_id, f.guid as offering_guid, f.broker_guid,
       array(select r.type from roles r
             where r.user_guid = %(user_guid)s
               and (r.space_guid = s.guid or r.organization_guid = o.guid)) as roles
from service_instances i
join spaces s on s.guid = i.space_guid
join organizations o on o.guid = s.organization_guid
left join service_plans p on p.guid = i.plan_guid
left join service_offerings f on f.guid = p.offering_guid
where i.guid = %(guid)s;
