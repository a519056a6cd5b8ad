"""The broker's memory: an account outlives its process, and two processes see one account."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from producers.terminals import constants as mt5
from producers.terminals.simulated import (
    AccountOptions,
    SimulatedOptions,
    SimulatedTerminal,
    TraderOptions,
)
from producers.terminals.simulated.calls import remembering
from producers.terminals.simulated.memory import MemoryDamaged

START = 1_763_553_600_000  # Wednesday 19 November 2025, 12:00 UTC
FAR = START // 1000 + 10**8
WATCHED = ("EURUSD", "USDJPY", "XAUUSD")


def terminal_of(memory: Path | None, **changes: Any) -> SimulatedTerminal:
    fixed: dict[str, Any] = {
        "start_utc_ms": START, "speed": 0, "selected": WATCHED,
        "memory": None if memory is None else str(memory),
    }  # fmt: skip
    terminal = SimulatedTerminal(SimulatedOptions(**{**fixed, **changes}))
    assert terminal.initialize()
    return terminal


def buy(terminal: SimulatedTerminal, **fields: Any) -> Any:
    request = {"action": mt5.TRADE_ACTION_DEAL, "symbol": "EURUSD", "volume": 0.1, "type": 0,
               "type_filling": mt5.ORDER_FILLING_IOC}  # fmt: skip
    return terminal.order_send({**request, **fields})


def account_of(terminal: SimulatedTerminal) -> tuple[Any, ...]:
    """Everything that can be seen of an account."""
    return (
        terminal.account_info(), terminal.positions_get(), terminal.orders_get(),
        terminal.history_deals_get(0, FAR), terminal.history_orders_get(0, FAR),
        terminal.requests(), terminal.clock.utc_ms(),
    )  # fmt: skip


def test_an_account_is_found_again_as_a_killed_process_left_it(tmp_path: Path) -> None:
    file = tmp_path / "accounts" / "one.jsonl"
    first = terminal_of(file)
    tick = first.symbol_info_tick("EURUSD")
    stays = buy(first, sl=round(tick.bid - 0.02, 5), magic=2**63 + 5, comment="stays")
    gone = buy(first, symbol="XAUUSD")
    first.advance(60_000)
    assert buy(first, symbol="XAUUSD", type=1, position=gone.order).retcode == 10009
    waits = buy(first, action=mt5.TRADE_ACTION_PENDING, type=2, price=round(tick.ask - 0.05, 5))
    assert waits.retcode == 10009
    first.advance(12 * 3_600_000)  # over a midnight, with its swap
    seen = account_of(first)
    second = terminal_of(file)  # the first is dead: it never closed anything
    assert account_of(second) == seen
    assert second.positions_get()[0].swap != 0
    assert [p.ticket for p in second.positions_get()] == [stays.order]
    assert buy(second).order > waits.order


@pytest.mark.parametrize("seed", range(2))
def test_remembering_makes_no_difference_to_what_happens(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    trader = TraderOptions(every_s=4.0, flash_share=0.3, pending_share=0.4, hold_max_s=60.0)
    kind = {"trader": trader, "account": AccountOptions(margin_mode=draw.choice((0, 2)))}
    file = tmp_path / "memory.jsonl"
    never, again = terminal_of(None, **kind), terminal_of(file, **kind)
    for _ in range(20):
        step = draw.choice((50, 900, 20_000, 200_000))
        symbol, side = draw.choice(WATCHED), draw.randrange(2)
        for terminal in (never, again):
            terminal.advance(step)
            buy(terminal, symbol=symbol, type=side)
        if draw.random() < 0.5:
            again = terminal_of(file, **kind)
    assert account_of(again) == account_of(never)
    assert len(never.history_deals_get(0, FAR)) > 30


def test_two_processes_trade_one_account(tmp_path: Path) -> None:
    file = tmp_path / "memory.jsonl"
    one, other = terminal_of(file), terminal_of(file)
    opened = buy(one)
    assert [p.ticket for p in other.positions_get()] == [opened.order]
    assert buy(other, type=1, position=opened.order).retcode == mt5.TRADE_RETCODE_DONE
    again = buy(one, type=1, position=opened.order)
    assert again.retcode == mt5.TRADE_RETCODE_POSITION_CLOSED
    one.advance(5000)
    assert other.symbol_info_tick("EURUSD") == one.symbol_info_tick("EURUSD")
    assert account_of(one) == account_of(other)
    assert [r["retcode"] for r in other.requests()] == [10009, 10009, 10036]


def test_half_a_line_of_a_dying_process_is_no_transaction(tmp_path: Path) -> None:
    file = tmp_path / "memory.jsonl"
    terminal = terminal_of(file)
    buy(terminal)
    whole = file.read_bytes()
    buy(terminal)
    newest = file.read_bytes()[len(whole) :]
    for cut in (1, len(newest) // 2, len(newest) - 1):
        file.write_bytes(whole + newest[:cut])
        found = terminal_of(file)
        assert found.positions_total() == 1
        assert buy(found, type=1, position=found.positions_get()[0].ticket).retcode == 10009
        assert terminal_of(file).positions_total() == 0


def test_the_clock_goes_on_while_nobody_is_there(tmp_path: Path) -> None:
    file = tmp_path / "memory.jsonl"
    options: dict[str, Any] = {"start_utc_ms": None, "speed": 1}
    buy(terminal_of(file, **options), symbol="BTCUSD", volume=0.01)
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for line in lines:  # an hour ago
        line["wall_ms"] -= 3_600_000
        line["utc_ms"] -= 3_600_000
    lines[0]["start_utc_ms"] -= 3_600_000
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    later = terminal_of(file, **options)
    assert abs(later.clock.utc_ms() - lines[-1]["utc_ms"] - 3_600_000) < 60_000
    assert later.started_utc_ms == lines[0]["start_utc_ms"]


def test_the_background_trader_rests_while_no_terminal_runs(tmp_path: Path) -> None:
    file = tmp_path / "memory.jsonl"
    trader = TraderOptions(every_s=10.0, hold_max_s=30.0, symbols=("BTCUSD",))
    options: dict[str, Any] = {"speed": 1, "trader": trader}
    first = terminal_of(file, **options)
    first.advance(300_000)
    assert first.history_deals_total(0, FAR) > 20
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line["wall_ms"] -= 30 * 86_400_000
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    later = terminal_of(file, **options)
    assert later.clock.utc_ms() > START + 30 * 86_400_000
    missed = [d for d in later.history_deals_get(0, FAR) if d.time > START // 1000 + 7200 + 400]
    assert later.positions_get() == ()
    assert not missed
    later.advance(60_000)
    assert later.history_deals_get(0, FAR)[-1].time > START // 1000 + 30 * 86_400


@pytest.mark.parametrize("mode", [0, 2], ids=["netting", "hedging"])
def test_a_long_file_puts_away_what_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    file = tmp_path / "memory.jsonl"
    trader = TraderOptions(every_s=30.0, symbols=("EURUSD", "USDJPY"))
    account = AccountOptions(margin_mode=mode, credit=50.0)
    kind: dict[str, Any] = {"trader": trader, "account": account}
    long, short = terminal_of(None, **kind), terminal_of(file, **kind)
    for terminal in (long, short):
        buy(terminal, symbol="XAUUSD", magic=5)
        terminal.advance(2 * 3_600_000)
        assert terminal.history_deals_total(0, FAR) > 200
    bytes_before = file.stat().st_size
    monkeypatch.setattr(remembering, "SHORTENED_ABOVE_BYTES", 1000)
    monkeypatch.setattr(remembering, "KEPT_DAYS", 0.02)
    other = terminal_of(file, **kind)  # the file is in use: it stays as it is
    assert file.stat().st_size >= bytes_before
    assert other.history_deals_total(0, FAR) > 200
    for terminal in (short, other):
        assert terminal.account_memory is not None
        terminal.account_memory.close()
    again = terminal_of(file, **kind)
    assert file.stat().st_size < bytes_before / 3
    kept = again.history_deals_get(0, FAR)
    assert len(kept) < 200
    assert [deal.comment for deal in kept].count("Carried forward") == 2
    money = [(d.type == 3, d.profit + d.swap + d.commission + d.fee) for d in kept]
    account_now = again.account_info()
    assert round(sum(amount for credit, amount in money if not credit), 2) == account_now.balance
    assert round(sum(amount for credit, amount in money if credit), 2) == account_now.credit == 50.0
    for terminal in (again, terminal_of(file, **kind)):
        assert account_of(terminal)[:3] == account_of(long)[:3]
        assert terminal.requests() == long.requests()
    for terminal in (again, long):
        terminal.advance(600_000)
        buy(terminal, symbol="XAUUSD", type=1)
    assert account_of(again)[:3] == account_of(long)[:3]
    assert again.history_deals_get(0, FAR)[-20:] == long.history_deals_get(0, FAR)[-20:]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seed": 2}, "its seed is 1"),
        ({"account": AccountOptions(login=7)}, "its login is"),
        ({"account": AccountOptions(balance=5.0)}, "its balance is"),
        ({"start_utc_ms": START + 1}, "its start_utc_ms is"),
        ({"symbols": ("USDJPY", "XAUUSD")}, "it holds EURUSD"),
    ],
    ids=["seed", "login", "balance", "start", "symbols"],
)
def test_the_memory_of_another_account_is_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    file = tmp_path / "memory.jsonl"
    buy(terminal_of(file))
    with pytest.raises(MemoryDamaged, match=reason) as error:
        terminal_of(file, **changes)
    assert "remove the file" in str(error.value)


def test_a_file_that_is_no_memory_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "memory.jsonl"
    for text in ("symbol,lots\nEURUSD,1\n", "a secret nobody may lose", '{"mine": 1}\nrest'):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(MemoryDamaged, match=r"no JSON|begin like one"):
            terminal_of(file)
        assert file.read_text(encoding="utf-8") == text


def test_a_process_that_died_over_the_first_line_opened_no_account(tmp_path: Path) -> None:
    file = tmp_path / "memory.jsonl"
    terminal_of(file)
    first = file.read_bytes()
    for cut in (1, 12, len(first) - 1):
        file.write_bytes(first[:cut])
        assert buy(terminal_of(file)).retcode == mt5.TRADE_RETCODE_DONE
        assert terminal_of(file).positions_total() == 1


def test_what_cannot_be_kept_did_not_happen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "memory.jsonl"
    terminal = terminal_of(file)
    buy(terminal)
    memory = terminal.account_memory
    assert memory is not None

    def full(line: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(memory._memory, "append", full)
        assert buy(terminal) is None
        assert terminal.last_error()[0] == mt5.RES_E_FAIL
    assert terminal.positions_total() == 1
    assert account_of(terminal) == account_of(terminal_of(file))


def test_a_thrown_away_line_of_text_is_cut_only_at_its_end(tmp_path: Path) -> None:
    file = tmp_path / "memory.jsonl"
    terminal = terminal_of(file)
    buy(terminal)
    file.write_bytes(file.read_bytes()[:10])
    assert terminal.account_info() is None
    assert "shorter" in terminal.last_error()[1]
