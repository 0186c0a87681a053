"""Tables as they are after months: many finished jobs with all that belongs to them, and a crowd of open ones.

Written by a few statements, and not by way of the rules that guard each change, so that a million jobs take seconds.
Whatever is numbered has its guid from its number, so that a test can name it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from shared.security.secrets import Sealer
from tests.support import BROKER_PASSWORD, FEATURES

if TYPE_CHECKING:
    import psycopg

    from shared.settings import Settings

BROKERS: Final = 10
#: Instances 0 to 99 have a hundred finished jobs each, the oldest of all, however many there are; these have the rest.
QUIET_INSTANCES: Final = 100
BUSY_INSTANCES: Final = 900
#: Of a hundred finished jobs the last six are no backups: three restores, two deletions, one clean-up.
PER_INSTANCE: Final = 100
SPACE_SIZE: Final = 10
DAYS: Final = 80

_DIRECTORY: Final = """
    insert into brokers (guid, name, url, username, password_sealed)
    select md5('broker' || n)::uuid, 'broker-' || n, %(broker_url)s, 'user', %(password)s
    from generate_series(0, %(brokers)s::int - 1) n;
    insert into service_offerings (guid, broker_guid, catalog_id, name, broker_catalog)
    select md5('offering' || n)::uuid, md5('broker' || n)::uuid, 'service-id', 'postgres', '{}'
    from generate_series(0, %(brokers)s::int - 1) n;
    insert into service_plans (guid, offering_guid, catalog_id, name, broker_catalog, backup_features)
    select md5('plan' || n)::uuid, md5('offering' || n)::uuid, 'plan-id', 'small', '{}', %(features)s::text[]
    from generate_series(0, %(brokers)s::int - 1) n;
    insert into organizations (guid, name)
    select 'org-' || n, 'organization ' || n from generate_series(0, %(instances)s / 200) n;
    insert into spaces (guid, name, organization_guid)
    select 'space-' || n, 'space ' || n, 'org-' || n / 20 from generate_series(0, %(instances)s / 10) n;
    insert into users (guid, name)
    select md5('user' || n)::uuid::text, 'somebody ' || n from generate_series(0, %(instances)s / 10) n;
    insert into roles (user_guid, type, space_guid)
    select md5('user' || n)::uuid::text, 'space_developer', 'space-' || n from generate_series(0, %(instances)s / 10) n;
    insert into service_instances (guid, name, type, space_guid, plan_guid)
    select md5('instance' || n)::uuid, 'db ' || n, 'managed', 'space-' || n / 10,
           md5('plan' || n %% %(brokers)s::int)::uuid
    from generate_series(0, %(instances)s::int - 1) n;
"""

#: What finished jobs, and all that belongs to them, are made from.
_PLAN: Final = """
    create temporary view finished as
    select *, now() - make_interval(days => {days}) * (1 - n / ({last} + 1)::float8) as begun,
           md5('instance' || instance)::uuid::text as instance_guid
    from (select n::int, n::int % 100 as kind,
                 case when n / 100 < {quiet} then n / 100 else {quiet} + n / 100 % {busy} end as instance
          from generate_series({first}::int, {last}::int) n) numbered
"""

_FINISHED: Final = """
    insert into jobs (guid, operation, state, service_instance_guid, broker_guid, resource_guid, user_guid, request_id,
                      request_body, next_hint_at, fence, attempts, polls, broker_operation, broker_description,
                      deadline_at, can_undo, version, errors, created_at, updated_at, completed_at, user_name,
                      service_instance_name, space_guid, organization_guid, parent_guid)
    select md5('job' || n)::uuid,
           'service_instance.' || case when kind <= 93 then 'create_backup' when kind <= 96 then 'restore'
                                       when kind <= 98 then 'delete_backup' else 'clean_up_backup' end,
           case when kind in (9, 29, 49) or n = 9999 then 'failed' when n %% 1000 = 77 then 'cancelled'
                else 'succeeded' end,
           instance_guid, md5('broker' || instance %% 10)::uuid,
           md5('resource' || case when kind <= 96 then n when kind <= 98 then n - 60 else n - 50 end)::uuid,
           md5('user' || instance / 10)::uuid::text, md5('request' || n),
           '{"service_id": "service-id", "plan_id": "plan-id", "context": {"platform": "cloudfoundry"}}',
           begun, 3, 1, 2, 'operation-' || n, 'done', begun + interval '1 day', true, 4,
           case when kind in (9, 29, 49) or n = 9999 or n %% 1000 = 77
                then '[{"code": 10009, "title": "CF-UnableToPerform", "detail": "broken"}]'::jsonb else '[]' end,
           begun, begun + interval '5 minutes', begun + interval '5 minutes', 'somebody', 'db ' || instance,
           'space-' || instance / 10, 'org-' || instance / 200,
           case when kind = 99 then md5('job' || n - 50)::uuid end
    from finished;
    insert into job_steps (job_guid, fence, call, event, outcome, http_status, duration_ms, worker, recorded_at)
    select md5('job' || n)::uuid, k, case when k = 1 then 'start' else 'poll' end,
           case when k = 1 then 'accepted' when k = %(steps)s then 'succeeded' else 'in progress' end, 'success', 200,
           20, 'worker', begun + make_interval(mins => k)
    from finished cross join generate_series(1, %(steps)s::int) k;
    insert into backups (guid, service_instance_guid, state, size_bytes, created_at, completed_at)
    select md5('resource' || n)::uuid, instance_guid,
           case when kind in (9, 29, 49) or n %% 1000 = 77 then 'failed' when kind in (37, 38) then 'deleted'
                else 'succeeded' end,
           4711, begun, begun + interval '5 minutes'
    from finished where kind <= 93;
    insert into restores (guid, service_instance_guid, backup_id, state, created_at, completed_at)
    select md5('resource' || n)::uuid, instance_guid, md5('resource' || n - 90)::uuid, 'succeeded', begun,
           begun + interval '5 minutes'
    from finished where kind between 94 and 96;
    insert into audit_events (type, actor_guid, actor_name, target_guid, target_name, space_guid, organization_guid,
                              data, created_at)
    select 'audit.service_instance.backup', md5('user' || instance / 10)::uuid::text, 'somebody', instance_guid,
           'db ' || instance, 'space-' || instance / 10, 'org-' || instance / 200,
           jsonb_build_object('job_guid', md5('job' || n)::uuid), begun
    from finished;
    insert into idempotency_keys (user_guid, key, fingerprint, job_guid, created_at)
    select md5('user' || n %% 100)::uuid::text, 'key-' || n, 'same', md5('job' || n)::uuid,
           now() - make_interval(hours => 20) * (1 - n / (%(last)s + 1)::float8)
    from finished where n %% 9 = 0;
    drop view finished;
