"""The Lua scripts, and how they are run: by hash, loaded again when the server forgot them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from events.redis.connect import Client

SHEBANG = "#!lua\n"


class Script:
    """One script. With its first line the server refuses keys that were not declared.

    The stand-in for Redis cannot read that line; there, and only there, it is left out.
    """

    def __init__(self, name: str) -> None:
        source = resources.files("events.redis").joinpath("lua", f"{name}.lua")
        self.source = source.read_text(encoding="utf-8").replace("\r\n", "\n")
        self._plain = self.source.removeprefix(SHEBANG)
        # Redis names scripts by this hash; nothing is protected by it.
        self._digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Client, keys: Sequence[str], args: Sequence[Any], *, plain: bool) -> Any:
        """Run it once. NOSCRIPT is safe to answer by sending the source: nothing was run."""
        if plain:
            return client.eval(self._plain, len(keys), *keys, *args)
        try:
            return client.evalsha(self._digest, len(keys), *keys, *args)
        except NoScriptError:
            return client.eval(self.source, len(keys), *keys, *args)


def understands_shebang(client: Client) -> bool:
    """Whether the server reads `#!lua` (Redis 7 and Valkey do; the stand-in does not)."""
    try:
        client.eval(SHEBANG + "return 1", 1, "{mt5-bridge}:probe")
    except NoScriptError:
        raise
    except ResponseError as error:
        if "compil" in str(error).lower() or "script" in str(error).lower():
            return False
        raise
    return True
