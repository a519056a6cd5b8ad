"""What a terminal is, said in one value: complete, checked, and its secrets kept."""

from __future__ import annotations

import sys

import pytest
from pydantic import SecretStr, ValidationError

from events.settings import TerminalKind, TerminalSettings
from producers.terminals.build import build_terminal
from producers.terminals.configured import terminal_spec
from producers.terminals.interface import CALLS
from producers.terminals.spec import SpecError, TerminalSpec


def test_secrets_cross_the_pipe_but_show_nowhere_else() -> None:
    spec = TerminalSpec(
        kind="remote",
        address="far:18813",
        password=SecretStr("hush-1"),
        token=SecretStr("hush-2"),
        tls=True,
    )
    again = TerminalSpec.from_wire(spec.to_wire())
    assert again == spec
    for text in (repr(spec), str(spec), spec.model_dump_json()):
        assert "hush" not in text


def test_a_configured_remote_terminal_becomes_a_spec() -> None:
    settings = TerminalSettings(
        name="ftmo",
        kind=TerminalKind.REMOTE,
        host="10.0.0.5",
        port=18813,
        token=SecretStr("0123456789abcdef"),
        tls_fingerprint="AB:" * 31 + "AB",
    )
    spec = terminal_spec(settings)
    assert spec.host_and_port() == ("10.0.0.5", 18813)
    assert spec.tls_fingerprint == "ab" * 32
    assert spec.with_tls


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "remote"}, "address=host:port"),
        ({"kind": "classic", "address": "host"}, "address=host:port"),
        ({"kind": "classic", "address": "host:99999"}, "address=host:port"),
        ({"kind": "remote", "address": "h:1"}, "needs its token"),
        ({"kind": "native", "tls_fingerprint": "abc"}, "64 hex digits"),
        (
            {"kind": "native", "tls_fingerprint": "ab" * 32, "tls_ca_file": "x"},
            "not both",
        ),
        ({"kind": "classic", "address": "h:1", "module": "os; import sys"}, "pattern"),
        ({"kind": "martian"}, "Input should be"),
        ({"kind": "native", "nmae": "x"}, "Extra inputs"),
    ],
)
def test_a_spec_that_cannot_work_is_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TerminalSpec.model_validate(fields)


def test_ipv6_addresses_are_understood() -> None:
    spec = TerminalSpec(kind="classic", address="[::1]:18812")
    assert spec.host_and_port() == ("::1", 18812)


def test_a_remote_terminal_is_not_built_in_a_host() -> None:
    spec = TerminalSpec(kind="remote", address="h:1", token=SecretStr("x"))
    with pytest.raises(SpecError, match="reached by its client"):
        build_terminal(spec)


def test_without_the_package_a_native_terminal_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "MetaTrader5", None)
    with pytest.raises(SpecError) as refused:
        build_terminal(TerminalSpec(kind="native"))
    text = str(refused.value)
    assert "\n" not in text
    assert ("bridgectl terminal serve" in text) or ("mt5-stream-bridge[mt5]" in text)


def test_a_module_that_lacks_functions_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Old:
        """An old build of the package."""

    for name in (*CALLS, "last_error"):
        if name != "copy_ticks_from":
            setattr(Old, name, staticmethod(lambda: None))
    monkeypatch.setitem(sys.modules, "MetaTrader5", Old)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="lacks copy_ticks_from"):
        build_terminal(TerminalSpec(kind="native"))
    Old.copy_ticks_from = staticmethod(lambda: None)  # type: ignore[attr-defined]
    assert build_terminal(TerminalSpec(kind="native")) is Old
