-- Lists of what the directory has, for one caller and a page at a time. Each `visible_…` begins a statement, with what
-- the caller may see of a noun and the filters leave; `page` ends it. A filter that is null leaves everything.

-- name: page
-- The rows of the page in their order, each with the number of all that are visible. There is one row of nulls when the
-- page is empty, so that the number is told even then. What is equal in the order asked for is ordered by guid, so that
-- pages neither repeat nor leave out anything.
, picked as (
    select *
    from visible
    order by
        case when %(order_by)s = 'name' then name end,
        case when %(order_by)s = '-name' then name end desc,
        case %(order_by)s when 'created_at' then created_at when 'updated_at' then updated_at end,
        case %(order_by)s when '-created_at' then created_at when '-updated_at' then updated_at end desc,
        guid
    limit %(limit)s::bigint offset %(offset)s::bigint
)
select (select count(*) from visible) as total, p.*
from (select) as once
left join (select *, row_number() over () as position from picked) p on true
order by p.position;

-- name: visible_organizations
with visible as (
    select o.guid, o.created_at, o.updated_at, o.name, o.status
    from organizations o
    where (%(sees_everything)s::bool
           or o.guid in (select organization_guid from readable_organizations where user_guid = %(user_guid)s))
      and (%(guids)s::text[] is null or o.guid = any(%(guids)s::text[]))
      and (%(names)s::text[] is null or o.name = any(%(names)s::text[]))
)

-- name: visible_spaces
with visible as (
    select s.guid, s.created_at, s.updated_at, s.name, s.status, s.organization_guid
    from spaces s
    where (%(sees_everything)s::bool
           or s.guid in (select space_guid from readable_spaces where user_guid = %(user_guid)s))
      and (%(guids)s::text[] is null or s.guid = any(%(guids)s::text[]))
      and (%(names)s::text[] is null or s.name = any(%(names)s::text[]))
      and (%(organization_guids)s::text[] is null or s.organization_guid = any(%(organization_guids)s::text[]))
)

-- name: visible_roles
-- Everybody's roles in the places that the caller may read. They have no name to be ordered by.
with visible as (
    select r.guid::text as guid, r.created_at, r.updated_at, null::text as name, r.type, r.user_guid, r.space_guid,
           r.organization_guid
    from roles r
    where (%(sees_everything)s::bool
           or r.space_guid in (select space_guid from readable_spaces where user_guid = %(user_guid)s)
           or r.organization_guid in (
               select organization_guid from readable_organizations where user_guid = %(user_guid)s))
      and (%(guids)s::text[] is null or r.guid::text = any(%(guids)s::text[]))
      and (%(types)s::text[] is null or r.type = any(%(types)s::text[]))
      and (%(user_guids)s::text[] is null or r.user_guid = any(%(user_guids)s::text[]))
      and (%(space_guids)s::text[] is null or r.space_guid = any(%(space_guids)s::text[]))
      and (%(organization_guids)s::text[] is null or r.organization_guid = any(%(organization_guids)s::text[]))
)

-- name: visible_service_brokers
-- Nothing that signs on to them, and only for those who see everything.
with visible as (
    select b.guid::text as guid, b.created_at, b.updated_at, b.name, b.url
    from brokers b
    where %(sees_everything)s::bool
      and (%(guids)s::text[] is null or b.guid::text = any(%(guids)s::text[]))
      and (%(names)s::text[] is null or b.name = any(%(names)s::text[]))
)

-- name: visible_service_offerings
-- Those of the instances that the caller may read. The features are all that any of its plans has.
with visible as (
    select f.guid::text as guid, f.created_at, f.updated_at, f.name, f.catalog_id, f.broker_guid::text as broker_guid,
           f.broker_catalog,
           array(select distinct unnest(p.backup_features) from service_plans p where p.offering_guid = f.guid order by 1)
               as backup_features
    from service_offerings f
    join brokers b on b.guid = f.broker_guid
    where (%(sees_everything)s::bool and num_nonnulls(%(space_guids)s::text[], %(organization_guids)s::text[]) = 0
           or f.guid in (
               select p.offering_guid
               from service_instances i
               join service_plans p on p.guid = i.plan_guid
               join spaces s on s.guid = i.space_guid
               where (%(sees_everything)s::bool or i.guid in (
                         select service_instance_guid from readable_instances where user_guid = %(user_guid)s))
                 and (%(space_guids)s::text[] is null or s.guid = any(%(space_guids)s::text[]))
                 and (%(organization_guids)s::text[] is null
                      or s.organization_guid = any(%(organization_guids)s::text[]))))
      and (%(guids)s::text[] is null or f.guid::text = any(%(guids)s::text[]))
      and (%(names)s::text[] is null or f.name = any(%(names)s::text[]))
      and (%(service_broker_guids)s::text[] is null or b.guid::text = any(%(service_broker_guids)s::text[]))
      and (%(service_broker_names)s::text[] is null or b.name = any(%(service_broker_names)s::text[]))
)

