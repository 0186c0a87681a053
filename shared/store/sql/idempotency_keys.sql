-- Statements on keys that make a POST repeatable.

-- name: find
-- The request that was accepted with a key of the user's, unless that was too long ago.
select job_guid, fingerprint
from idempotency_keys
where user_guid = %(user_guid)s and key = %(key)s
  and created_at > now() - make_interval(secs => %(key_lifetime_s)s);

-- name: keep
-- Remembers a request that stores no job of its own.
insert into idempotency_keys as k (user_guid, key, fingerprint, job_guid)
values (%(user_guid)s, %(key)s, %(fingerprint)s, %(job_guid)s)
on conflict (user_guid, key) do update
set fingerprint = excluded.fingerprint, job_guid = excluded.job_guid, created_at = now()
where k.created_at <= now() - make_interval(secs => %(key_lifetime_s)s);

-- name: prune
-- Deletes keys that make nothing repeatable any more.
delete from idempotency_keys where created_at <= now() - make_interval(secs => %(key_lifetime_s)s);
