"""A module object that stands in for `MetaTrader5`, driven by any terminal of ours.

`install(terminal)` puts it into `sys.modules`, so that scripts and packages written for the real
module run unchanged on a simulated or recorded terminal, on any system. It has exactly the real
module's public names (MetaTrader5 5.0.6231): constants, struct types, functions, `__version__`
and `__author__`.

    python -m producers.terminals.stand_in SCRIPT.py [arguments]
"""

from producers.terminals.stand_in.module import MODULE_NAME, build_module, install, installed

__all__ = ["MODULE_NAME", "build_module", "install", "installed"]
