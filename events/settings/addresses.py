"""Addresses of servers: those of embedded ones, and how credentials stand in a URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from pydantic import SecretStr

EMBEDDED_REDIS, EMBEDDED_POSTGRES = "redis", "postgres"
"""Folders of the embedded servers in the state folder."""
ADDRESS_FILE = "address"


def embedded_address(state_dir: Path, server: str) -> str | None:
    """The address that a running embedded server left in its folder (readable by us alone)."""
    try:
        text = (state_dir / server / ADDRESS_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return text or None


def credentials(user: str, password: SecretStr | None) -> str:
    if password is None:
        return f"{quote(user, '')}@" if user else ""
    return f"{quote(user, '')}:{quote(password.get_secret_value(), '')}@"


def host_in_url(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
