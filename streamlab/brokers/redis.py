"""A connection to a Redis server, for its source and its sinks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamlab.brokers import Address, checked, shown
from streamlab.errors import StreamlabError

if TYPE_CHECKING:
    from redis import Redis

#: Where a server is, if nothing else is said.
DEFAULT_URL = "redis://127.0.0.1:6379/0"
#: Variables of the environment with user and password for an address without them begin so.
LOGIN = "STREAMLAB_REDIS"
#: Names of options in an address that are left to the library begin so.
LIBRARY_OPTIONS = "ssl_"


def connect(url: str, timeout: float, error: type[StreamlabError], options: dict[str, Any]) -> Redis:
    """Return a client whose server has answered. It tries nothing twice: whoever uses it knows what may be done again.

    Args:
        url: of the server: ``redis://host:6379/0``, ``rediss://`` for TLS.
        timeout: seconds after which a server that does not answer is taken to be away.
        error: what to raise.
        options: more arguments of ``redis.Redis.from_url``.

    Raises:
        StreamlabError: an ``error``; the package is missing, the URL is none, or the server cannot be reached.
    """
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise error("Redis needs the package redis: pip install 'streamlab[redis]'") from None
    where = shown(checked(url, error))
    settings: dict[str, Any] = {
        "client_name": "streamlab",
        "health_check_interval": 0,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "socket_timeout": timeout,
    }
    try:
        client = redis.Redis.from_url(url, **settings | options)
        client.ping()
    except (ValueError, TypeError) as problem:  # of the URL or the options
        raise error(f"{where} cannot be used: {problem}") from None
    except (redis.AuthenticationError, redis.exceptions.AuthorizationError) as problem:
        raise error(
            f"{where} does not let us in: {problem}; give its user and password in the address, or as {LOGIN}_USER and"
            f" {LOGIN}_PASSWORD"
        ) from problem
    except redis.ResponseError as problem:  # it is there
        raise error(f"{where} cannot be used: {problem}") from problem
    except (redis.RedisError, OSError) as problem:
        raise error(
            f"{where} cannot be reached: {problem}; see that a Redis server runs there and lets you in, or give another url="
        ) from problem
    return client


def is_away(problem: BaseException) -> bool:
    """Tell whether an error says that the server cannot be used for now: gone, not answering, starting, out of memory."""
    import redis

    away = (redis.exceptions.ClusterDownError, redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError)
    lost = (redis.ConnectionError, redis.TimeoutError, redis.InvalidResponse, OSError)
    return isinstance(problem, (*lost, *away)) or str(problem).startswith(("UNBLOCKED", "LOADING", "MASTERDOWN"))


def stream_of(address: Address, error: type[StreamlabError]) -> tuple[str, str]:
    """Return the URL of the server with its database, and the name of the stream.

    Raises:
        StreamlabError: an ``error``; there is no stream in the address.
    """
    database, path = "0", address.path
    if path and path[0].isdecimal():
        database, path = path[0], path[1:]
    if not path:
        raise error(f"{shown(address.server)} says no stream: write redis://host:6379/0/STREAM")
    return f"{address.server}/{database}{address.query}", "/".join(path)
