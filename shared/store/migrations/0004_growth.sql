-- What is asked of finished jobs costs the same however many there are.

-- The jobs on a backup besides the one that made it. That one is found by jobs_resource_once, so the many stay out.
create index jobs_of_resource on jobs (resource_guid) where not holds_instance;
-- Clean-ups that are at work or were given up, among many jobs that failed.
create index jobs_clean_ups on jobs (created_at) where is_clean_up and state <> 'succeeded';
-- The backups of an instance that are not listed any more, or never were. Those being made are found by their open jobs,
-- so that accepting one costs no more.
create index backups_unlisted on backups (service_instance_guid) where completed_at is not null and state <> 'succeeded';
-- What happened to an instance, and what an auditor of an organization sees.
create index audit_events_of_target on audit_events (target_guid, created_at, guid);
create index audit_events_of_organization on audit_events (organization_guid, created_at, guid);

-- Who sees the audit events of which place: the one place that says so.
create view audited_spaces as
    select user_guid, space_guid from roles where type in ('space_developer', 'space_auditor');
create view audited_organizations as
    select user_guid, organization_guid from roles where type = 'organization_auditor';
drop function find_audit_events;

-- What workers have just done, for those who wait for many jobs.
create index job_steps_latest on job_steps (recorded_at);

-- An open job leaves several dead rows behind with every step, in the indexes that dispatchers read from their beginnings.
-- A fifth of all jobs, which is when PostgreSQL would clean up, are minutes of that once millions have ended; so is the
-- tenth of them after which it would look at what the table has become.
alter table jobs set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000,
                      autovacuum_analyze_scale_factor = 0.02);

-- Audit events are written for all steps of a statement at once, since a row's own trigger, with a way back for each,
-- cost as much as all the rest of recording a step. Only when that fails is each written for itself, and what goes wrong
-- with one is a warning, so that it fails nothing and no other.
create function write_audit_events_of(steps job_steps[]) returns void language plpgsql as $$
begin
    insert into audit_events (type, actor_guid, actor_name, target_guid, target_name, space_guid, organization_guid, data)
    select 'audit.service_instance.'
               || case s.event when 'accepted' then 'start_' when 'cancelled' then 'cancel_' else '' end
               || case j.operation when 'service_instance.create_backup' then 'backup'
                                   else split_part(j.operation, '.', 2) end,
           coalesce(s.actor_guid, j.user_guid), coalesce(s.actor_name, j.user_name),
           j.service_instance_guid, j.service_instance_name, j.space_guid, j.organization_guid,
           jsonb_build_object(
               'job_guid', j.guid,
               case when j.operation = 'service_instance.restore' then 'restore_guid' else 'backup_guid' end,
               j.resource_guid,
               'request', (j.request_body::jsonb - array['service_id', 'plan_id', 'context'])
                          || case when j.request_body::jsonb ? 'parameters'
                                  then '{"parameters": "[PRIVATE DATA HIDDEN]"}'::jsonb else '{}' end)
    from unnest(steps) s
    cross join lateral (select * from jobs where guid = s.job_guid offset 0) j
    where not j.is_clean_up;
end $$;

create function write_audit_events() returns trigger language plpgsql as $$
declare
    steps job_steps[];
    step job_steps;
begin
    select array_agg(row(n.*)::job_steps) into steps
    from new_steps n
    where n.event in ('accepted', 'succeeded', 'cancelled');
    if steps is null then
        return null;
    end if;
    begin
        perform write_audit_events_of(steps);
    exception when others then
        foreach step in array steps loop
            begin
                perform write_audit_events_of(array[step]);
            exception when others then
                raise warning 'no audit event of job % was written: %', step.job_guid, sqlerrm;
            end;
        end loop;
    end;
    return null;
end $$;

drop trigger job_steps_audit on job_steps;
drop function write_audit_event();
create trigger job_steps_audit after insert on job_steps referencing new table as new_steps for each statement
    execute function write_audit_events();
