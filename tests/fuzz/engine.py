"""Runs schemathesis' engine as one caller, and returns what it and the rules of this folder find."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis import Case, HookContext
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder

from services.gateway.authentication.api_keys import KEY_HEADER
from tests.fuzz.callers import Caller
from tests.fuzz.cases import changed_cases
from tests.fuzz.rules import MAX_SECONDS, Answer, broken_rules

PHASES = ("examples", "coverage", "fuzzing", "stateful")
"""Of schemathesis: the document's examples; each boundary of each schema; random values; chains of operations."""
CHECKS = (
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "missing_required_header",
    "unsupported_method",
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
)
"""All of schemathesis but five. Which 5xx are right, `rules.py` knows. Two ask for more than a tolerant API promises:
that whatever a schema forbids is refused, and whatever it allows is accepted. `Allow` names the methods of `{id}` for
`serialize`, too. What belongs to other organisations is tested in `tests/e2e/access`."""

_CHAINS = 5
"""Chains of operations for each random case of an operation: most are short."""


@dataclass(frozen=True)
class Extent:
    """How much is sent."""

    phases: tuple[str, ...] = PHASES
    examples: int = 20
    """Random cases of an operation."""
    seed: int = 1
    seconds: int | None = None
    """Repeat the random phases until then. None: each phase runs once."""
    boundaries: int | None = None
    """Of the boundary cases of an operation beyond so many, one in ten is sent. None: all are."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with an operation, and the command that shows it."""

    operation: str
    title: str
    message: str
    command: str

    def __str__(self) -> str:
        return f"{self.operation}: {self.title}\n{self.message}\n{self.command}"


@dataclass
class Run:
    """A run as one caller: iterating over it sends the requests and yields each finding once, when it is found."""

    url: str
    caller: Caller
    extent: Extent
    statuses: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Those of the answers so far, by operation."""
    cases: int = 0

    def __iter__(self) -> Iterator[Finding]:
        known = set[tuple[str, str]]()
        for finding in self._findings():
            if (finding.operation, finding.title) not in known:
                known.add((finding.operation, finding.title))
                yield finding

    def _findings(self) -> Iterator[Finding]:
        config = SchemathesisConfig.from_dict(_settings(self.caller, self.extent))
        schema = schemathesis.openapi.from_url(f"{self.url}/openapi.json", config=config)
        if self.extent.boundaries is not None:
            schema.hooks.register_hook_with_name(_thin_out(self.extent.boundaries), "filter_case")
        with changed_cases(schema.raw_schema, self.caller.names, self.caller.protected_ids):
            for event in from_schema(schema).execute():
                if isinstance(event, events.ScenarioFinished):
                    yield from self._judge(event.recorder)
                elif isinstance(event, events.NonFatalError):
                    yield Finding(event.label, event.info.title, event.info.message, event.info.code_sample or "")
                elif isinstance(event, events.FatalError):
                    raise event.exception

    def _judge(self, recorder: ScenarioRecorder) -> Iterator[Finding]:
        """Yield what the checks and the rules find in the cases of a scenario."""
        for case_id, interaction in recorder.interactions.items():
            case, response = recorder.cases[case_id].value, interaction.response
            if response is None:  # an error of its own
                continue
            self.cases += 1
            operation = case.operation.label
            self.statuses[operation].add(response.status_code)
            answer = Answer(
                self.caller.role,
                operation,
                case.method.upper(),
                response.status_code,
                response.content.decode(errors="replace"),
                response.elapsed,
            )
            for rule in broken_rules(answer):
                yield Finding(
                    operation, rule, answer.text, case.as_curl_command(headers=dict(response.request.headers))
                )
        for checks in recorder.checks.values():
            for check in checks:
                if check.failure_info is not None:
                    failure = check.failure_info.failure
                    yield Finding(
                        failure.operation or recorder.label,
                        failure.title,
                        failure.message,
                        check.failure_info.code_sample,
                    )


def _thin_out(boundaries: int) -> Callable[[HookContext, Case[Any]], bool]:
    """Return a schemathesis hook that drops nine in ten boundary cases of an operation beyond so many."""
    made = Counter[str]()

    def filter_case(_context: HookContext, case: Case[Any]) -> bool:
        if case.meta is None or case.meta.phase.name != "coverage":
            return True
        made[case.operation.label] += 1
        return made[case.operation.label] <= boundaries or made[case.operation.label] % 10 == 0

    return filter_case


def _settings(caller: Caller, extent: Extent) -> dict[str, Any]:
    """Return schemathesis' settings, as its configuration file has them."""
    phases: dict[str, dict[str, Any]] = {phase: {"enabled": phase in extent.phases} for phase in PHASES}
    # The other algorithm reads addresses in answers, which have none of ours, and fails at what is none ("http://[").
    phases["stateful"]["inference"] = {"algorithms": ["dependency-analysis"]}
    phases["stateful"]["generation"] = {"max-examples": extent.examples * _CHAINS}
    settings: dict[str, Any] = {
        "seed": extent.seed,
        "headers": {KEY_HEADER: caller.api_key},
        "request-timeout": MAX_SECONDS,
        "continue-on-failure": True,
        "suppress-health-check": ["all"],
        "cache": {"enabled": False},
        "output": {"sanitization": {"enabled": False}},
        "generation": {"max-examples": extent.examples, "database": "none", "no-shrink": True},
        "phases": phases,
        "checks": {"enabled": False} | {check: {"enabled": True} for check in CHECKS},
    }
    return settings if extent.seconds is None else settings | {"max-time": extent.seconds}
