"""Who may say what on the bus: deploy/nats.conf, tried on the real server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError
from pydantic import SecretStr

from deploy.local.folder import Folder
from deploy.local.privileges.secrets import Secrets
from deploy.local.servers import binaries, ports
from deploy.local.servers.nats_server import nats_server
from services.evaluation.main import jobs as evaluation_jobs
from services.evaluation.settings import Settings
from shared.bus import Bus, Router, StreamSpec, ensure_stream
from shared.contracts.message import Job
from shared.errors import Invalid, RateLimited
from shared.settings import ServiceSettings

SERVICES = ("gateway", "generation", "logging", "evaluation", "authz")
_BLOB_READERS = ("gateway", "generation")


@dataclass
class Server:
    """A NATS server with our configuration."""

    url: str
    passwords: dict[str, str]


@dataclass
class Login:
    """One user's connection, and the permission violations that the server reported to it."""

    client: Client
    violations: list[str] = field(default_factory=list)

    async def may_publish(self, subject: str) -> bool:
        await self.client.publish(subject, b"{}")
        return await self._has_no_violation()

    async def may_subscribe(self, subject: str) -> bool:
        subscription = await self.client.subscribe(subject)
        allowed = await self._has_no_violation()
        if allowed:
            await subscription.unsubscribe()
        return allowed

    async def _has_no_violation(self) -> bool:
        await self.client.flush()
        await asyncio.sleep(0.01)  # the violation, if any, came before the flush; its callback runs now
        violated = bool(self.violations)
        self.violations.clear()
        return not violated


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    folder = Folder(tmp_path_factory.mktemp("a folder with spaces"))
    folder.create()
    passwords = Secrets.load_or_create(folder).bus_passwords
    port = ports.free_port(ports.HOST, {})
    binary = binaries.find_nats_server()
    assert binary is not None
    component = nats_server(binary, folder, port, passwords, {})
    process = await asyncio.create_subprocess_exec(
        *component.command, env=component.environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await asyncio.wait_for(component.wait_ready(), 10)
        assert any(folder.nats.iterdir())
        yield Server(f"nats://{ports.HOST}:{port}", passwords)
    finally:
        process.kill()
        await process.wait()


@pytest.fixture(scope="module")
async def logins(server: Server) -> AsyncIterator[dict[str, Login]]:
    made: dict[str, Login] = {}
    for user in (*SERVICES, "operator"):
        violations: list[str] = []

        async def on_error(error: Exception, collected: list[str] = violations) -> None:
            collected.append(str(error))

        client = await nats.connect(
            server.url,
            user=user,
            password=server.passwords[user],
            error_cb=on_error,
            inbox_prefix=f"_INBOX.{user}",
        )
        made[user] = Login(client, violations)
    yield made
    for login in made.values():
        await login.client.close()


@pytest.mark.parametrize("login", [{}, {"user": "gateway", "password": "guess"}, {"user": "gateway"}])
async def test_a_stranger_is_refused(server: Server, login: dict[str, Any]) -> None:
    async def on_error(_: Exception) -> None:
        """The refusal is raised as well."""

    client = Client()
    try:
        with pytest.raises(nats.errors.Error, match=r"(?i)authorization|no servers"):
            await client.connect(server.url, allow_reconnect=False, error_cb=on_error, **login)
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("user", "subject"),
    [(user, subject) for user in SERVICES for subject in (f"{user}.get_thing", f"_INBOX.{user}.x.*")]
    + [("gateway", "events.*.access.changed"), ("authz", "events.*.access.changed")]
    + [("gateway", "events.*.project.changed")]
    + [("generation", f"events.*.{noun}.changed") for noun in ("project", "routing", "tool")],
)
async def test_a_service_hears_what_is_its_own(logins: dict[str, Login], user: str, subject: str) -> None:
    assert await logins[user].may_subscribe(subject)


