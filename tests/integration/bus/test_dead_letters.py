"""`everloop dead` against a real NATS server: what failed for good is listed, shown and sent again."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deploy.local import dead_letters as operator
from deploy.local.operator_bus import Server
from shared.bus import JOBS, Bus, append_dead_letter
from shared.contracts.dead_letters import MAX_PAYLOAD_BYTES, DeadLetter
from tests.integration.bus.job_fixtures import (
    ORGANISATION,
    Worker,
    dead_letters,
    is_empty,
    make_streams,
    until,
    waiting,
)
from tests.integration.bus.job_worker import TRIES, Errand
from tests.integration.servers import Nats, connected, free_port, running

COLUMNS = ("subject", "organisation", "error", "reason", "tries")


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    server = Nats(tmp_path_factory.mktemp("dead"))
    with running(server):
        yield server


@pytest.fixture
async def bus(nats: Nats) -> AsyncIterator[Bus]:
    async with connected(nats, "probe") as bus:
        await make_streams(bus)
        yield bus


async def everloop(nats: Nats | None, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command, with the server's address in the environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EVERLOOP_")} | environment
    if nats is not None:
        clean["EVERLOOP_NATS_URL"] = nats.url
    command = [sys.executable, "-P", "-m", "deploy.local.cli.main", "dead", *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False, env=clean
    )


async def put_letter(bus: Bus, number: int, subject: str = "jobs.probe.errand", **fields: Any) -> None:
    letter = DeadLetter(
        **{
            "subject": subject,
            "payload": Errand(id=f"job_{number}", organisation=ORGANISATION).model_dump_json().encode(),
            "error": "Invalid",
            "reason": "Größe ungültig",
            "last_at": datetime(2026, 1, 1, tzinfo=UTC),
            "organisation": ORGANISATION,
            "trace": {"traceparent": f"00-{number:032x}-00000000000000ff-01"},
            **fields,
        }
    )
    await append_dead_letter(bus, f"dead.{subject}", letter, message_id=str(number))


# --- replaying ----------------------------------------------------------------------------------------------------


async def test_a_job_that_killed_its_workers_runs_when_it_is_replayed(nats: Nats, bus: Bus, tmp_path: Path) -> None:
    worker = Worker(nats, tmp_path)
    await bus.enqueue(Errand(id="job_1", organisation=ORGANISATION, how="kill"))
    for _ in range(TRIES):
        with running(worker):
            assert await asyncio.to_thread(worker.child.wait, 20) == -9
    mended = Worker(nats, tmp_path, JOB_WORKER_KILLS_NOT="1")
    with running(mended):
        await until(lambda: is_empty(bus))
        (letter,) = json.loads((await everloop(nats, "list", "--json")).stdout)
        assert [letter[name] for name in ("subject", "organisation", "error", "tries")] == [
            "jobs.probe.errand",
            ORGANISATION,
            "Exhausted",
            TRIES,
        ]
        sent = await everloop(nats, "replay", str(letter["sequence"]))
        assert (sent.returncode, sent.stdout) == (0, f"{letter['sequence']} -> jobs.probe.errand\n")
        await until(lambda: mended.noted("end job_1"))
        await until(lambda: is_empty(bus))
    assert mended.noted("end job_1") == 1
    assert not await dead_letters(bus)


async def test_a_replay_that_was_cut_off_and_is_repeated_sends_once(
    nats: Nats, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_letter(bus, 1)
    async with operator.connect(Server(nats.url)) as js:
        stored = await operator.get(js, 1)

        async def cut_off(*_: object) -> bool:
            raise ConnectionAbortedError

        with monkeypatch.context() as patch:
            patch.setattr(js, "delete_msg", cut_off)
            with pytest.raises(ConnectionAbortedError):
                await operator.replay(js, stored)
        assert (await waiting(bus), len(await dead_letters(bus))) == (1, 1), "first the append, then the removal"
        await operator.replay(js, stored)
    assert (await waiting(bus), len(await dead_letters(bus))) == (1, 0)
    sent = await bus.client.jetstream().get_msg(JOBS, 1)
    assert (sent.headers or {})["traceparent"].startswith("00-0000")
    assert (sent.headers or {})["Everloop-Organisation"] == ORGANISATION


async def test_all_of_one_subject_are_replayed_and_no_other(nats: Nats, bus: Bus) -> None:
    for number, subject in enumerate(["jobs.probe.errand", "jobs.probe.count", "jobs.probe.errand"]):
        await put_letter(bus, number, subject)
    sent = await everloop(nats, "replay", "--all", "--subject", "jobs.probe.errand")
    assert sent.stdout == "1 -> jobs.probe.errand\n3 -> jobs.probe.errand\n"
    assert await waiting(bus) == 2
    (left,) = await dead_letters(bus)
    assert left.subject == "dead.jobs.probe.count"
    none = await everloop(nats, "replay", "--all", "--subject", "jobs.probe.*", "--organisation", "tm_other")
    assert none.stdout == "There are no such dead letters.\n"


async def test_a_letter_of_logging_from_before_is_read_and_sent_to_logs(nats: Nats, bus: Bus) -> None:
    await bus.append(
        "dead.logs", b"[]", message_id="old", headers={"Everloop-Reason": "a reason", "Everloop-Recorded": "7"}
    )
    (letter,) = json.loads((await everloop(nats, "list", "--json", "--subject", "logs.intake")).stdout)
    assert [letter[name] for name in COLUMNS] == ["logs.intake", None, "Invalid", "a reason", 1]
    assert (await everloop(nats, "replay", "1")).returncode == 0
    assert (await bus.client.jetstream().get_msg("LOGS", 1)).data == b"[]"


async def test_what_cannot_be_sent_again_stays(nats: Nats, bus: Bus) -> None:
    await put_letter(bus, 1, "nobody.listens")
    await put_letter(bus, 2, payload=b"x" * (MAX_PAYLOAD_BYTES + 1))
    await put_letter(bus, 3)
    sent = await everloop(nats, "replay", "1", "2", "9", "3")
    assert sent.returncode == 1
    assert sent.stdout == "3 -> jobs.probe.errand\n"
    reasons = sent.stderr.splitlines()
    assert [reason.split(".")[0] for reason in reasons] == [
        "everloop: No stream takes nobody",
        f"everloop: Letter 2 was too large to be kept whole ({MAX_PAYLOAD_BYTES + 1} bytes); it cannot be sent again",
        "everloop: There is no dead letter 9",
    ]
    assert len(await dead_letters(bus)) == 2


# --- looking ------------------------------------------------------------------------------------------------------


async def test_the_list_is_filtered_and_its_newest_are_last(nats: Nats, bus: Bus) -> None:
    for number in range(5):
        await put_letter(bus, number, organisation=f"tm_{number % 2}")
    letters = json.loads((await everloop(nats, "list", "--json", "--organisation", "tm_0", "--limit", "2")).stdout)
    assert [each["sequence"] for each in letters] == [3, 5]
    shown = await everloop(nats, "list", "--limit", "2")
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["SEQ", "4", "5"]
    assert "Größe ungültig" in shown.stdout
    assert shown.stderr == "The newest 2 of 5; more with --limit.\n"
    none = await everloop(nats, "list", "--subject", "logs.intake")
    assert none.stdout == "There are no such dead letters.\n"


async def test_a_letter_is_shown_whole(nats: Nats, bus: Bus) -> None:
    await put_letter(bus, 1, first_at=datetime(2025, 1, 1, tzinfo=UTC), tries=3)
    await put_letter(bus, 2, payload=b"\xff")
    shown = json.loads((await everloop(nats, "show", "1")).stdout)
    assert shown == {
        "sequence": 1,
        "subject": "jobs.probe.errand",
        "organisation": ORGANISATION,
        "error": "Invalid",
        "reason": "Größe ungültig",
        "tries": 3,
        "first_at": "2025-01-01T00:00:00+00:00",
        "last_at": "2026-01-01T00:00:00+00:00",
        "trace": {"traceparent": f"00-{1:032x}-00000000000000ff-01"},
        "cut_from_bytes": None,
        "payload": Errand(id="job_1", organisation=ORGANISATION).model_dump(),
    }
    assert json.loads((await everloop(nats, "show", "2")).stdout)["payload_base64"] == "/w=="
    missing = await everloop(nats, "show", "3")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "everloop: There is no dead letter 3. `everloop dead list` shows those there are.\n"


async def test_mistakes_are_told_with_their_remedy(nats: Nats, bus: Bus, tmp_path: Path) -> None:
    nothing_runs = await everloop(nats, "list", "--data", str(tmp_path))
    assert nothing_runs.returncode == 1
    assert nothing_runs.stderr.startswith(
        f"everloop: Nothing runs on {tmp_path}. Start it (everloop up --data {tmp_path})"
    )
    nobody = await everloop(None, "list", "--nats-url", f"nats://127.0.0.1:{free_port()}")
    assert nobody.returncode == 1
    assert "NATS at nats://127.0.0.1" in nobody.stderr
    await bus.client.jetstream().delete_stream("DEAD")
    no_stream = await everloop(nats, "list")
    assert "There is no stream DEAD" in no_stream.stderr
    for arguments in (("replay",), ("replay", "1", "--all", "--subject", "x"), ("replay", "--all")):
        refused = await everloop(nats, *arguments)
        assert refused.returncode == 2
        assert "--subject" in refused.stderr


async def test_a_letter_of_any_length_is_kept_at_most_in_part(bus: Bus) -> None:
    await put_letter(bus, 1, payload=b"x" * (MAX_PAYLOAD_BYTES + 1), reason="long " * 500)
    (letter,) = await dead_letters(bus)
    assert len(letter.data or b"") == MAX_PAYLOAD_BYTES
    assert len((letter.headers or {})["Everloop-Reason"]) <= 500
