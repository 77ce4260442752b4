"""Names of things: tenants, resource ids and the topics that can be watched."""

from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import AfterValidator, StringConstraints, TypeAdapter

Kind = Literal["workflow", "file", "user"]
KINDS: tuple[Kind, ...] = get_args(Kind)

DEFAULT_TENANT = "default"
MAX_ID_LENGTH = 200


def check_id(value: str) -> str:
    """Return ``value`` when it is 1-200 printable characters, as `str.isprintable` has it.

    Raises:
        ValueError: it is empty, too long, or has a character that cannot be shown.
    """
    if not 1 <= len(value) <= MAX_ID_LENGTH:
        raise ValueError(f"must be 1 to {MAX_ID_LENGTH} characters long, not {len(value)}")
    if not value.isprintable():
        raise ValueError("must have printable characters only")
    return value


ResourceId = Annotated[str, AfterValidator(check_id)]
Tenant = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
check_tenant = TypeAdapter[str](Tenant).validate_python
"""Returns its argument when that is a `Tenant`; raises pydantic.ValidationError else."""


class Topic(NamedTuple):
    """What one can watch: a workflow, a file or a user of one tenant."""

    tenant: str
    kind: Kind
    id: str

    @property
    def name(self) -> str:
        """``workflow:<id>``: the topic within its tenant."""
        return f"{self.kind}:{self.id}"

    @property
    def path(self) -> str:
        """``<tenant>:workflow:<id>``: unique in a deployment, because a tenant has no colon."""
        return f"{self.tenant}:{self.kind}:{self.id}"

    @classmethod
    def parse(cls, path: str) -> "Topic":
        """Read back what `path` gave.

        Raises:
            ValueError: ``path`` names no topic.
        """
        tenant, _, name = path.partition(":")
        kind, _, resource_id = name.partition(":")
        if kind not in KINDS:
            raise ValueError(f"{path!r} names no topic")
        return cls(tenant, kind, check_id(resource_id))
