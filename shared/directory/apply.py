"""Making the directory's tables be what a declaration says: catalogs first, then one transaction, all of it or nothing.

What the declaration does not name is left alone: brokers, offerings, plans, users, organizations, spaces and instances
are never removed. Roles and shares are the exception: the roles of a declared organization or space, and the spaces
that a declared instance is shared to, are exactly the declared ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

from shared.directory.changes import AppliedChanges, NounChanges
from shared.directory.declaration import ManagedInstance
from shared.directory.resolve import choose_plans, fetch_catalogs
from shared.errors import SecretsError, StoreError, StoreUnavailableError
from shared.store.sql import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.directory.catalog import Catalog
    from shared.directory.declaration import (
        BrokerDeclaration,
        Declaration,
        OrganizationRoles,
        SpaceRoles,
    )
    from shared.directory.resolve import FetchCatalog, PlanChoice
    from shared.records import Json
    from shared.security.secrets import Sealer

_SQL: Final = load("directory")

CONNECT_TIMEOUT_S: Final = 10
#: Another apply only holds its locks while it writes; one that takes longer than this hangs.
LOCK_TIMEOUT_S: Final = 30


async def apply(
    declaration: Declaration, *, database_url: str, sealer: Sealer, fetch_catalog: FetchCatalog
) -> AppliedChanges:
    """Apply `declaration` and return what that changed; a second time, that is nothing.

    `fetch_catalog` returns the decoded body of the broker's `GET /v2/catalog` and raises any SafekeepError when there
    is none. Raises DirectoryError when a broker cannot be asked, or does not have what an instance needs;
    StoreUnavailableError when PostgreSQL is away or locked, StoreError for anything else. In every case, nothing was
    changed, but for a connection that broke at the very end; applying again is then harmless.
    """
    catalogs = await fetch_catalogs(declaration, fetch_catalog)
    plans = choose_plans(declaration, catalogs)
    try:
        async with (
            await psycopg.AsyncConnection.connect(
                database_url,
                autocommit=True,
                row_factory=dict_row,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name="safekeep-apply",
                options=f"-c lock_timeout={LOCK_TIMEOUT_S}s",
            ) as connection,
            connection.transaction(),
        ):
            return await _write(connection, declaration, catalogs, plans, sealer)
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise StoreUnavailableError(f"the database is not available: {error}") from error
    except psycopg.Error as error:
        raise StoreError(str(error)) from error


async def _write(
    connection: psycopg.AsyncConnection[DictRow],
    declaration: Declaration,
    catalogs: Mapping[str, Catalog],
    plans: Mapping[str, PlanChoice],
    sealer: Sealer,
) -> AppliedChanges:
    await connection.execute(_SQL["lock_directory"])
    names = [broker.name for broker in declaration.brokers]
    cursor = await connection.execute(_SQL["lock_brokers"], {"names": names})
    sealed = {row["name"]: row["password_sealed"] for row in await cursor.fetchall()}

    async def write(noun: str, statement: str, rows: Iterator[Json], **more: Any) -> NounChanges:
        # Any: whatever parameters the statement has besides its rows
        cursor = await connection.execute(_SQL[statement], {"rows": Jsonb(list(rows)), **more})
        return NounChanges.from_rows(noun, await cursor.fetchall())

    return AppliedChanges(
        (
            await write("broker", "apply_brokers", _broker_rows(declaration, sealed, sealer)),
            await write("offering", "apply_offerings", _offering_rows(catalogs)),
            await write("plan", "apply_plans", _plan_rows(catalogs)),
            await write("user", "apply_users", _user_rows(declaration)),
            await write("organization", "apply_organizations", _organization_rows(declaration)),
            await write("space", "apply_spaces", _space_rows(declaration)),
            await write(
                "role",
                "apply_roles",
                _role_rows(declaration),
                organization_guids=[organization.guid for organization in declaration.organizations],
                space_guids=[space.guid for _, space in declaration.spaces()],
            ),
            await write("service instance", "apply_service_instances", _instance_rows(declaration, plans)),
            await write(
                "share",
                "apply_shares",
                _share_rows(declaration),
                service_instance_guids=[instance.guid for _, _, instance in declaration.instances()],
            ),
        )
    )


def _broker_rows(declaration: Declaration, sealed: Mapping[str, str], sealer: Sealer) -> Iterator[Json]:
    for broker in declaration.brokers:
        yield {
            "name": broker.name,
            "url": broker.url,
            "username": broker.username,
            "password_sealed": _sealed_password(broker, sealed.get(broker.name), sealer),
            "calls_in_flight": broker.limits.calls_in_flight,
            "calls_per_minute": broker.limits.calls_per_minute,
        }


def _sealed_password(broker: BrokerDeclaration, stored: str | None, sealer: Sealer) -> str:
    """What is stored, if it holds the declared password; sealing never gives the same text twice."""
    password = broker.password.get_secret_value()
    try:
        if stored is not None and sealer.open(stored) == password:
            return stored
    except SecretsError:
        pass  # sealed with a key that is gone: nobody can use it any more, so it is replaced
    return sealer.seal(password)


def _offering_rows(catalogs: Mapping[str, Catalog]) -> Iterator[Json]:
    for broker, catalog in catalogs.items():
        for offering in catalog.offerings:
            yield {
                "broker": broker,
                "catalog_id": offering.catalog_id,
                "name": offering.name,
                "broker_catalog": offering.published,
            }


def _plan_rows(catalogs: Mapping[str, Catalog]) -> Iterator[Json]:
    for broker, catalog in catalogs.items():
        for offering in catalog.offerings:
            for plan in offering.plans:
                yield {
                    "broker": broker,
                    "offering_id": offering.catalog_id,
                    "catalog_id": plan.catalog_id,
                    "name": plan.name,
                    "broker_catalog": plan.published,
                    "backup_features": plan.backup_features,
                    "maximum_polling_duration_s": plan.maximum_polling_duration_s,
                }


def _user_rows(declaration: Declaration) -> Iterator[Json]:
    for user in declaration.users:
        yield {"guid": user.guid, "name": user.name}


def _organization_rows(declaration: Declaration) -> Iterator[Json]:
    for organization in declaration.organizations:
        yield {"guid": organization.guid, "name": organization.name, "status": organization.status}


def _space_rows(declaration: Declaration) -> Iterator[Json]:
    for organization, space in declaration.spaces():
        yield {
            "guid": space.guid,
            "name": space.name,
            "status": space.status,
            "organization_guid": organization.guid,
        }


def _role_rows(declaration: Declaration) -> Iterator[Json]:
    user_guids = {user.name: user.guid for user in declaration.users}

    def rows(roles: OrganizationRoles | SpaceRoles, place: Json) -> Iterator[Json]:
        for role in type(roles).model_fields:
            for user in getattr(roles, role):
                yield {"user_guid": user_guids[user], "type": role, **place}

    for organization in declaration.organizations:
        yield from rows(organization.roles, {"organization_guid": organization.guid})
    for _, space in declaration.spaces():
        yield from rows(space.roles, {"space_guid": space.guid})


def _instance_rows(declaration: Declaration, plans: Mapping[str, PlanChoice]) -> Iterator[Json]:
    for _, space, instance in declaration.instances():
        row = {
            "guid": instance.guid,
            "name": instance.name,
            "type": instance.type,
            "space_guid": space.guid,
            "last_operation_type": instance.last_operation.type,
            "last_operation_state": instance.last_operation.state,
        }
        if isinstance(instance, ManagedInstance):
            row |= plans[instance.guid]._asdict()
        yield row


def _share_rows(declaration: Declaration) -> Iterator[Json]:
    for _, _, instance in declaration.instances():
        for space_guid in instance.shared_to:
            yield {"service_instance_guid": instance.guid, "space_guid": space_guid}
