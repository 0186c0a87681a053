"""Between a declaration and the tables: asks every broker for its catalog, and finds the plans that instances name.

Nothing here writes; all that can be wrong with brokers and plans is known before the first change.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from shared.directory.catalog import parse_catalog
from shared.directory.declaration import ManagedInstance
from shared.directory.errors import CatalogError, DirectoryError, Problem
from shared.directory.validation import suggest
from shared.errors import SafekeepError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from shared.directory.catalog import Catalog
    from shared.directory.declaration import BrokerDeclaration, Declaration
    from shared.directory.validation import KeyPath

    FetchCatalog = Callable[[BrokerDeclaration], Awaitable[object]]


class PlanChoice(NamedTuple):
    """The plan of an instance, by the ids that the broker knows."""

    broker: str
    offering_id: str
    plan_id: str


async def fetch_catalogs(declaration: Declaration, fetch_catalog: FetchCatalog) -> dict[str, Catalog]:
    """The catalogs of all declared brokers, by the broker's name, asked for at the same time.

    Raises DirectoryError with every broker that could not be asked (`fetch_catalog` raised a SafekeepError) or
    published something malformed.
    """
    async with asyncio.TaskGroup() as group:
        tasks = {
            broker.name: group.create_task(_fetch(declaration, index, fetch_catalog))
            for index, broker in enumerate(declaration.brokers)
        }
    catalogs: dict[str, Catalog] = {}
    problems: list[Problem] = []
    for name, task in tasks.items():
        result = task.result()
        if isinstance(result, list):
            problems += result
        else:
            catalogs[name] = result
    if problems:
        raise DirectoryError(problems)
    return catalogs


async def _fetch(declaration: Declaration, index: int, fetch_catalog: FetchCatalog) -> Catalog | list[Problem]:
    broker = declaration.brokers[index]
    path = ("brokers", index)
    quoted = declaration.quote((*path, "name"))
    try:
        return parse_catalog(broker.name, await fetch_catalog(broker))
    except CatalogError as error:
        text = f"the catalog of broker {quoted} is malformed"
        return [declaration.problem(path, f"{text}: {reason}") for reason in error.reasons]
    except SafekeepError as error:
        return [declaration.problem(path, f"the catalog of broker {quoted} cannot be fetched: {error}")]


def choose_plans(declaration: Declaration, catalogs: Mapping[str, Catalog]) -> dict[str, PlanChoice]:
    """The plan of every managed instance, by the instance's guid.

    Raises DirectoryError with every instance whose offering or plan its broker does not have.
    """
    choices: dict[str, PlanChoice] = {}
    problems: list[Problem] = []
    for path, _, instance in declaration.instances():
        if isinstance(instance, ManagedInstance):
            choice = _choose(declaration, path, instance, catalogs[instance.broker])
            if isinstance(choice, Problem):
                problems.append(choice)
            else:
                choices[instance.guid] = choice
    if problems:
        raise DirectoryError(problems)
    return choices


def _choose(
    declaration: Declaration, path: KeyPath, instance: ManagedInstance, catalog: Catalog
) -> PlanChoice | Problem:
    def quote(key: str) -> str:
        return declaration.quote((*path, key))

    offerings = {offering.name: offering for offering in catalog.offerings}
    offering = offerings.get(instance.offering)
    if offering is None:
        text = f"broker {quote('broker')} has no offering {quote('offering')}; {suggest(instance.offering, offerings)}"
        return declaration.problem((*path, "offering"), text)
    plans = {plan.name: plan for plan in offering.plans}
    plan = plans.get(instance.plan)
    if plan is None:
        text = f"offering {quote('offering')} has no plan {quote('plan')}; {suggest(instance.plan, plans)}"
        return declaration.problem((*path, "plan"), text)
    return PlanChoice(instance.broker, offering.catalog_id, plan.catalog_id)
