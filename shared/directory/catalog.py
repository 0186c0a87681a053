"""A broker's `/v2/catalog`: the parts that Safekeep needs, and which backup features a plan has.

Fields that OSB has and Safekeep does not use are neither checked nor lost: what the broker published is kept as it is.
Fetching the catalog is left to whoever has an HTTP client.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from shared.directory.errors import CatalogError
from shared.directory.validation import KeyPath, Text, describe, path_in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shared.records import Json

SUPPORTED_MAJOR: Final = "1"
BACKUP: Final = "backup"
VERSION_SHOWN_MAX: Final = 32
DURATION_S_MAX: Final = 2**31 - 1  # what the column holds; 68 years are no limit
_NUL_IN_JSON: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan, with what is in force for it after the offering's say."""

    catalog_id: str  #: the broker's `plan_id`
    name: str
    published: Json  #: as the broker published it
    backup_features: tuple[str, ...]  #: sorted; empty when it does not support backup
    maximum_polling_duration_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offering:
    """An offering and its plans."""

    catalog_id: str  #: the broker's `service_id`
    name: str
    published: Json  #: as the broker published it, without its plans
    plans: tuple[Plan, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a broker offers."""

    offerings: tuple[Offering, ...]


class _Wire(BaseModel):
    """OSB 2.17: a platform ignores what it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True, defer_build=True)


class _WirePlan(_Wire):
    id: Text
    name: Text
    # What is wrong in these turns backups or the limit off, and never the catalog down.
    metadata: Any = None
    maximum_polling_duration: Any = None  # seconds


class _WireOffering(_Wire):
    id: Text
    name: Text
    metadata: Any = None
    plans: list[_WirePlan]


class _WireCatalog(_Wire):
    services: list[_WireOffering]


class _Osmapi(_Wire):
    """The announcement of backup support, `metadata.osmapi` (docs/broker-api.md, "Catalog")."""

    version: StrictStr
    features: list[StrictStr]
    maximum_polling_duration: Annotated[StrictInt, Field(gt=0)] | None = None  # seconds


def parse_catalog(broker: str, raw: object) -> Catalog:
    """The catalog in `raw`, the decoded JSON that the broker called `broker` answered.

    Raises CatalogError, with every place where it breaks OSB's rules on ids, names and types.
    """
    try:
        wire = _WireCatalog.model_validate(raw)
    except ValidationError as error:
        raise CatalogError(broker, map(_reason, error.errors(include_url=False))) from None
    reasons = [*_duplicates(wire), *_unstorable(raw)]
    if reasons:
        raise CatalogError(broker, reasons)
    published: Any = raw  # the model above has just checked the shape of what is read here
    return Catalog(
        tuple(
            Offering(
                catalog_id=offering.id,
                name=offering.name,
                published={key: value for key, value in as_published.items() if key != "plans"},
                plans=tuple(
                    _plan(plan, offering, published=plan_as_published)
                    for plan, plan_as_published in zip(offering.plans, as_published["plans"], strict=True)
                ),
            )
            for offering, as_published in zip(wire.services, published["services"], strict=True)
        )
    )


def _plan(plan: _WirePlan, offering: _WireOffering, *, published: Json) -> Plan:
    found = _announced(offering.metadata, plan.metadata)
    osmapi = None if isinstance(found, str) else found
    limits = (osmapi.maximum_polling_duration if osmapi else None, _polling_limit(plan))
    return Plan(
        catalog_id=plan.id,
        name=plan.name,
        published=published,
        backup_features=tuple(sorted(set(osmapi.features))) if osmapi else (),
        maximum_polling_duration_s=min((min(limit, DURATION_S_MAX) for limit in limits if limit), default=None),
    )


def _polling_limit(plan: _WirePlan) -> int | None:
    limit = plan.maximum_polling_duration
    is_seconds = isinstance(limit, int) and not isinstance(limit, bool) and limit > 0
    return limit if is_seconds else None


def why_no_backups(offering: Json, plan: Json | None = None) -> str | None:
    """Why there are no backups with `plan` of `offering`, both as their broker published them; None if there are.

    Without a plan: why the offering announces none for all its plans.
    """
    found = _announced(offering.get("metadata"), (plan or {}).get("metadata"))
    return found if isinstance(found, str) else None


def _announced(offering_metadata: object, plan_metadata: object) -> _Osmapi | str:
    """The announcement for a plan, when it is one of backup support that we understand; else in words what it lacks.

    What a plan says, even if it is wrong or null, replaces all that its offering says.
    """
    is_plans = plan_metadata is not None and (not isinstance(plan_metadata, dict) or "osmapi" in plan_metadata)
    metadata = plan_metadata if is_plans else offering_metadata
    whose = "plan" if is_plans else "service offering"
    if not isinstance(metadata, dict) or "osmapi" not in metadata:
        return f"The metadata of the {whose} has no osmapi, which would announce backups."
    try:
        osmapi = _Osmapi.model_validate(metadata["osmapi"])
    except ValidationError as error:
        first, *_ = error.errors(include_url=False)
        return f"The metadata.osmapi of the {whose} is malformed: {_reason(first)}."
    if osmapi.version.partition(".")[0] != SUPPORTED_MAJOR:
        version = osmapi.version[:VERSION_SHOWN_MAX]
        return f"The {whose} announces version {version!r} of backups, and version {SUPPORTED_MAJOR} is needed."
    if BACKUP not in osmapi.features:
        return f"The metadata.osmapi of the {whose} does not have the feature {BACKUP!r}."
    return osmapi


def _reason(detail: Any) -> str:  # Any: pydantic's ErrorDetails, which map() does not recognise as a TypedDict
    path = path_in_words(detail["loc"])
    text = describe(detail, mapping="an object")
    return f"{path}: {text}" if path else text


def _duplicates(wire: _WireCatalog) -> Iterator[str]:
    """OSB 2.17: ids of offerings and of plans are unique in a catalog, names of plans in their offering."""
    offerings = [(("services", i), offering) for i, offering in enumerate(wire.services)]
    plans = [((*path, "plans", i), plan) for path, offering in offerings for i, plan in enumerate(offering.plans)]
    yield from _repeated(((*path, "id"), offering.id) for path, offering in offerings)
    yield from _repeated(((*path, "name"), offering.name) for path, offering in offerings)
    yield from _repeated(((*path, "id"), plan.id) for path, plan in plans)
    for path, offering in offerings:
        yield from _repeated(((*path, "plans", i, "name"), plan.name) for i, plan in enumerate(offering.plans))


def _repeated(texts: Iterable[tuple[KeyPath, str]]) -> Iterator[str]:
    first: dict[str, KeyPath] = {}
    for path, text in texts:
        earlier = first.setdefault(text, path)
        if earlier is not path:
            yield f"{path_in_words(path)}: {text!r} is there already, at {path_in_words(earlier)}"


def _unstorable(raw: object) -> Iterator[str]:
    """What JSON in Python may be and PostgreSQL's jsonb may not: NUL, half a surrogate pair, NaN, nested too deeply."""
    try:
        text = json.dumps(raw, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError):
        yield "it contains a number or character that JSON does not have"
        return
    if _NUL_IN_JSON.search(text):
        yield "it contains the character NUL"
