-- Statements on the directory's own tables.

-- name: find_instances
-- Instances with their plans, offerings and brokers, each for one user: the roles that they have where it lives and where
-- it is shared to, those in the organization of such a space included. Asked for by pairs; one that is not there is
-- missing from the answer.
select a.user_guid, i.guid, i.name, i.type, i.last_operation_type, i.last_operation_state,
       s.guid as space_guid, s.name as space_name, s.status as space_status,
       o.guid as organization_guid, o.name as organization_name, o.status as organization_status,
       p.name as plan_name, p.catalog_id as plan_catalog_id, p.backup_features, p.maximum_polling_duration_s,
       f.name as offering_name, f.catalog_id as offering_catalog_id, f.guid as offering_guid, f.broker_guid,
       array(select r.type from roles r
             where r.user_guid = a.user_guid
               and (r.space_guid = s.guid or r.organization_guid = o.guid)) as own_roles,
       array(select r.type
             from service_instance_shares h
             join spaces t on t.guid = h.space_guid
             join roles r on r.space_guid = t.guid or r.organization_guid = t.organization_guid
             where h.service_instance_guid = i.guid and r.user_guid = a.user_guid) as shared_roles
from unnest(%(guids)s::text[], %(user_guids)s::text[]) as a (guid, user_guid)
join service_instances i on i.guid = a.guid
join spaces s on s.guid = i.space_guid
join organizations o on o.guid = s.organization_guid
left join service_plans p on p.guid = i.plan_guid
left join service_offerings f on f.guid = p.offering_guid;

-- name: lock_directory
-- One change of the directory at a time; freed with the transaction. The number means nothing, it only is ours.
select pg_advisory_xact_lock(7236451909);

-- name: lock_brokers
-- The sealed passwords of some brokers, which nobody else changes until the transaction ends. Not a plain `for update`:
-- accepting a job refers to its broker's row, and must not wait.
select name, password_sealed from brokers where name = any(%(names)s) for no key update;

-- name: apply_brokers
-- Takes all declared brokers at once and answers each with its name and what was done, as do the statements that
-- follow. They tell `created` from `updated` by the table as it was when the statement began, which is what the last
-- select sees. A row that is already as declared is not written, so that updated_at keeps its meaning.
with declared as (
    select *
    from jsonb_to_recordset(%(rows)s) as d (
        name text, url text, username text, password_sealed text, calls_in_flight integer, calls_per_minute integer)
),
written as (
    insert into brokers as b (name, url, username, password_sealed, calls_in_flight, calls_per_minute)
    select name, url, username, password_sealed, calls_in_flight, calls_per_minute from declared
    on conflict (name) do update
    set url = excluded.url, username = excluded.username, password_sealed = excluded.password_sealed,
        calls_in_flight = excluded.calls_in_flight, calls_per_minute = excluded.calls_per_minute, updated_at = now()
    where (b.url, b.username, b.password_sealed, b.calls_in_flight, b.calls_per_minute)
          is distinct from (excluded.url, excluded.username, excluded.password_sealed, excluded.calls_in_flight,
                            excluded.calls_per_minute)
    returning b.name
)
select d.name,
       case when b.guid is null then 'created' when w.name is not null then 'updated' else 'unchanged' end as change
from declared d
left join brokers b using (name)
left join written w using (name);

-- name: apply_offerings
-- An offering is the same one as long as its broker calls it by the same id.
with declared as (
    select b.guid as broker_guid, d.*
    from jsonb_to_recordset(%(rows)s) as d (broker text, catalog_id text, name text, broker_catalog jsonb)
    left join brokers b on b.name = d.broker
),
written as (
    insert into service_offerings as f (broker_guid, catalog_id, name, broker_catalog)
    select broker_guid, catalog_id, name, broker_catalog from declared
    on conflict (broker_guid, catalog_id) do update
    set name = excluded.name, broker_catalog = excluded.broker_catalog, updated_at = now()
    where (f.name, f.broker_catalog) is distinct from (excluded.name, excluded.broker_catalog)
    returning f.broker_guid, f.catalog_id
)
select d.broker || '/' || d.name as name,
       case when f.guid is null then 'created' when w.catalog_id is not null then 'updated' else 'unchanged' end
           as change
