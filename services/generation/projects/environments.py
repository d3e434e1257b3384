"""The environments of an organisation: names are unique, and exactly one environment is the default."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from services.generation.store import EnvironmentStore, StoredEnvironments
from shared import ids
from shared.contracts.generation.deployments import Environment
from shared.errors import Conflict, Invalid, NotFound
from shared.mongo import Session

DEFAULT_NAME = "production"
"""Name of the environment every organisation begins with (behaviour.md §10)."""
_MAX_NAME_CHARACTERS = 100
_MAX_ENVIRONMENTS = 100
"""Per organisation: they are stored in one document and listed with every project."""


@dataclass(frozen=True)
class EnvironmentSet:
    """All environments of an organisation as of one revision. A change returns a new set, with the next revision."""

    organisation: str
    environments: tuple[Environment, ...]
    revision: int = 0
    """Counts the saved changes; a set is saved only if its revision is the next one. 0: nothing is saved yet."""

    def __iter__(self) -> Iterator[Environment]:
        """Iterate over the environments: the default one first, the others from oldest to newest."""
        return iter(sorted(self.environments, key=lambda environment: not environment.default))

    @property
    def default(self) -> Environment:
        """The environment of requests that name none."""
        return next(environment for environment in self.environments if environment.default)

    def get(self, environment_id: str) -> Environment:
        """Return the environment with this id. Raises NotFound."""
        for environment in self.environments:
            if environment.id == environment_id:
                return environment
        raise NotFound(f"There is no environment {environment_id!r}.")

    def get_by_name(self, name: str | None) -> Environment:
        """Return the environment of this name, the default one if None. Raises NotFound."""
        if name is None:
            return self.default
        for environment in self.environments:
            if environment.name == name:
                return environment
        raise NotFound(f"There is no environment {name!r}.")

    def with_added(self, environment_id: str, name: str, created_at: datetime) -> "EnvironmentSet":
        """Return the set with a new environment; the same set if it has this id already. Raises Conflict, Invalid."""
        if any(environment.id == environment_id for environment in self.environments):
            return self
        if len(self.environments) >= _MAX_ENVIRONMENTS:
            raise Invalid(f"An organisation has at most {_MAX_ENVIRONMENTS} environments.")
        new = Environment(id=environment_id, name=self._checked_name(name), default=False, created_at=created_at)
        return self._next_revision((*self.environments, new))

    def with_renamed(self, environment_id: str, name: str) -> "EnvironmentSet":
        """Return the set with one renamed; the same set if it has this name. Raises NotFound, Conflict, Invalid."""
        environment = self.get(environment_id)
        if environment.name == name:
            return self
        renamed = environment.model_copy(update={"name": self._checked_name(name)})
        return self._next_revision(
            tuple(renamed if other.id == environment_id else other for other in self.environments)
        )

    def with_default(self, environment_id: str) -> "EnvironmentSet":
        """Return the set with another default; the same set if it is the default already. Raises NotFound."""
        if self.get(environment_id).default:
            return self
        return self._next_revision(
            tuple(
                environment.model_copy(update={"default": environment.id == environment_id})
                for environment in self.environments
            )
        )

    def without(self, environment_id: str) -> "EnvironmentSet":
        """Return the set without one environment. Raises NotFound, Conflict if it is the default one."""
        if self.get(environment_id).default:
            raise Conflict("The default environment cannot be deleted. Make another one the default first.")
        return self._next_revision(
            tuple(environment for environment in self.environments if environment.id != environment_id)
        )

    def _checked_name(self, name: str) -> str:
        if not name.strip() or name != name.strip() or len(name) > _MAX_NAME_CHARACTERS:
            raise Invalid(
                f"The name of an environment has 1 to {_MAX_NAME_CHARACTERS} characters, and no space at its beginning "
                "or end."
            )
        if any(environment.name == name for environment in self.environments):
            raise Conflict(f"There is an environment {name!r} already. Choose another name.")
        return name

    def _next_revision(self, environments: tuple[Environment, ...]) -> "EnvironmentSet":
        return replace(self, environments=environments, revision=self.revision + 1)


def initial_set(organisation: str) -> EnvironmentSet:
    """Return the set an organisation begins with: `production`, whose id is derived and so the same on every call."""
    environment = Environment(id=ids.derive("env", organisation, DEFAULT_NAME), name=DEFAULT_NAME, default=True)
    return EnvironmentSet(organisation, (environment,))


class EnvironmentSets:
    """Reads and saves the environment set of an organisation."""

    def __init__(self, store: EnvironmentStore) -> None:
        self._store = store

    async def get(self, organisation: str) -> EnvironmentSet:
        """Return the environments of the organisation, the initial set if it never changed them."""
        stored = await self._store.get(organisation)
        return initial_set(organisation) if stored is None else EnvironmentSet(organisation, *stored)

    async def save(self, changed: EnvironmentSet, session: Session) -> bool:
        """Save one change; return False if another was saved since the set was read."""
        stored = StoredEnvironments(changed.environments, changed.revision)
        return await self._store.save(changed.organisation, stored, session)
