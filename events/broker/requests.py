"""What can be asked of a trade server, and what it answers (MQL5 reference, "MqlTradeRequest")."""

from __future__ import annotations

from dataclasses import dataclass

RETCODE_TEXTS: dict[int, str] = {
    0: "Done", 10004: "Requote", 10006: "Request rejected", 10007: "Request canceled",
    10008: "Order placed", 10009: "Request executed", 10010: "Request executed partially",
    10011: "Request processing error", 10012: "Request canceled by timeout",
    10013: "Invalid request", 10014: "Invalid volume", 10015: "Invalid price",
    10016: "Invalid stops", 10017: "Trade disabled", 10018: "Market closed", 10019: "No money",
    10020: "Price changed", 10021: "No prices", 10022: "Invalid expiration",
    10023: "Order changed", 10024: "Too many requests", 10025: "No changes",
    10026: "AutoTrading disabled by server", 10027: "AutoTrading disabled by client",
    10028: "Request locked", 10029: "Order or position frozen",
    10030: "Unsupported filling mode", 10031: "No connection with trade server",
    10032: "Only for real accounts", 10033: "Orders limit reached",
    10034: "Volume limit reached", 10035: "Invalid order", 10036: "Position closed",
    10038: "Invalid close volume", 10039: "Close order exists",
    10040: "Positions limit reached", 10041: "Activation rejected", 10042: "Only long positions",
    10043: "Only short positions", 10044: "Only position closing", 10045: "FIFO rule",
    10046: "Hedging prohibited",
}  # fmt: skip
"""What the broker's answer says, by its return code."""


@dataclass(frozen=True, slots=True)
class Request:
    """One trade request; fields, order and codes are the module's. Volumes in lots, prices as
    quoted, `deviation` in points, `expiration` in seconds of the broker's clock."""

    action: int
    magic: int = 0
    order: int = 0
    symbol: str = ""
    volume: float = 0.0
    price: float = 0.0
    stoplimit: float = 0.0
    sl: float = 0.0
    tp: float = 0.0
    deviation: int = 0
    type: int = 0
    type_filling: int = 0
    type_time: int = 0
    expiration: int = 0
    comment: str = ""
    position: int = 0
    position_by: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request. `volume` and `price` are of the deal, if there was one."""

    retcode: int
    order: int = 0
    deal: int = 0
    volume: float = 0.0
    price: float = 0.0

    @property
    def text(self) -> str:
        return RETCODE_TEXTS.get(self.retcode, "")
