"""What a simulated terminal is compared with: the same prices, however they were pushed."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from events.settings import TerminalKind, TerminalSettings
from producers.terminals.configured import terminal_spec
from producers.terminals.simulated.memory import MemoryDamaged, moves_in
from producers.terminals.simulated.options import SimulatedOptions
from producers.terminals.simulated.terminal import SimulatedTerminal
from producers.truth import _told_all

SYMBOL = "BTCUSD"


def test_a_price_that_was_pushed_is_pushed_in_the_comparison_too(tmp_path: Path) -> None:
    settings = TerminalSettings(name="sim", kind=TerminalKind.SIMULATED, symbols=(SYMBOL,))
    spec = terminal_spec(settings, state_dir=tmp_path)
    running = SimulatedTerminal(SimulatedOptions.model_validate(spec.options))
    assert running.initialize()
    running.inject("price_jump", symbols=[SYMBOL], percent=-3.0)
    file = Path(spec.options["memory"])
    kept = file.read_bytes()
    now_s = time.time_ns() // 1_000_000_000
    other = _told_all(terminal_spec(settings, observe=True, state_dir=tmp_path), now_s * 1000)
    assert other.options.get("memory") is None
    [move] = other.options["moves"]
    assert move["percent"] == -3.0
    truth = SimulatedTerminal(SimulatedOptions.model_validate(other.options))
    assert truth.initialize()
    from_ms = move["from_ms"]
    for begin_ms, pushed in ((from_ms - 600_000, False), (from_ms, True)):
        span = (SYMBOL, begin_ms, begin_ms + 600_000)
        seen, told = running.market.ticks(*span), truth.market.ticks(*span)
        assert len(seen) > 10
        assert np.array_equal(seen, told)
        truth.market.restore(())
        assert np.array_equal(seen, truth.market.ticks(*span)) != pushed
        truth.market.restore(other.options["moves"])
    assert file.read_bytes() == kept, "the memory is only read"


def test_moves_are_read_past_a_line_that_is_being_written(tmp_path: Path) -> None:
    file = tmp_path / "memory.jsonl"
    assert moves_in(file) == ()
    file.write_bytes(b'{"format":1}\n{"moves":[{"percent":1}]}\n{"moves":[{"per')
    assert moves_in(file) == ({"percent": 1},)
    file.write_bytes(b'{"format":1}\n{"moves":"x"\n')
    with pytest.raises(MemoryDamaged, match="no transaction"):
        moves_in(file)
