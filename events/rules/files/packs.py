"""Rule packs that come with the program, and how a file grows out of one."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import resources
from typing import Any

NAMED = ("limits", "goals", "windows")
"""Lists whose elements have names: one of a file replaces keys of the pack's of that name."""
_FOLDER = "events.rules"

Origins = dict[tuple[str, int], int | None]
"""(list, place in the merged list) -> place in the file; None: it is the pack's."""


def pack_names() -> tuple[str, ...]:
    """Names of all packs."""
    folder = resources.files(_FOLDER) / "packs"
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def pack_text(name: str) -> str:
    """The file of a pack, with its sources. Raises KeyError with what was probably meant."""
    names = pack_names()
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        raise KeyError(f"{name!r} is no pack: {hint}")
    return (resources.files(_FOLDER) / "packs" / f"{name}.toml").read_text(encoding="utf-8")


PACKS = pack_names()


def merged(pack: dict[str, Any], own: dict[str, Any]) -> tuple[dict[str, Any], Origins]:
    """A file on top of a pack: tables key by key, named lists by name; `without` leaves elements
    of the pack out."""
    without = own.get("without", [])
    result = {**pack, **{key: value for key, value in own.items() if key != "without"}}
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(pack.get(key), dict):
            result[key] = {**pack[key], **value}
    origins: Origins = {}
    for name in NAMED:
        added = own.get(name, [])
        if not isinstance(added, list):
            continue
        rows, places = _named(pack.get(name, []), added, without)
        if rows or name in own:
            result[name] = rows
        origins |= {(name, index): place for index, place in enumerate(places)}
    return result, origins


def _named(
    base: list[dict[str, Any]], added: list[Any], without: list[str]
) -> tuple[list[Any], list[int | None]]:
    rows: list[Any] = [row for row in base if row.get("name") not in without]
    places: list[int | None] = [None] * len(rows)
    by_name = {row.get("name"): index for index, row in enumerate(rows)}
    for place, row in enumerate(added):
        index = by_name.pop(row.get("name"), None) if isinstance(row, dict) else None
        if index is None:
            rows.append(row)
            places.append(place)
        else:
            rows[index], places[index] = {**rows[index], **row}, place
    return rows, places
