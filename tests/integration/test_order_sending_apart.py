"""Orders at terminals of their own: one with a guard, one on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from events.settings import TerminalKind
from producers.terminals.attach import Attachment
from producers.terminals.client import open_client
from producers.terminals.configured import terminal_spec
from producers.terminals.remote.server import TerminalServer
from tests.integration.guarding import command
from tests.integration.ordering import LOGIN, SYMBOL, inject, sending, terminal_of
from tests.servers import fault_proxy, wait_until


def guard_sees(keeper: Any, positions: int) -> bool:
    state = keeper.state()
    return state is not None and state.positions == positions


def test_a_latch_lets_nothing_open_and_a_flatten_under_way_nothing_at_all(tmp_path: Path) -> None:
    with sending(tmp_path, guarded=True) as desk:
        signals, keeper = desk.signals, desk.opened.keeper
        assert keeper is not None
        assert keeper.known.wait(20)
        for _ in range(2):
            assert signals.carried(signals.intent()).state == "done"
        wait_until(lambda: guard_sees(keeper, 2), what="the guard sees the positions")
        assert keeper.tell(command("halt")).accepted
        refused = signals.carried(signals.intent())
        assert (refused.state, refused.reconciled) == ("refused", False), refused
        assert "halted" in refused.detail
        first, second = desk.positions()
        closed = signals.carried(signals.intent("close", side=1, position=first.ticket))
        assert closed.state == "done", closed
        inject(desk, kind="market_closed", symbols=(SYMBOL,))  # it cannot end meanwhile
        assert keeper.tell(command("flatten")).accepted
        late = signals.carried(signals.intent("close", side=1, position=second.ticket))
        assert (late.state, late.reconciled) == ("refused", False), late
        assert "the guard is closing" in late.detail
        desk.clear("market_closed")
        wait_until(lambda: not desk.positions(), what="the flatten's end")
        sent = {one["magic"] for one in desk.requests()}
        assert not sent & {refused.intent_id, late.intent_id}


def test_a_link_that_is_cut_while_an_order_is_under_way_leaves_it_to_the_account(
    tmp_path: Path,
) -> None:
    spec = terminal_spec(terminal_of(), state_dir=tmp_path / "far")
    token = "a-token-of-more-than-sixteen-characters"
    named = {
        "kind": TerminalKind.REMOTE, "login": LOGIN, "server": "Simulated-Demo", "options": {},
        "trade_mode": "demo", "execution": "live", "token": token,
    }  # fmt: skip
    with open_client(spec, attach=Attachment(spec)) as far:
        far.wait_until_up(30)
        server = TerminalServer(far, token=token)
        server.start()
        try:
            with fault_proxy(server.port) as proxy:
                terminal = terminal_of(settings={**named, "port": proxy.port})
                with sending(tmp_path, terminal=terminal, mode="live", order_s=20.0) as desk:
                    far.call("inject", "late_answer", seconds=2.0, calls_max=1)
                    intent = desk.signals.intent(mode="live")
                    desk.signals.send(intent)
                    wait_until(lambda: desk.client.state().running == "order_send", what="a call")
                    proxy.freeze(replies_only=True)
                    wait_until(lambda: bool(far.call("requests").value), what="the order")
                    proxy.cut()
                    proxy.thaw()
                    answer = desk.signals.answered(intent, timeout_s=40)
                    assert (answer.state, answer.reconciled) == ("done", True), answer
                    assert len(far.call("requests").value) == 1
        finally:
            server.close()