-- name: visible_service_plans
-- Those of the instances that the caller may read, each with what its offering published.
with visible as (
    select p.guid::text as guid, p.created_at, p.updated_at, p.name, p.catalog_id,
           p.offering_guid::text as offering_guid, p.broker_catalog, f.broker_catalog as offering_broker_catalog,
           p.backup_features, p.maximum_polling_duration_s
    from service_plans p
    join service_offerings f on f.guid = p.offering_guid
    join brokers b on b.guid = f.broker_guid
    where (%(sees_everything)s::bool
           and num_nonnulls(%(space_guids)s::text[], %(organization_guids)s::text[],
                            %(service_instance_guids)s::text[]) = 0
           or p.guid in (
               select i.plan_guid
               from service_instances i
               join spaces s on s.guid = i.space_guid
               where (%(sees_everything)s::bool or i.guid in (
                         select service_instance_guid from readable_instances where user_guid = %(user_guid)s))
                 and (%(service_instance_guids)s::text[] is null or i.guid = any(%(service_instance_guids)s::text[]))
                 and (%(space_guids)s::text[] is null or s.guid = any(%(space_guids)s::text[]))
                 and (%(organization_guids)s::text[] is null
                      or s.organization_guid = any(%(organization_guids)s::text[]))))
      and (%(guids)s::text[] is null or p.guid::text = any(%(guids)s::text[]))
      and (%(names)s::text[] is null or p.name = any(%(names)s::text[]))
      and (%(broker_catalog_ids)s::text[] is null or p.catalog_id = any(%(broker_catalog_ids)s::text[]))
      and (%(service_offering_guids)s::text[] is null or f.guid::text = any(%(service_offering_guids)s::text[]))
      and (%(service_offering_names)s::text[] is null or f.name = any(%(service_offering_names)s::text[]))
      and (%(service_broker_guids)s::text[] is null or b.guid::text = any(%(service_broker_guids)s::text[]))
      and (%(service_broker_names)s::text[] is null or b.name = any(%(service_broker_names)s::text[]))
)

-- name: visible_service_instances
-- Asked for those of a space, it has those that are shared to it, too, as in Cloud Foundry.
with visible as (
    select i.guid, i.created_at, i.updated_at, i.name, i.type, i.space_guid, i.plan_guid::text as plan_guid,
           i.last_operation_type, i.last_operation_state
    from service_instances i
    left join service_plans p on p.guid = i.plan_guid
    where (%(sees_everything)s::bool
           or i.guid in (select service_instance_guid from readable_instances where user_guid = %(user_guid)s))
      and (%(guids)s::text[] is null or i.guid = any(%(guids)s::text[]))
      and (%(names)s::text[] is null or i.name = any(%(names)s::text[]))
      and (%(types)s::text[] is null or i.type = any(%(types)s::text[]))
      and (%(service_plan_guids)s::text[] is null or i.plan_guid::text = any(%(service_plan_guids)s::text[]))
      and (%(service_plan_names)s::text[] is null or p.name = any(%(service_plan_names)s::text[]))
      and (%(space_guids)s::text[] is null or i.space_guid = any(%(space_guids)s::text[]) or exists (
               select from service_instance_shares h
               where h.service_instance_guid = i.guid and h.space_guid = any(%(space_guids)s::text[])))
      and (%(organization_guids)s::text[] is null or exists (
               select from spaces s
               where s.organization_guid = any(%(organization_guids)s::text[])
                 and (s.guid = i.space_guid or exists (
                          select from service_instance_shares h
                          where h.service_instance_guid = i.guid and h.space_guid = s.guid))))
)
