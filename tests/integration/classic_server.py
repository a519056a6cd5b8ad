"""A classic RPyC server with a MetaTrader5 module, as mt5linux images run one, for tests.

`python -m tests.integration.classic_server PORT`; symbol "hang" never returns.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from rpyc.core.service import SlaveService
from rpyc.utils.server import ThreadedServer

from producers.terminals.simulated import SimulatedTerminal
from producers.terminals.stand_in import install
from tests.contract.terminal_cases import simulated_options


def main() -> None:
    module: Any = install(SimulatedTerminal(simulated_options()))
    known = module.symbol_info

    def symbol_info(symbol: str) -> Any:
        while symbol == "hang":
            time.sleep(1000)
        return known(symbol)

    module.symbol_info = symbol_info
    server = ThreadedServer(SlaveService, hostname="127.0.0.1", port=int(sys.argv[1]))
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    server.start()


if __name__ == "__main__":
    main()
