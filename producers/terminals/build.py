"""From its spec to the object that a host calls; each kind is loaded only where it is used."""

from __future__ import annotations

from producers.terminals.interface import Terminal
from producers.terminals.spec import SpecError, TerminalSpec


def build_terminal(spec: TerminalSpec) -> Terminal:
    """The object that a host calls. Raises SpecError when a part is missing or an option wrong."""
    if spec.kind == "native":
        from producers.terminals.native import open_native

        return open_native()
    if spec.kind == "classic":
        from producers.terminals.remote.classic import ClassicTerminal

        host, port = spec.host_and_port()
        return ClassicTerminal(host, port, module=spec.module)
    if spec.kind == "simulated":
        from producers.terminals.simulated import SimulatedOptions, SimulatedTerminal

        return SimulatedTerminal(SimulatedOptions.model_validate(spec.options))
    if spec.kind == "recorded":
        from producers.terminals.recorded import RecordedOptions, RecordedTerminal

        return RecordedTerminal(RecordedOptions.model_validate(spec.options))
    raise SpecError("a remote terminal is reached by its client, it is not built in a host")
