"""The log in Redis: the only room that imports the Redis client."""

from events.redis.log import RedisLog, open_log

__all__ = ["RedisLog", "open_log"]
