"""Closed trades added up by the hour in which they were closed, by symbol and strategy."""

from __future__ import annotations

from typing import TypedDict

from consumers.runtime.state import State
from events.analytics import Analytics
from events.trading import TradeUpdate

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
DAYS_KEPT = 40
"""Hours of so many days can still change; a trade that was closed before them is passed over."""
SUMS = (
    "trades", "won", "lots", "profit", "commission", "swap", "fee", "net_profit", "slippage",
    "slippage_points", "slippage_deals", "spread_cost", "spread_deals",
)  # fmt: skip
Sums = dict[str, float]


class Kept(TypedDict):
    """One hour of an account, a symbol and a strategy."""

    login: int
    hour_ms: int
    symbol: str
    strategy: str
    sums: Sums


class Counted(TypedDict):
    """Where a trade was counted, and with what."""

    hour: str
    sums: Sums


class Hours:
    """Sums by hour in a handler's state; each trade counts once, as it was told last."""

    def __init__(self, state: State) -> None:
        self._state = state

    def count(self, update: TradeUpdate, strategy: str, costs: Sums) -> list[Analytics]:
        """The hours that a trade changes, told anew. `costs` are what its deals cost."""
        trade, key = update.trade, f"counted:{update.key}"
        touched: dict[str, Sums] = {}
        before: Counted | None = self._state.get(key)
        if before is not None:
            touched[before["hour"]] = dict(self._state[before["hour"]]["sums"])
            self._add(before["hour"], before["sums"], -1)
            del self._state[key]
        if update.state == "closed" and self._is_kept(trade.close_time_ms):
            sums: Sums = {
                **costs, "trades": 1, "won": int(trade.net_profit > 0), "lots": trade.volume_lots,
                "profit": trade.profit, "commission": trade.commission, "swap": trade.swap,
                "fee": trade.fee, "net_profit": trade.net_profit,
            }  # fmt: skip
            hour = self._hour(update, strategy)
            touched.setdefault(hour, {})
            self._add(hour, sums, 1)
            self._state[key] = Counted(hour=hour, sums=sums)
            self._note(trade.close_time_ms // DAY_MS, [hour, key])
        return [
            self._event(self._state[hour], update.event_time_ms)
            for hour, sums in touched.items()
            if self._state[hour]["sums"] != sums
        ]

    def sums_before(self, key: str) -> Sums:
        """What a trade was counted with; empty where it was not."""
        counted: Counted | None = self._state.get(f"counted:{key}")
        return counted["sums"] if counted is not None else {}

    def _hour(self, update: TradeUpdate, strategy: str) -> str:
        """The key of the hour a trade was closed in."""
        begin, symbol = update.trade.close_time_ms // HOUR_MS * HOUR_MS, update.trade.symbol
        key = f"hour:{update.login}/{begin}/{symbol}/{strategy}"
        if key not in self._state:
            self._state[key] = Kept(
                login=update.login, hour_ms=begin, symbol=symbol, strategy=strategy,
                sums=dict.fromkeys(SUMS, 0.0),
            )  # fmt: skip
        return key

    def _add(self, hour: str, sums: Sums, sign: int) -> None:
        kept: Sums = self._state[hour]["sums"]
        for name, value in sums.items():
            kept[name] = round(kept[name] + sign * value, 8) + 0.0

    def _is_kept(self, at_ms: int) -> bool:
        days: list[int] = self._state.get("days", [])
        return not days or at_ms // DAY_MS > days[-1] - DAYS_KEPT

    def _note(self, day: int, keys: list[str]) -> None:
        """Remember what belongs to a day; forget days that are over for long."""
        days: list[int] = self._state.setdefault("days", [])
        if day not in days:
            days.append(day)
            days.sort()
        noted: dict[str, bool] = self._state.setdefault(f"day:{day}", {})
        noted.update(dict.fromkeys(keys, True))
        while days[0] <= days[-1] - DAYS_KEPT:
            self._forget(f"day:{days.pop(0)}")

    def _forget(self, day: str) -> None:
        """Hours of a day, and the trades counted in them; not those that moved to another day."""
        noted: dict[str, bool] = self._state[day]
        for key in noted:
            if key in self._state and (
                key.startswith("hour:") or self._state[key]["hour"] in noted
            ):
                del self._state[key]
        del self._state[day]

    def _event(self, kept: Kept, at_ms: int) -> Analytics:
        sums = kept["sums"]
        return Analytics(
            event_time_ms=at_ms, login=kept["login"], symbol=kept["symbol"],
            strategy=kept["strategy"], hour_ms=kept["hour_ms"],
            trades=int(sums["trades"]), won=int(sums["won"]), lots=sums["lots"],
            profit=sums["profit"], commission=sums["commission"], swap=sums["swap"],
            fee=sums["fee"], net_profit=sums["net_profit"], slippage=sums["slippage"],
            slippage_points=sums["slippage_points"], slippage_deals=int(sums["slippage_deals"]),
            spread_cost=sums["spread_cost"], spread_deals=int(sums["spread_deals"]),
        )  # fmt: skip
