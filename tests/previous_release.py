"""Freeze what a release leaves on disk, so that its successors are tested against it.

    python -m tests.previous_release --commit v0.1.0

Checks that commit out beside this one, lets its code write into a Redis and a PostgreSQL of its
own (a whole run, and then some more that nobody stored), and keeps a backup of both and the
producer's spool under tests/data/previous_release. `test_previous_release.py` opens them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

from events.backup import back_up
from events.redis import open_log
from tests.postgres_server import PostgresServer
from tests.servers import RedisServer, redis_binaries

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "data" / "previous_release"
RUN_S = 5
MORE_S = 3
LARGEST_BYTES = 300_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", required=True, help="tag or commit of the release")
    commit = parser.parse_args().commit
    with tempfile.TemporaryDirectory(prefix="mt5-bridge-release-") as name:
        freeze(commit, Path(name))


def freeze(commit: str, scratch: Path) -> None:
    code = scratch / "code"
    archived = subprocess.run(
        ["git", "archive", commit], cwd=ROOT, check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archived)) as files:
        files.extractall(code, filter="data")
    (scratch / "redis").mkdir()
    redis = RedisServer(next(iter(redis_binaries().values())), scratch / "redis").start()
    postgres = PostgresServer(scratch / "postgres" / "pgdata").start()
    try:
        dsn = postgres.create_database("release")
        environment = {
            **{k: v for k, v in os.environ.items() if "MT5" not in k and "REDIS" not in k},
            "PYTHONPATH": str(code),
            "REDIS_URL": redis.url,
            "POSTGRES_URL": dsn,
            "BRIDGE_STATE_DIR": str(scratch / "state"),
            "FOREX_PAIRS": "EURUSD",
            "CRYPTO_PAIRS": "BTCUSD",
            "CANDLE_TIMEFRAMES": "M1",
        }
        _run(scratch, environment, "up", "--for", f"{RUN_S}s", "--json")
        _run(scratch, environment, "produce", "--for", f"{MORE_S}s")
        _keep(commit, scratch, redis.url, dsn)
    finally:
        redis.kill()
        postgres.kill()


def _run(scratch: Path, environment: dict[str, str], *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "bridgectl", *arguments], env=environment, cwd=scratch, check=True
    )


def _keep(commit: str, scratch: Path, redis_url: str, dsn: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with closing(open_log(redis_url)) as log:
        done = back_up(FOLDER / "backup.zip", log, dsn, segments=scratch / "none")
    [spool] = (scratch / "state" / "spool").glob("*.sqlite")
    kept = FOLDER / "spool.sqlite"
    kept.unlink(missing_ok=True)
    with closing(sqlite3.connect(spool)) as db:
        db.execute("VACUUM INTO ?", (str(kept),))
    facts = {"commit": commit, "entries": done.entries, "rows": done.rows, "namespace": spool.stem}
    (FOLDER / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    size = sum(path.stat().st_size for path in FOLDER.iterdir())
    assert size < LARGEST_BYTES, f"{size} bytes are too many for the repository: run shorter"


if __name__ == "__main__":
    main()
