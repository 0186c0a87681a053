"""The Open Service Broker API itself, on openbrokerapi: catalog, instances, bindings."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from openbrokerapi import errors
from openbrokerapi.service_broker import (
    Binding,
    BindState,
    DeprovisionServiceSpec,
    ProvisionedServiceSpec,
    ProvisionState,
    Service,
    ServiceBroker,
    UnbindSpec,
)

from deploy.postgres_broker.catalog import catalog
from deploy.postgres_broker.instances import role_of

if TYPE_CHECKING:
    from deploy.postgres_broker.instances import Server
    from deploy.postgres_broker.records import Records


class PostgresBroker(ServiceBroker):  # type: ignore[misc] # openbrokerapi publishes no types
    """Databases for platforms. All of it is quick, so nothing here is asynchronous."""

    def __init__(self, server: Server, records: Records) -> None:
        self._server = server
        self._records = records

    def catalog(self) -> Service:
        """OSB 2.17, "Catalog Management"."""
        return catalog()

    def provision(self, instance_id: str, details: Any, async_allowed: bool, **_: Any) -> ProvisionedServiceSpec:  # noqa: ARG002, FBT001 - openbrokerapi's signature
        """OSB 2.17, "Provisioning": the same request again is fine, another one for the same id is not."""
        wanted = {
            "service_id": details.service_id,
            "plan_id": details.plan_id,
            "parameters": json.dumps(details.parameters or {}, sort_keys=True),
        }
        found = self._records.find_instance(instance_id)
        if found and {name: found[name] for name in wanted} != wanted:
            raise errors.ErrInstanceAlreadyExists
        self._server.create(instance_id)
        self._records.add_instance(instance_id, **wanted)
        state = ProvisionState.IDENTICAL_ALREADY_EXISTS if found else ProvisionState.SUCCESSFUL_CREATED
        return ProvisionedServiceSpec(state)

    def deprovision(self, instance_id: str, details: Any, async_allowed: bool, **_: Any) -> DeprovisionServiceSpec:  # noqa: ARG002, FBT001 - openbrokerapi's signature
        """OSB 2.17, "Deprovisioning". Backups stay and can be restored into another instance."""
        if self._records.find_instance(instance_id) is None:
            raise errors.ErrInstanceDoesNotExist
        self._server.drop(instance_id, self._records.list_binding_roles(instance_id))
        self._records.remove_instance(instance_id)
        return DeprovisionServiceSpec(is_async=False)

    def bind(self, instance_id: str, binding_id: str, details: Any, async_allowed: bool, **_: Any) -> Binding:  # noqa: ARG002, FBT001 - openbrokerapi's signature
        """OSB 2.17, "Binding": a login role of its own, the same again for the same id."""
        if self._records.find_instance(instance_id) is None:
            raise errors.ErrBadRequest(f"there is no service instance {instance_id}")
        role = role_of(instance_id, binding_id)
        password, is_new = self._records.add_binding(instance_id, binding_id, role, secrets.token_urlsafe(24))
        uri = self._server.bind(instance_id, role, password)
        state = BindState.SUCCESSFUL_BOUND if is_new else BindState.IDENTICAL_ALREADY_EXISTS
        return Binding(state=state, credentials={"uri": uri, "username": role, "password": password})

    def unbind(self, instance_id: str, binding_id: str, details: Any, async_allowed: bool, **_: Any) -> UnbindSpec:  # noqa: ARG002, FBT001 - openbrokerapi's signature
        """OSB 2.17, "Unbinding"."""
        if not self._records.remove_binding(instance_id, binding_id):
            raise errors.ErrBindingDoesNotExist
        self._server.unbind(role_of(instance_id, binding_id))
        return UnbindSpec(is_async=False)
