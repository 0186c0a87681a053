"""What a directory file may say: its models, and reading one into them with every mistake named by its place.

Applying it is left to `apply.py`. `${NAME}` in any text stands for an environment variable.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - a parameter's type that readers of the signature look up
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, PrivateAttr, SecretStr, Tag, ValidationError

from shared.directory.document import FILE_BYTES_MAX, Document, parse_document
from shared.directory.errors import DirectoryError, Problem
from shared.directory.rules import find_conflicts
from shared.directory.validation import Count, KeyPath, Text, check_characters, describe, suggest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_UNFIT_IN_URL: Final = frozenset(' "<>\\^`{|}')


def _check_url(url: str) -> str:
    """OSB has one base URL per broker; credentials have keys of their own, where they are sealed and never shown."""
    if not url.isascii() or _UNFIT_IN_URL & set(url):
        raise ValueError("must be a URL: plain ASCII, other characters percent-encoded")
    if not _is_absolute(url):
        raise ValueError("must be an absolute http:// or https:// URL")
    if "@" in urlsplit(url).netloc:
        raise ValueError("must not contain credentials: they belong in username and password")
    if "?" in url or "#" in url:
        raise ValueError("must not have a query or fragment")
    return url.rstrip("/")


def _is_absolute(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        return False


def _check_username(username: str) -> str:
    if ":" in username:
        raise ValueError("must not contain a colon, which ends the user name in basic authentication (RFC 7617)")
    return username


def _check_password(password: SecretStr) -> SecretStr:
    if not password.get_secret_value():
        raise ValueError("must not be empty")
    check_characters(password.get_secret_value())
    return password


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class BrokerLimits(_Model):
    """What a broker bears; what is left out is as the settings say."""

    calls_in_flight: Count = None  #: calls at the same time, over all workers
    calls_per_minute: Count = None


class BrokerDeclaration(_Model):
    """A service broker: where it is and how to sign on. Its name is its identity."""

    name: Text
    url: Annotated[Text, AfterValidator(_check_url)]  #: without a slash at the end
    username: Annotated[Text, AfterValidator(_check_username)]
    password: Annotated[SecretStr, AfterValidator(_check_password)]
    limits: BrokerLimits = BrokerLimits()


class UserDeclaration(_Model):
    """A user: `guid` is the `user_id` of their tokens, `name` what roles call them in this file."""

    guid: Text
    name: Text


class LastOperation(_Model):
    """The last operation on an instance, as Cloud Foundry words it; backups need one that ended well."""

    type: Literal["create", "update", "delete"] = "create"
    state: Literal["initial", "in progress", "succeeded", "failed"] = "succeeded"


class ManagedInstance(_Model):
    """A service instance that a broker manages."""

    guid: Text
    name: Text
    type: Literal["managed"] = "managed"
    broker: Text
    offering: Text
    plan: Text
    last_operation: LastOperation = LastOperation()
    shared_to: tuple[Text, ...] = ()  #: guids of other spaces that see it


class UserProvidedInstance(_Model):
    """A service instance that no broker knows, and that cannot be backed up."""

    guid: Text
    name: Text
    type: Literal["user-provided"]
    last_operation: LastOperation = LastOperation()
    shared_to: tuple[Text, ...] = ()  #: guids of other spaces that see it


def _instance_type(value: Any) -> str:  # Any: whatever stands in the file
    is_user_provided = isinstance(value, dict) and value.get("type") == "user-provided"
    return "user-provided" if is_user_provided else "managed"


InstanceDeclaration = Annotated[
    Annotated[ManagedInstance, Tag("managed")] | Annotated[UserProvidedInstance, Tag("user-provided")],
    Discriminator(_instance_type),
]


#: Only an active place is written in, but by admins.
Status = Literal["active", "suspended", "deleting"]


class SpaceRoles(_Model):
    """Who has which role in a space, by user name."""

    space_developer: tuple[Text, ...] = ()
    space_manager: tuple[Text, ...] = ()
    space_auditor: tuple[Text, ...] = ()
    space_supporter: tuple[Text, ...] = ()


class SpaceDeclaration(_Model):
    """A space and what lives in it."""

    guid: Text
    name: Text
    status: Status = "active"
    roles: SpaceRoles = SpaceRoles()
    service_instances: tuple[InstanceDeclaration, ...] = ()


class OrganizationRoles(_Model):
    """Who has which role in an organization, by user name."""

    organization_manager: tuple[Text, ...] = ()
    organization_auditor: tuple[Text, ...] = ()
    organization_billing_manager: tuple[Text, ...] = ()
    organization_user: tuple[Text, ...] = ()


class OrganizationDeclaration(_Model):
    """An organization and its spaces."""

    guid: Text
    name: Text
    status: Status = "active"
    roles: OrganizationRoles = OrganizationRoles()
    spaces: tuple[SpaceDeclaration, ...] = ()


class Declaration(_Model):
    """A whole directory file, valid in itself; whether brokers have the plans it names is not known yet."""

    brokers: tuple[BrokerDeclaration, ...] = ()
    users: tuple[UserDeclaration, ...] = ()
    organizations: tuple[OrganizationDeclaration, ...] = ()

    _document: Document = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:  # Any: pydantic's; here always the document
        """Keep the document, which knows the places."""
        self._document = context

    def spaces(self) -> Iterator[tuple[OrganizationDeclaration, SpaceDeclaration]]:
        """Every space with its organization."""
        for organization in self.organizations:
            for space in organization.spaces:
                yield organization, space

    def instances(self) -> Iterator[tuple[KeyPath, SpaceDeclaration, ManagedInstance | UserProvidedInstance]]:
        """Every service instance with its path in the file and its space."""
        for o, organization in enumerate(self.organizations):
            for s, space in enumerate(organization.spaces):
                for i, instance in enumerate(space.service_instances):
                    yield ("organizations", o, "spaces", s, "service_instances", i), space, instance

    def problem(self, path: KeyPath, text: str) -> Problem:
        """A problem at `path` of the file."""
        return self._document.problem(path, text)

    def quote(self, path: KeyPath) -> str:
        """The text at `path` as the file has it, for messages: variables by their names."""
        return self._document.quote(path)


def read_declaration(file: Path, environment: Mapping[str, str]) -> Declaration:
    """The declaration in `file`, with variables from `environment`.

    Raises DirectoryError with everything that is wrong, each with file, line, column and path; without any value of a
    variable.
    """
    try:
        with file.open("rb") as stream:
            raw = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror}"
        raise DirectoryError([Problem(str(file), 0, 0, "", reason)]) from None
    return parse_declaration(str(file), raw, environment)


def parse_declaration(file: str, raw: bytes, environment: Mapping[str, str]) -> Declaration:
    """The declaration in `raw`, the content of a file called `file` in messages. Errors as `read_declaration` has."""
    document = parse_document(file, raw, environment)
    problems = [*document.problems, *find_conflicts(document)]
    try:
        declaration = Declaration.model_validate(document.data, context=document)
    except ValidationError as error:
        problems += _problems(document, error)
        raise DirectoryError(problems) from None
    if problems:
        raise DirectoryError(problems)
    return declaration


_SPACE_KEYS: Final = ("organizations", "spaces")
_INSTANCE_KEYS: Final = (*_SPACE_KEYS, "service_instances")
# Which keys there are, for whoever wrote another one. The last part of an instance is pydantic's mark of its type.
_MODEL_AT: Final[dict[KeyPath, type[_Model]]] = {
    (): Declaration,
    ("brokers",): BrokerDeclaration,
    ("brokers", "limits"): BrokerLimits,
    ("users",): UserDeclaration,
    ("organizations",): OrganizationDeclaration,
    ("organizations", "roles"): OrganizationRoles,
    _SPACE_KEYS: SpaceDeclaration,
    (*_SPACE_KEYS, "roles"): SpaceRoles,
    (*_INSTANCE_KEYS, "managed"): ManagedInstance,
    (*_INSTANCE_KEYS, "managed", "last_operation"): LastOperation,
    (*_INSTANCE_KEYS, "user-provided"): UserProvidedInstance,
    (*_INSTANCE_KEYS, "user-provided", "last_operation"): LastOperation,
}


def _problems(document: Document, error: ValidationError) -> Iterator[Problem]:
    for detail in error.errors(include_url=False):
        location = detail["loc"]
        # The mark of an instance's type comes two after this key, and is no part of the file.
        path = tuple(part for i, part in enumerate(location) if i < 2 or location[i - 2] != "service_instances")  # noqa: PLR2004 - see above
        if path in document.unreadable:
            continue
        if detail["type"] == "extra_forbidden":
            keys = tuple(part for part in location[:-1] if isinstance(part, str))
            text = f"unknown key; {suggest(str(path[-1]), _MODEL_AT[keys].model_fields)}"
        elif detail["type"] == "literal_error" and path[-1] == "type" and path[-3] == "service_instances":
            text = "must be 'managed' or 'user-provided'"
        else:
            text = describe(detail, mapping="a mapping")
        yield document.problem(path, text)
