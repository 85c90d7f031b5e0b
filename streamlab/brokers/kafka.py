"""Kafka brokers, for their source, its ranges and their sink: how they are reached, and what their errors say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from streamlab.brokers import Address, checked, shown
from streamlab.errors import StreamlabError

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Producer

#: Where a broker is, if nothing else is said.
DEFAULT_URL = "kafka://127.0.0.1:9092"
#: Variables of the environment with user and password for an address without them begin so.
LOGIN = "STREAMLAB_KAFKA"
#: Names of options in an address that are left to the library begin so.
LIBRARY_OPTIONS = ("sasl.", "security.", "ssl.")
#: Bytes of a message that the library sends at most, if ``message.max.bytes`` says nothing else.
LARGEST = 1_000_000
#: Seconds that the library takes at least until it finds that a broker does not answer.
SHORTEST = 1.2

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
#: Names of errors that say that brokers cannot be used for now, beside those that the library would try again itself.
_AWAY = frozenset(
    {
        "_TRANSPORT",
        "_TIMED_OUT",
        "_TIMED_OUT_QUEUE",
        "_MSG_TIMED_OUT",
        "_ALL_BROKERS_DOWN",
        "_RESOLVE",
        "_WAIT_COORD",
        "_IN_PROGRESS",
        "_CONFLICT",
        "REQUEST_TIMED_OUT",
        "NETWORK_EXCEPTION",
        "BROKER_NOT_AVAILABLE",
        "LEADER_NOT_AVAILABLE",
        "NOT_LEADER_FOR_PARTITION",
        "REPLICA_NOT_AVAILABLE",
        "COORDINATOR_NOT_AVAILABLE",
        "COORDINATOR_LOAD_IN_PROGRESS",
        "NOT_COORDINATOR",
        "NOT_ENOUGH_REPLICAS",
        "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        "KAFKA_STORAGE_ERROR",
        "FENCED_LEADER_EPOCH",
        "UNKNOWN_LEADER_EPOCH",
        "OFFSET_NOT_AVAILABLE",
        "CONCURRENT_TRANSACTIONS",
        "UNSTABLE_OFFSET_COMMIT",
    }
)


class Heard:
    """Listens to what the library says of connections, and remembers why the last one failed."""

    def __init__(self) -> None:
        self.refused = ""  # why we were not let in
        self.reason = ""

    def __call__(self, problem: KafkaError) -> None:
        """Take an error in, as ``error_cb``."""
        if problem.name() in ("_AUTHENTICATION", "_SSL"):
            self.refused = problem.str()
        elif problem.name() != "_ALL_BROKERS_DOWN":  # which says less than the ones before it
            self.reason = problem.str()


@dataclass(frozen=True, slots=True)
class Link:
    """How brokers are reached: plain data, which can be sent to another process.

    Attributes:
        url: their address, as it may be seen.
        settings: the library's settings, with user and password.
        timeout: seconds after which a broker that does not answer is taken to be away.
    """

    url: str
    settings: Mapping[str, Any] = field(repr=False)
    timeout: float

    def consumer(self, group: str, heard: Heard, error: type[StreamlabError], **more: Any) -> Consumer:
        """Return a consumer that is assigned nothing, tells of ends, and never chooses an offset by itself.

        Args:
            group: the group that it commits to.
            heard: listens to what the library says.
            error: what to raise.
            more: functions that the library is to call.

        Raises:
            StreamlabError: an ``error``; the package is missing, or it does not take the settings.
        """
        _package(error)
        from confluent_kafka import Consumer, KafkaException

        own = {
            "auto.offset.reset": "error",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "error_cb": heard,
            "group.id": group,
            "isolation.level": "read_committed",
        }
        defaults = {"fetch.error.backoff.ms": 100, "fetch.wait.max.ms": 100, "queued.max.messages.kbytes": 16_384}
        try:
            return Consumer(defaults | dict(self.settings) | own | more)
        except KafkaException as problem:
            raise error(f"{self.url} cannot be used: {text_of(problem)}") from None

    def producer(self, transactional_id: str, heard: Heard, error: type[StreamlabError]) -> Producer:
        """Return a producer that writes transactions; none has begun.

        Raises:
            StreamlabError: as of `consumer`.
        """
        _package(error)
        from confluent_kafka import KafkaException, Producer

        own = {"enable.idempotence": True, "error_cb": heard, "transactional.id": transactional_id}
        try:
            return Producer({"linger.ms": 5} | dict(self.settings) | own)
        except KafkaException as problem:
            raise error(f"{self.url} cannot be used: {text_of(problem)}") from None

    def partitions(self, client: Consumer | Producer, topic: str) -> list[int]:
        """Return the numbers of a topic's partitions; none, if there is no such topic.

        Raises:
            KafkaException: the brokers do not answer, or say no.
        """
        from confluent_kafka import KafkaError, KafkaException

        about = client.list_topics(topic, timeout=self.timeout).topics[topic]
        if about.error is None:
            return sorted(about.partitions)
        if about.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return []
        raise KafkaException(about.error)

    def largest(self, topic: str, heard: Heard) -> int:
        """Return how many bytes a message may have, with what is around it, for the library and for the topic."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]  # it is documented there

        limit = int(self.settings.get("message.max.bytes", LARGEST))
        asked = ConfigResource(ConfigResource.Type.TOPIC, topic)
        settings: dict[str, Any] = {**self.settings, "error_cb": heard}
        admin = AdminClient(settings)
        try:
            found = admin.describe_configs([asked], request_timeout=self.timeout)[asked].result().get("max.message.bytes")
        except KafkaException:  # not every broker lets everybody ask
            return limit
        return limit if found is None else min(limit, int(found.value))

    def unreachable(self, problem: Exception, heard: Heard, error: type[StreamlabError]) -> StreamlabError:
        """Return what to raise when brokers could not be reached at the beginning."""
        if heard.refused:
            return error(
                f"{self.url} does not let us in: {heard.refused}; give its user and password in the address, or as"
                f" {LOGIN}_USER and {LOGIN}_PASSWORD, and security.protocol= and sasl.mechanism= as it wants them"
            )
        if not is_away(problem):
            return error(f"{self.url} cannot be used: {text_of(problem)}")
        why = heard.reason or text_of(problem)
        return error(f"{self.url} cannot be reached: {why}; see that a Kafka broker runs there, or give another url=")