"""

_OPEN: Final = """
    insert into jobs (guid, operation, state, service_instance_guid, broker_guid, resource_guid, user_guid, request_id,
                      request_body, can_undo, due_at, next_hint_at, fence, attempts, polls, broker_operation,
                      broker_description, version, created_at, deadline_at, user_name, service_instance_name,
                      space_guid, organization_guid)
    select md5('open' || n)::uuid, 'service_instance.create_backup', %(state)s, md5('instance' || i)::uuid::text,
           md5('broker' || i %% %(brokers)s::int)::uuid, md5('new' || n)::uuid, md5('user' || i / 10)::uuid::text,
           md5('request' || n),
           '{"service_id": "service-id", "plan_id": "plan-id", "context": {"platform": "cloudfoundry"}}', true,
           due, due, case when %(state)s = 'poll' then 1 else 0 end, case when %(state)s = 'poll' then 1 else 0 end, 0,
           case when %(state)s = 'poll' then 'operation-' || n end, case when %(state)s = 'poll' then 'copying' end,
           case when %(state)s = 'poll' then 2 else 1 end, now() - interval '1 hour' * random(),
           now() + interval '1 day', 'somebody', 'db ' || i,
           'space-' || i / 10, 'org-' || i / 200
    from (select n, n + %(first_instance)s::int as i,
                 case when n < %(due)s then now() - make_interval(secs => random())
                      else now() + make_interval(secs => %(spread_s)s * random()) end as due
          from generate_series(0, %(count)s::int - 1) n) numbered;
    insert into backups (guid, service_instance_guid)
    select resource_guid, service_instance_guid from jobs
    where completed_at is null and not exists (select from backups b where b.guid = jobs.resource_guid);
"""


def guid_of(kind: str, number: int) -> UUID:
    """The guid of a numbered thing: user, job, resource, instance, broker; of open ones: open, new."""
    return UUID(hashlib.md5(f"{kind}{number}".encode(), usedforsecurity=False).hexdigest())


def seed_directory(
    connection: psycopg.Connection[Any],
    settings: Settings,
    *,
    instances: int,
    brokers: int = BROKERS,
    broker_url: str = "http://127.0.0.1:9",
) -> None:
    """Brokers, and `instances` on them, ten to a space; user N is a developer of `space-N`."""
    sealer = Sealer([key.get_secret_value() for key in settings.secret_keys])
    _run(
        connection,
        _DIRECTORY,
        instances=instances,
        brokers=brokers,
        broker_url=broker_url,
        password=sealer.seal(BROKER_PASSWORD),
        features=[*FEATURES, "backup.delete"],
    )


def seed_finished(connection: psycopg.Connection[Any], count: int, *, first: int = 0, steps: int = 3) -> None:
    """Finished jobs `first` to `count` - 1, oldest first, with `steps` steps each."""
    plan = _PLAN.format(first=first, last=count - 1, quiet=QUIET_INSTANCES, busy=BUSY_INSTANCES, days=DAYS)
    connection.execute("set session_replication_role = replica")
    connection.execute(plan.encode())
    _run(connection, _FINISHED, steps=steps, last=count - 1)
    connection.execute("reset session_replication_role")


def seed_open(
    connection: psycopg.Connection[Any],
    count: int,
    *,
    due: int,
    state: str = "poll",
    spread_s: float = 3600,
    first_instance: int = QUIET_INSTANCES + BUSY_INSTANCES,
    brokers: int = BROKERS,
) -> None:
    """Open jobs in `state`, one to an instance; the first `due` are due now, the others within `spread_s` seconds."""
    _run(
        connection,
        _OPEN,
        count=count,
        due=due,
        state=state,
        spread_s=spread_s,
        first_instance=first_instance,
        brokers=brokers,
    )


def _run(connection: psycopg.Connection[Any], statements: str, **parameters: object) -> None:
    """Run `statements` one by one, since the protocol takes no parameters for several."""
    for statement in filter(str.strip, statements.split(";")):
        connection.execute(statement.encode(), parameters)
