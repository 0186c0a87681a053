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

-- What workers have just done, for those who wait for many jobs.
create index job_steps_latest on job_steps (recorded_at);

-- An open job leaves several dead rows behind with every step, in the indexes that dispatchers read from their beginnings.
-- A fifth of all jobs, which is when PostgreSQL would clean up, are minutes of that once millions have ended; so is the
-- tenth of them after which it would look at what the table has become.
alter table jobs set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000,
                      autovacuum_analyze_scale_factor = 0.02);
