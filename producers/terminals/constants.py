"""Numbers of the MetaTrader 5 Python API, under the name terminals know them by."""

from events.mt5 import *  # noqa: F403  # all of them, as the module itself exports them
