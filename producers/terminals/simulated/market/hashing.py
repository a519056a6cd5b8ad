"""Randomness as a pure function of (seed, symbol, place): any span can be made again alone."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import numpy.typing as npt

UInt64Array = npt.NDArray[np.uint64]
Float64Array = npt.NDArray[np.float64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_TO_UNIT = 2.0**-53
_MASK_64 = (1 << 64) - 1


def key_of(seed: int, symbol: str) -> int:
    """One 64-bit key per seed and symbol."""
    return (seed * 0x9E3779B97F4A7C15 + crc32(symbol.encode()) * 0x632BE59BD9B4E019) & _MASK_64


def bits(key: int, salt: int, places: npt.NDArray[np.int64]) -> UInt64Array:
    """64 random bits for each place (the finaliser of SplitMix64, Steele et al. 2014)."""
    start = np.uint64((key + salt * 0xD1342543DE82EF95) & _MASK_64)
    z = places.astype(np.uint64) * _GOLDEN + start
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


def uniform(key: int, salt: int, places: npt.NDArray[np.int64]) -> Float64Array:
    """Even numbers in [0, 1)."""
    even: Float64Array = (bits(key, salt, places) >> np.uint64(11)).astype(np.float64) * _TO_UNIT
    return even


def normal(key: int, salt: int, places: npt.NDArray[np.int64]) -> Float64Array:
    """Nearly normal numbers (sum of four even ones), the same on every processor."""
    mixed = bits(key, salt, places)
    low = np.uint64(0xFFFF)
    total = (mixed & low) + ((mixed >> np.uint64(16)) & low)
    total = total + ((mixed >> np.uint64(32)) & low) + (mixed >> np.uint64(48))
    centred: Float64Array = (total.astype(np.float64) / 65536.0 - 2.0) * 1.7320508075688772
    return centred
