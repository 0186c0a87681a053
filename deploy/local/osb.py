"""The part of a platform that the local stack plays towards its broker: making an instance and a binding.

Safekeep itself never does this; a Cloud Controller does, before anybody asks for a backup.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from deploy.local.errors import LocalStackError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S: Final = 30


@dataclass(frozen=True, slots=True)
class BrokerAccount:
    """Where a broker is and how to sign on."""

    url: str
    username: str
    password: str

    def answers(self) -> bool:
        """Whether the broker hands out its catalog."""
        try:
            self.call("GET", "/v2/catalog")
        except LocalStackError:
            return False
        return True

    def provision(self, instance_guid: str, plan: Mapping[str, str], organization_guid: str, space_guid: str) -> None:
        """Make the service instance, or find that it is there. Raises LocalStackError."""
        places = {"organization_guid": organization_guid, "space_guid": space_guid}
        self.call("PUT", f"/v2/service_instances/{instance_guid}", {**plan, **places})

    def bind(self, instance_guid: str, binding_guid: str, plan: Mapping[str, str]) -> str:
        """The URI of the instance's database, with credentials of the binding. Raises LocalStackError."""
        path = f"/v2/service_instances/{instance_guid}/service_bindings/{binding_guid}"
        uri: str = self.call("PUT", path, dict(plan))["credentials"]["uri"]
        return uri

    def deprovision(self, instance_guid: str, plan: Mapping[str, str]) -> None:
        """Remove the service instance with its database. Raises LocalStackError."""
        query = "&".join(f"{name}={value}" for name, value in plan.items())
        self.call("DELETE", f"/v2/service_instances/{instance_guid}?{query}")

    def find_plan(self, offering: str, plan: str) -> dict[str, str]:
        """The `service_id` and `plan_id` of a plan by its names. Raises LocalStackError."""
        for service in self.call("GET", "/v2/catalog")["services"]:
            for candidate in service["plans"]:
                if (service["name"], candidate["name"]) == (offering, plan):
                    return {"service_id": service["id"], "plan_id": candidate["id"]}
        raise LocalStackError(f"the broker at {self.url} has no plan {plan} of an offering {offering}")

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:  # Any: JSON
        """The JSON object that the broker answers with. Raises LocalStackError for anything but a success."""
        credentials = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        request = Request(  # noqa: S310 - the URL is the stack's own
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Basic {credentials}",
                "Content-Type": "application/json",
                "X-Broker-API-Version": "2.17",
            },
        )
        try:
            with urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310 - as above
                answer: dict[str, Any] = json.load(response)
                return answer
        except HTTPError as error:
            text = error.read().decode(errors="replace")
            if error.code == HTTPStatus.GONE:
                return {}
            raise LocalStackError(f"the broker answered {method} {path} with {error.code}: {text}") from error
        except (URLError, OSError, ValueError) as error:
            raise LocalStackError(f"the broker did not answer {method} {path}: {error}") from error
