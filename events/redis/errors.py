"""What the Redis client raises, said in the words of the log's port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from events.log import LogError, LogFull, LogUnavailable


@contextmanager
def errors_translated() -> Iterator[None]:
    try:
        yield
    except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
        why = str(error).strip().rstrip(".")
        raise LogError(
            f"Redis refuses us: {why}. Check user, password and ACL (REDIS_URL)"
        ) from error
    except OutOfMemoryError as error:
        raise LogFull(f"Redis is full: {error}; raise maxmemory or trim") from error
    except (ConnectionError, TimeoutError, ReadOnlyError, ClusterDownError) as error:
        raise LogUnavailable(f"Redis does not answer: {_with_cure(error)}") from error
    except ResponseError as error:
        raise _response_error(error) from error
    except RedisError as error:
        raise LogError(f"Redis: {error}") from error


def _with_cure(error: RedisError) -> str:
    """Nobody listens there, or the name leads nowhere: a person may have to do something."""
    text = str(error).strip().rstrip(".")
    if "connecting to" not in text:
        return text
    return f"{text}. Is it running? Start `bridgectl up`, or check REDIS_URL"


def _response_error(error: ResponseError) -> LogError:
    text = str(error)
    if text.startswith(("MISCONF", "LOADING", "MASTERDOWN", "BUSY", "TRYAGAIN")):
        return LogUnavailable(f"Redis cannot serve now: {text}")
    if "OOM" in text:
        return LogFull(f"Redis is full: {text}; raise maxmemory or trim")
    return LogError(f"Redis: {text}")
