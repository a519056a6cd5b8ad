"""Add a golden entry for every event type or version that has none: `python -m tests.golden`.

Lines already in the file are never changed: they stand for entries in users' logs.
"""

from __future__ import annotations

import base64
import json
import types
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
from pydantic import BaseModel

from events.candles import CandleBatch
from events.codec import EVENT_TYPES, AnyEvent, encode
from events.marks import MARK_DTYPE, Marks
from events.ticks import RATE_DTYPE, TICK_DTYPE, OffsetSource, TickBatch

FILE = Path(__file__).parent / "data" / "golden_entries.jsonl"
PLAIN: dict[Any, Any] = {
    int: 7, float: 1.5, str: "text", bool: True, OffsetSource: OffsetSource.LIVE, Any: "any",
}  # fmt: skip


def sample(annotation: Any) -> Any:
    """A value of the annotated type, always the same."""
    if annotation in PLAIN:
        return PLAIN[annotation]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return args[0]
    if origin in {types.UnionType, typing.Union, typing.Annotated}:
        return sample(args[0])
    if origin is tuple:
        return (sample(args[0]),)
    if origin is dict:
        return {sample(args[0]): sample(args[1])}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return sample_model(annotation)
    raise TypeError(f"no sample for {annotation}: add it to PLAIN")


def sample_model(kind: type[BaseModel]) -> BaseModel:
    return kind(**{name: sample(f.annotation) for name, f in kind.model_fields.items()})


def packed() -> list[tuple[AnyEvent, bool]]:
    ticks = np.array([(10_800, 1.1, 1.2, 0, 0, 10_800_001, 1030, 0)] * 2, TICK_DTYPE)
    batch = TickBatch("EURUSD", ticks, 10_800, OffsetSource.LIVE, 1, 2)
    candles = np.array([(7200, 1.0, 2.0, 0.5, 1.5, 10, 3, 0)], RATE_DTYPE)
    marks = np.array([(2**63, 1.1, -2.5, 0.1)], MARK_DTYPE)
    return [
        (batch, False),
        (batch, True),
        (CandleBatch("EURUSD", "M1", candles, 7200, OffsetSource.HISTORY, 1, 2), False),
        (Marks(7, marks, 1, 2, 3, OffsetSource.ASSUMED), False),
    ]


def main() -> None:
    lines = FILE.read_text(encoding="utf-8").splitlines() if FILE.exists() else []
    known = {json.loads(line)["type"] for line in lines}
    events = packed() + [(sample_model(kind), False) for kind in EVENT_TYPES.values()]
    for event, history in events:
        entry = encode(event, history=history)
        if entry.type not in known:
            data = base64.b64encode(entry.data).decode()
            lines.append(json.dumps({"type": entry.type, "key": entry.key, "data": data}))
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