@pytest.mark.parametrize(
    ("user", "subject"),
    [(user, f"{other}.thing") for user in SERVICES for other in SERVICES if user != other]
    + [(user, f"_INBOX.{other}.>") for user in SERVICES for other in SERVICES if user != other]
    + [
        (user, subject)
        for user in SERVICES
        for subject in (">", "_INBOX.>", "logs.>", "events.>", "jobs.>", "blobs.>", "$JS.API.>")
    ]
    + [("generation", "authz.identify"), ("gateway", "events.*.log.recorded"), ("logging", "events.*.access.changed")]
    + [("generation", "events.*.access.changed"), ("logging", "events.*.project.changed")],
)
async def test_a_service_does_not_overhear_the_others(logins: dict[str, Login], user: str, subject: str) -> None:
    assert not await logins[user].may_subscribe(subject)


@pytest.mark.parametrize(
    ("user", "subject"),
    [("gateway", f"{service}.health") for service in SERVICES if service != "gateway"]
    + [("gateway", subject) for subject in ("authz.authenticate", "generation.chat", "generation.cancel")]
    + [("gateway", "logs.intake"), ("generation", "logs.intake"), ("gateway", "blobs.tm_1.digest.0")]
    + [("generation", "blobs.tm_1.digest.0")]
    + [
        (user, f"$JS.API.{operation}")
        for user in ("gateway", "generation")
        for operation in ("DIRECT.GET.BLOBS.blobs.tm_1.digest.0", "STREAM.MSG.GET.BLOBS")
    ]
    + [("logging", f"$JS.API.STREAM.{verb}.BLOBS") for verb in ("MSG.GET", "MSG.DELETE", "PURGE")]
    + [("evaluation", "jobs.evaluation.run"), ("evaluation", "dead.jobs.evaluation.run")]
    + [(user, "_INBOX.gateway.abc") for user in ("generation", "logging", "authz", "evaluation")]
    + [("generation", "events.org_1.generation.failed"), ("authz", "events.org_1.access.changed")]
    + [("generation", f"events.org_1.{noun}.changed") for noun in ("project", "routing", "tool")]
    + [("logging", f"events.org_1.log.{what}") for what in ("recorded", "updated", "deleted")]
    + [("logging", "dead.logs"), ("logging", "generation.get_held_blobs"), ("generation", "_INBOX.logging.abc")],
)
async def test_a_service_says_what_it_has_to(logins: dict[str, Login], user: str, subject: str) -> None:
    assert await logins[user].may_publish(subject)


