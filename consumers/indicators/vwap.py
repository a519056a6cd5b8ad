"""Volume-weighted average price."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from consumers.indicators.indicator import (
    BarPrices,
    FloatArray,
    Indicator,
    Values,
    floats,
    nothing_yet,
    same_length,
)
from consumers.indicators.rolling import running

DAY_S = 86_400
WARM_UP = 1


class Vwap(Indicator):
    """Sum of price * volume over sum of volume since a session began.

    It begins anew when the number of the `session` changes. With bars that is the broker's day;
    the price is (high + low + close) / 3 and the volume the tick volume, since most MT5 symbols
    have no other. None until there is volume.
    """

    __slots__ = ("_money", "_session", "_volume", "warm_up")
    MEMORY: ClassVar[tuple[str, ...]] = ("_session", "_money", "_volume")

    def __init__(self) -> None:
        self.warm_up = WARM_UP
        self._session: int | None = None
        self._money = self._volume = 0.0

    @property
    def value(self) -> float | None:
        """The newest value."""
        return self._money / self._volume if self._volume else None

    def update(self, price: float, volume: float, session: int = 0) -> float | None:
        """Take the next price and the volume traded at it."""
        if session != self._session:
            self._session, self._money, self._volume = session, 0.0, 0.0
        self._money += price * volume
        self._volume += volume
        return self._money / self._volume if self._volume else None

    def update_bar(self, bar: BarPrices) -> float | None:
        """`update` with a bar's typical price and tick volume, by days of the broker."""
        price = (bar.high + bar.low + bar.close) / 3
        return self.update(price, bar.tick_volume, bar.time_server_s // DAY_S)

    def update_many(
        self, price: Values, volume: Values, session: npt.NDArray[np.int64] | int = 0
    ) -> FloatArray:
        """Take many; `session` is one number for each, or one for all."""
        prices, volumes = floats(price), floats(volume)
        count = same_length(prices, volumes)
        sessions = np.broadcast_to(np.asarray(session, np.int64), (count,))
        result = nothing_yet(count)
        edges = [0, *(np.flatnonzero(np.diff(sessions)) + 1).tolist(), count] if count else []
        for low, high in pairwise(edges):
            if sessions[low] != self._session:
                self._session, self._money, self._volume = int(sessions[low]), 0.0, 0.0
            money = running(self._money, prices[low:high] * volumes[low:high])
            traded = running(self._volume, volumes[low:high])
            self._money, self._volume = float(money[-1]), float(traded[-1])
            none = traded == 0
            result[low:high] = np.where(none, np.nan, money / np.where(none, 1.0, traded))
        return result
