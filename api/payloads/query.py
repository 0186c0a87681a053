"""Query parameters: known names only, each at most once, each as its model says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from annotated_types import Ge, GroupedMetadata, Le
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from shared.errors import BadQueryParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from aiohttp import web
    from multidict import MultiMapping


class Query(BaseModel):
    """The base of every operation's query. A field's alias, if it has one, is the parameter's name."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @classmethod
    def parameter_names(cls) -> list[str]:
        """The names of the parameters, in the order of the fields."""
        return [field.alias or name for name, field in cls.model_fields.items()]


class NoQuery(Query):
    """An operation without parameters."""


Asked = TypeVar("Asked", bound=Query)
_NAMES_MAX: Final = 50
_NAME_LENGTH_MAX: Final = 100


def read_query(request: web.Request, model: type[Asked]) -> Asked:
    """The query as `model`. Raises BadQueryParameterError for unknown, repeated and wrong parameters."""
    given = request.query
    if given:
        _check_names(given, model.parameter_names())
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        problems = (problem["msg"].removeprefix("Value error, ") for problem in error.errors(include_url=False))
        raise BadQueryParameterError("; ".join(problems)) from None


def _check_names(given: MultiMapping[str], valid: Sequence[str]) -> None:
    unknown = sorted(set(given) - set(valid))
    if unknown:
        known = f" Valid parameters are: {quoted(valid)}" if valid else ""
        raise BadQueryParameterError(f"Unknown query parameter(s): {quoted(unknown)}.{known}")
    for name in given:
        if len(given.getall(name)) > 1:
            raise BadQueryParameterError(f"'{name}' is given more than once")


def quoted(names: Iterable[str]) -> str:
    """Names as error texts have them: 'a', 'b'. Of many or long ones only the beginning: anybody can send them."""
    given = list(names)
    shown = [_shortened(name) for name in given[:_NAMES_MAX]]
    return ", ".join(f"'{name}'" for name in shown) + (", …" if len(given) > _NAMES_MAX else "")


def _shortened(name: str) -> str:
    # A half of a surrogate pair is no text: it could not be read, nor sent on.
    clean = name.encode(errors="replace").decode()
    return clean if len(clean) <= _NAME_LENGTH_MAX else clean[:_NAME_LENGTH_MAX] + "…"


@dataclass(frozen=True)
class Between(GroupedMetadata):
    """For a whole number of a range, which error texts call `noun`: metadata of an annotated `int`."""

    noun: str
    minimum: int
    maximum: int

    def __iter__(self) -> Iterator[object]:
        """The parts that pydantic knows: our own words for what is wrong, and the range for the document."""
        yield Ge(self.minimum)
        yield Le(self.maximum)
        yield BeforeValidator(self._read)

    def _read(self, value: object) -> object:
        # isascii: other scripts' digits are digits to Python, and nobody means them.
        if isinstance(value, str):
            fits = value.isascii() and value.isdigit() and len(value) <= len(str(self.maximum))
            value = int(value) if fits else None
        if not isinstance(value, int) or not self.minimum <= value <= self.maximum:
            raise ValueError(f"{self.noun} must be between {self.minimum} and {self.maximum}")
        return value
