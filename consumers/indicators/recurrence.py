"""The recurrence y = a*x + b*y over whole arrays, equal to one step at a time to the last bit.

It cannot be computed in parallel without other rounding. Where SciPy is installed its linear
filter does the same steps in C; whether it rounds as Python does is tried once, because a
compiler may fuse multiply and add on some processors. Else a Python loop does it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from consumers.indicators.indicator import FloatArray

FILTER_FROM = 2_000
"""Shorter arrays are not worth importing SciPy for."""
_TRIED = 4_096


def smoothed(values: FloatArray, *, share: float, rest: float, start: float) -> FloatArray:
    """y[i] = share * values[i] + rest * y[i-1], with y[-1] = start."""
    if len(values) >= FILTER_FROM and (run := _filter()) is not None:
        return run(values, share, rest, start)
    return _looped(values, share, rest, start)


def _looped(values: FloatArray, share: float, rest: float, start: float) -> FloatArray:
    newest = start
    return np.array([newest := share * value + rest * newest for value in values.tolist()])


@cache
def _filter() -> Callable[[FloatArray, float, float, float], FloatArray] | None:
    """SciPy's filter, when it is there and rounds as the loop does."""
    try:
        from scipy.signal import lfilter
    except ImportError:
        return None

    def run(values: FloatArray, share: float, rest: float, start: float) -> FloatArray:
        begun: Any = np.array([rest * start])
        result: FloatArray = lfilter([share], [1.0, -rest], values, zi=begun)[0]
        return result

    tried = 1.0 + np.sin(np.arange(_TRIED) * 0.37) * 1e-3
    for share in (2 / 13, 1 / 14):
        expected = _looped(tried, share, 1.0 - share, 1.0)
        if run(tried, share, 1.0 - share, 1.0).tobytes() != expected.tobytes():
            return None
    return run