def link_of(url: str, timeout: float, options: Mapping[str, Any], error: type[StreamlabError]) -> Link:
    """Return how the brokers of a URL are reached.

    Args:
        url: ``kafka://user:password@host:9092``, ``kafkas://`` for TLS; several brokers by commas.
        timeout: seconds after which a broker that does not answer is taken to be away.
        options: more settings of the library, such as ``sasl.mechanism``.
        error: what to raise.

    Raises:
        StreamlabError: an ``error``; the URL is none of Kafka.

    >>> link = link_of("kafkas://me:secret@one:9092,two:9092", 5.0, {}, ValueError)
    >>> link.url, link.settings["bootstrap.servers"], link.settings["security.protocol"]
    ('kafkas://one:9092,two:9092', 'one:9092,two:9092', 'SASL_SSL')
    """
    parts = urlsplit(checked(url, error))
    if parts.scheme not in ("kafka", "kafkas"):
        raise error(f"{shown(url)} is no address of Kafka: it begins with kafka://, or kafkas:// for TLS")
    login, _, hosts = parts.netloc.rpartition("@")
    settings: dict[str, Any] = {
        "bootstrap.servers": hosts,
        "client.id": "streamlab",
        "log_level": 0,
        "reconnect.backoff.max.ms": 1000,
        "socket.keepalive.enable": True,
        "socket.timeout.ms": int(max(timeout, SHORTEST) * 1000),
    }
    secure = parts.scheme == "kafkas"
    if login:
        user, _, password = login.partition(":")
        settings |= {"sasl.mechanism": "PLAIN", "sasl.username": unquote(user), "sasl.password": unquote(password)}
        settings["security.protocol"] = "SASL_SSL" if secure else "SASL_PLAINTEXT"
    elif secure:
        settings["security.protocol"] = "SSL"
    return Link(shown(url), settings | dict(options), max(timeout, SHORTEST))


def topic_of(address: Address, error: type[StreamlabError]) -> str:
    """Return the topic of an address.

    Raises:
        StreamlabError: an ``error``; there is none in it.
    """
    if len(address.path) != 1:
        raise error(f"{shown(address.server)} says no topic: write kafka://host:9092/TOPIC")
    return checked_topic(address.path[0], error)


def checked_topic(topic: str, error: type[StreamlabError]) -> str:
    """Return a name that a topic can have.

    Raises:
        StreamlabError: an ``error``; it cannot.
    """
    if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise error(f"{topic!r} is no name of a topic: it is letters, digits, dots, _ and -, at most 249")
    return topic


def no_topic(name: str, topic: str) -> str:
    """Return what to say when a topic is not there."""
    return f"{name}: there is no topic {topic!r}; make it: kafka-topics.sh --create --topic {topic} --bootstrap-server ..."


def is_away(problem: object) -> bool:
    """Tell whether an error of the library says that brokers cannot be used for now."""
    error = error_of(problem)
    return error is not None and (error.name() in _AWAY or error.retriable())


def error_of(problem: object) -> KafkaError | None:
    """Return the library's error that an exception carries, or that it is itself."""
    from confluent_kafka import KafkaError, KafkaException

    found = problem.args[0] if isinstance(problem, KafkaException) and problem.args else problem
    return found if isinstance(found, KafkaError) else None


def text_of(problem: object) -> str:
    """Return what an error says, for people."""
    error = error_of(problem)
    return str(problem) if error is None else error.str()


def _package(error: type[StreamlabError]) -> None:
    try:
        import confluent_kafka  # noqa: F401
    except ImportError:
        raise error("Kafka needs the package confluent-kafka: pip install 'streamlab[kafka]'") from None