@pytest.mark.parametrize(
    ("user", "subject"),
    [("gateway", subject) for subject in ("_INBOX.generation.x", "events.o.a.b", "dead.x")]
    + [("gateway", f"{service}.anything") for service in SERVICES]
    + [
        ("gateway", subject)
        for subject in ("logging.cancel", "generation.project.deleted", "generation.get_held_blobs")
    ]
    + [("evaluation", f"generation.{what}") for what in ("delete_project", "chat", "set_provider_key", "health")]
    + [("evaluation", "logging.get_log"), ("logging", "events.o.log.removed")]
    + [(user, "_INBOX.evaluation.abc") for user in ("generation", "logging", "gateway")]
    + [("generation", subject) for subject in ("authz.identify", "logging.get", "_INBOX.authz.x")]
    + [
        ("logging", subject)
        for subject in ("generation.chat", "authz.identify", "logs.intake", "dead.jobs.evaluation.x")
    ]
    + [(user, f"jobs.{owner}.run") for user in SERVICES for owner in SERVICES if (user, owner) != ("evaluation",) * 2]
    + [
        ("evaluation", subject)
        for subject in (
            *("jobs.run", "dead.jobs", "dead.jobs.generation.x", "dead.logs"),
            *("$JS.API.STREAM.PURGE.JOBS", "$JS.API.STREAM.DELETE.JOBS", "$JS.API.STREAM.MSG.DELETE.JOBS"),
            *("$JS.API.CONSUMER.CREATE.JOBS.spy", "$JS.API.CONSUMER.CREATE.JOBS.spy.jobs.>"),
            *("$JS.API.CONSUMER.CREATE.JOBS.spy.jobs.generation.x", "$JS.API.CONSUMER.DELETE.JOBS.evaluation-x"),
        )
    ]
    + [("evaluation", subject) for subject in ("authz.identify", "logs.intake", "_INBOX.generation.x")]
    + [("authz", subject) for subject in ("generation.chat", "logs.intake", "_INBOX.evaluation.x", "dead.x")]
    + [(user, "events.o.access.changed") for user in SERVICES if user != "authz"]
    + [(user, "events.o.log.recorded") for user in SERVICES if user != "logging"]
    + [
        (user, f"events.o.{noun}.changed")
        for user in SERVICES
        if user != "generation"
        for noun in ("project", "routing", "tool")
    ]
    + [(user, "gateway.x") for user in SERVICES]
    + [(user, "blobs.tm_1.digest.0") for user in SERVICES if user not in ("gateway", "generation")]
    + [(user, "$JS.API.DIRECT.GET.BLOBS.blobs.tm_1.digest.0") for user in SERVICES if user not in _BLOB_READERS]
    + [
        (user, "$JS.API.STREAM.MSG.GET.BLOBS")
        for user in SERVICES
        if user not in {*_BLOB_READERS, "logging"}  # logging reads when a blob was used last
    ]
    + [
        (user, f"$JS.API.STREAM.{verb}.BLOBS")
        for user in SERVICES
        for verb in ("DELETE", "PURGE", "MSG.DELETE")
        if verb == "DELETE" or user != "logging"
    ]
    + [(user, "$JS.API.CONSUMER.CREATE.BLOBS.spy") for user in SERVICES]
    + [(user, "$JS.API.DIRECT.GET.LOGS.logs.intake") for user in SERVICES]
    + [(user, "$JS.API.STREAM.DELETE.LOGS") for user in SERVICES]
    + [(user, "$JS.API.STREAM.PURGE.EVENTS") for user in SERVICES]
    + [(user, "$JS.API.STREAM.PURGE.LOGS") for user in SERVICES if user != "logging"]
    + [(user, "$JS.API.STREAM.CREATE.OTHER") for user in SERVICES]
    + [(user, "$JS.API.CONSUMER.CREATE.LOGS.spy") for user in SERVICES if user != "logging"]
    + [(user, "$JS.ACK.LOGS.store.1.1.1.1.0") for user in SERVICES if user != "logging"]
    + [(user, "$SYS.REQ.SERVER.PING") for user in SERVICES],
)
async def test_a_service_cannot_say_more(logins: dict[str, Login], user: str, subject: str) -> None:
    assert not await logins[user].may_publish(subject)


async def test_people_may_do_everything(logins: dict[str, Login]) -> None:
    operator = logins["operator"]
    assert await operator.may_subscribe(">")
    assert await operator.may_publish("authz.identify")
    await operator.client.jetstream().account_info()


@pytest.mark.parametrize(
    ("owner", "streams", "stream", "subject", "author"),
    [
        ("logging", {"LOGS": "logs.>", "EVENTS": "events.>", "DEAD": "dead.>"}, "LOGS", "logs.intake", "gateway"),
        ("evaluation", {}, "EVENTS", "events.o.log.recorded", "logging"),
    ],
)
@pytest.mark.parametrize("pull", [False, True], ids=["push", "pull"])
async def test_a_service_makes_its_streams_and_reads_them(
    logins: dict[str, Login], owner: str, streams: dict[str, str], stream: str, subject: str, author: str, *, pull: bool
) -> None:
    reader = logins[owner].client.jetstream()
    for name, subjects in streams.items():
        await reader.add_stream(name=name, subjects=[subjects])
        await reader.update_stream(name=name, subjects=[subjects])
        await reader.stream_info(name)
    stored = await logins[author].client.jetstream().publish(subject, b"fact")

    durable = f"reader-{pull}"
    since = DeliverPolicy.BY_START_SEQUENCE
    config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, opt_start_seq=stored.seq, deliver_policy=since)
    if pull:
        pulled = await reader.pull_subscribe("", durable=durable, stream=stream, config=config)
        (message,) = await pulled.fetch(1, timeout=2)
    else:
        config.durable_name = config.deliver_group = durable
        config.deliver_subject = f"_INBOX.{owner}.deliver.{stream}"
        pushed = await reader.subscribe(
            "", stream=stream, durable=durable, queue=durable, manual_ack=True, config=config
        )
        message = await pushed.next_msg(timeout=2)
    assert message.data == b"fact"
    await message.ack_sync(timeout=2)
    assert (await reader.consumer_info(stream, durable)).num_ack_pending == 0