from declared d
left join service_offerings f using (broker_guid, catalog_id)
left join written w using (broker_guid, catalog_id);

-- name: apply_plans
-- A plan is the same one as long as its offering is and the broker calls it by the same id.
with declared as (
    select f.guid as offering_guid, f.name as offering, d.*
    from jsonb_to_recordset(%(rows)s) as d (
        broker text, offering_id text, catalog_id text, name text, broker_catalog jsonb, backup_features text[],
        maximum_polling_duration_s integer)
    left join brokers b on b.name = d.broker
    left join service_offerings f on f.broker_guid = b.guid and f.catalog_id = d.offering_id
),
written as (
    insert into service_plans as p (offering_guid, catalog_id, name, broker_catalog, backup_features,
                                    maximum_polling_duration_s)
    select offering_guid, catalog_id, name, broker_catalog, backup_features, maximum_polling_duration_s from declared
    on conflict (offering_guid, catalog_id) do update
    set name = excluded.name, broker_catalog = excluded.broker_catalog, backup_features = excluded.backup_features,
        maximum_polling_duration_s = excluded.maximum_polling_duration_s, updated_at = now()
    where (p.name, p.broker_catalog, p.backup_features, p.maximum_polling_duration_s)
          is distinct from (excluded.name, excluded.broker_catalog, excluded.backup_features,
                            excluded.maximum_polling_duration_s)
    returning p.offering_guid, p.catalog_id
)
select d.broker || '/' || d.offering || '/' || d.name as name,
       case when p.guid is null then 'created' when w.catalog_id is not null then 'updated' else 'unchanged' end
           as change
from declared d
left join service_plans p using (offering_guid, catalog_id)
left join written w using (offering_guid, catalog_id);

-- name: apply_users
-- A user is the same one as long as their tokens have the same user_id.
with declared as (
    select * from jsonb_to_recordset(%(rows)s) as d (guid text, name text)
),
written as (
    insert into users as u (guid, name)
    select guid, name from declared
    on conflict (guid) do update set name = excluded.name where u.name is distinct from excluded.name
    returning u.guid
)
select d.name,
       case when u.guid is null then 'created' when w.guid is not null then 'updated' else 'unchanged' end as change
from declared d
left join users u using (guid)
left join written w using (guid);

-- name: apply_organizations
-- By guid; name and status can change.
with declared as (
    select * from jsonb_to_recordset(%(rows)s) as d (guid text, name text, status text)
),
written as (
    insert into organizations as o (guid, name, status)
    select guid, name, status from declared
    on conflict (guid) do update set name = excluded.name, status = excluded.status, updated_at = now()
    where (o.name, o.status) is distinct from (excluded.name, excluded.status)
    returning o.guid
)
select d.name,
       case when o.guid is null then 'created' when w.guid is not null then 'updated' else 'unchanged' end as change
from declared d
left join organizations o using (guid)
left join written w using (guid);

-- name: apply_spaces
-- By guid; a space may move to another organization.
with declared as (
    select * from jsonb_to_recordset(%(rows)s) as d (guid text, name text, status text, organization_guid text)
),
written as (
    insert into spaces as s (guid, name, status, organization_guid)
    select guid, name, status, organization_guid from declared
    on conflict (guid) do update
    set name = excluded.name, status = excluded.status, organization_guid = excluded.organization_guid,
        updated_at = now()
    where (s.name, s.status, s.organization_guid)
          is distinct from (excluded.name, excluded.status, excluded.organization_guid)
    returning s.guid
)
select d.name,
       case when s.guid is null then 'created' when w.guid is not null then 'updated' else 'unchanged' end as change
from declared d
left join spaces s using (guid)
left join written w using (guid);

