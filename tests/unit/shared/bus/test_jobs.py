"""Jobs: delays between tries, names of consumers, and whose jobs a service may work on."""

import asyncio
from typing import ClassVar

import pytest

from shared.bus.jetstream.jobs import JobRoute, retry_delay_seconds
from shared.contracts.message import Job


class Chore(Job):
    """Some work."""

    subject: ClassVar[str] = "jobs.probe.chore.daily"


def route(subject: str) -> JobRoute:
    async def work(*_: object) -> None:
        await asyncio.sleep(0)

    return JobRoute(type("Odd", (Job,), {"__module__": __name__, "subject": subject}), work, 1, 1)


def test_delays_grow_and_are_bounded() -> None:
    assert [retry_delay_seconds(tried) for tried in range(1, 9)] == [1, 4, 16, 64, 256, 600, 600, 600]
    assert retry_delay_seconds(10_000) == 600


@pytest.mark.parametrize(("wanted", "waited"), [(None, 4), (0.5, 4), (30, 30), (float("inf"), 86_400)])
def test_retry_after_makes_a_delay_longer_up_to_a_day(wanted: float | None, waited: float) -> None:
    assert retry_delay_seconds(2, wanted) == waited


def test_the_consumer_is_named_after_owner_and_job() -> None:
    assert route(Chore.subject).durable("probe") == "probe-chore-daily"


@pytest.mark.parametrize("subject", ["", "jobs.other.what", "jobs.probe", "jobs.probe.", "probe.what"])
def test_a_service_works_on_its_own_jobs_only(subject: str) -> None:
    with pytest.raises(TypeError, match=r"jobs\.probe\.<what>"):
        route(subject).durable("probe")


def test_a_job_of_a_newer_sender_is_read() -> None:
    sent = b'{"id": "job_1", "organisation": "tm_1", "added_next_year": 1}'
    assert Chore.model_validate_json(sent) == Chore(id="job_1", organisation="tm_1")