async def test_a_service_enqueues_its_jobs_works_on_them_and_dead_letters_them(
    server: Server, logins: dict[str, Login], caplog: pytest.LogCaptureFixture
) -> None:
    """The whole way of a job with the rights of its service: done, tried again, dead, given back."""
    buses = {name: bus_of(server, name) for name in ("logging", "evaluation")}
    for bus in buses.values():
        await bus.open()
    evaluation = buses["evaluation"]
    for name in ("JOBS", "DEAD"):
        with contextlib.suppress(NotFoundError):
            await logins["operator"].client.jetstream().delete_stream(name)
    await ensure_stream(evaluation, evaluation_jobs(Settings()))
    await ensure_stream(buses["logging"], StreamSpec("DEAD", ("dead.>",)))
    done: list[str] = []

    class Chore(Job):
        subject = "jobs.evaluation.chore"

    async def work(job: Chore, _: None) -> None:
        if job.id == "job_bad":
            raise Invalid("It cannot be done.")
        if job.id == "job_again" and not done.count("job_again"):
            done.append(job.id)
            raise RateLimited("Later.")
        done.append(job.id)

    router = Router[None]()
    router.works(Chore)(work)
    router.attach(evaluation, None)
    for job_id in ("job_good", "job_bad", "job_again"):
        await evaluation.enqueue(Chore(id=job_id, organisation="tm_1"))
    operator = logins["operator"].client.jetstream()
    async with asyncio.timeout(10):
        while (await operator.stream_info("JOBS")).state.messages or not done:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.05)
    assert sorted(done) == ["job_again", "job_again", "job_good"]
    assert (await operator.stream_info("DEAD")).state.messages == 1
    for bus in buses.values():
        await bus.close()
    assert "violation" not in caplog.text.lower()


def bus_of(server: Server, user: str) -> Bus:
    settings = ServiceSettings(
        nats_url=server.url,
        nats_user=user,
        nats_password=SecretStr(server.passwords[user]),
    )
    return Bus(settings, user)


async def test_the_gateway_writes_blobs_and_generation_reads_them(logins: dict[str, Login]) -> None:
    spec: dict[str, Any] = {"max_msgs_per_subject": 1, "allow_direct": True}
    owner = logins["logging"].client.jetstream()
    await owner.add_stream(name="BLOBS", subjects=["blobs.>"], **spec)
    await owner.update_stream(name="BLOBS", subjects=["blobs.>"], **spec)
    await logins["gateway"].client.jetstream().publish("blobs.tm_1.digest.0", b"data")
    for reader in ("gateway", "generation"):
        client = logins[reader].client
        direct = await client.request("$JS.API.DIRECT.GET.BLOBS.blobs.tm_1.digest.0", b"", timeout=2)
        assert direct.data == b"data"
        asked = await client.request(
            "$JS.API.STREAM.MSG.GET.BLOBS", b'{"last_by_subj": "blobs.tm_1.digest.0"}', timeout=2
        )
        assert b"ZGF0YQ==" in asked.data


async def test_a_stream_belongs_to_its_owner(logins: dict[str, Login]) -> None:
    with pytest.raises((TimeoutError, JetStreamError)):
        await logins["gateway"].client.jetstream(timeout=0.3).add_stream(name="LOGS", subjects=["logs.>"])
    logins["gateway"].violations.clear()