-- name: apply_roles
-- Roles of the given organizations and spaces become exactly the declared ones, whoever holds them.
with declared as (
    select *
    from jsonb_to_recordset(%(rows)s) as d (user_guid text, type text, space_guid text, organization_guid text)
),
stored as (
    select user_guid, type, space_guid, organization_guid
    from roles
    where organization_guid = any(%(organization_guids)s) or space_guid = any(%(space_guids)s)
),
removed as (
    delete from roles r
    using (select * from stored except select * from declared) as gone
    where (r.user_guid, r.type) = (gone.user_guid, gone.type)
      and r.space_guid is not distinct from gone.space_guid
      and r.organization_guid is not distinct from gone.organization_guid
    returning r.user_guid, r.type, r.space_guid, r.organization_guid
),
created as (
    insert into roles (user_guid, type, space_guid, organization_guid)
    select * from declared except select * from stored
    returning user_guid, type, space_guid, organization_guid
),
change as (
    select 'removed' as change, removed.* from removed
    union all
    select 'created', created.* from created
    union all
    select 'unchanged', kept.* from (select * from stored intersect select * from declared) as kept
)
select u.name || ' as ' || c.type || ' in ' || coalesce(s.name, o.name) as name, c.change
from change c
join users u on u.guid = c.user_guid
left join spaces s on s.guid = c.space_guid
left join organizations o on o.guid = c.organization_guid;

-- name: apply_service_instances
-- A managed instance whose plan is not stored breaks a rule of the table, which then refuses everything.
with declared as (
    select p.guid as plan_guid, d.*
    from jsonb_to_recordset(%(rows)s) as d (
        guid text, name text, type text, space_guid text, broker text, offering_id text, plan_id text,
        last_operation_type text, last_operation_state text)
    left join brokers b on b.name = d.broker
    left join service_offerings f on f.broker_guid = b.guid and f.catalog_id = d.offering_id
    left join service_plans p on p.offering_guid = f.guid and p.catalog_id = d.plan_id
),
written as (
    insert into service_instances as i (guid, name, type, space_guid, plan_guid, last_operation_type,
                                        last_operation_state)
    select guid, name, type, space_guid, plan_guid, last_operation_type, last_operation_state from declared
    on conflict (guid) do update
    set name = excluded.name, type = excluded.type, space_guid = excluded.space_guid,
        plan_guid = excluded.plan_guid, last_operation_type = excluded.last_operation_type,
        last_operation_state = excluded.last_operation_state, updated_at = now()
    where (i.name, i.type, i.space_guid, i.plan_guid, i.last_operation_type, i.last_operation_state)
          is distinct from (excluded.name, excluded.type, excluded.space_guid, excluded.plan_guid,
                            excluded.last_operation_type, excluded.last_operation_state)
    returning i.guid
)
select d.name,
       case when i.guid is null then 'created' when w.guid is not null then 'updated' else 'unchanged' end as change
from declared d
left join service_instances i using (guid)
left join written w using (guid);

-- name: apply_shares
-- Shares of the given instances become exactly the declared ones.
with declared as (
    select * from jsonb_to_recordset(%(rows)s) as d (service_instance_guid text, space_guid text)
),
stored as (
    select service_instance_guid, space_guid
    from service_instance_shares
    where service_instance_guid = any(%(service_instance_guids)s)
),
removed as (
    delete from service_instance_shares h
    using (select * from stored except select * from declared) as gone
    where (h.service_instance_guid, h.space_guid) = (gone.service_instance_guid, gone.space_guid)
    returning h.service_instance_guid, h.space_guid
),
created as (
    insert into service_instance_shares (service_instance_guid, space_guid)
    select * from declared except select * from stored
    returning service_instance_guid, space_guid
),
change as (
    select 'removed' as change, removed.* from removed
    union all
    select 'created', created.* from created
    union all
    select 'unchanged', kept.* from (select * from stored intersect select * from declared) as kept
)
select i.name || ' with ' || s.name as name, c.change
from change c
join service_instances i on i.guid = c.service_instance_guid
join spaces s on s.guid = c.space_guid;
