"""Look-alikes of the struct sequences of the `MetaTrader5` module.

A struct sequence is a tuple with named fields: it is indexed, iterated and compared like one,
built from one iterable, and has `_asdict()`. Its module is `builtins`, where pickle looks for it
in vain: like the real ones, these cannot be pickled. Field order is that of MetaTrader5 5.0.6231.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Self

_EMPTY: dict[str, Any] = {"i": 0, "b": False, "f": 0.0, "s": ""}


class StructSequence(tuple[Any, ...]):
    """Base of all structs. `FIELDS` and `KINDS` (i int, b bool, f float, s text) run parallel."""

    __slots__ = ()
    FIELDS: tuple[str, ...] = ()
    KINDS: str = ""
    n_fields: int = 0
    n_sequence_fields: int = 0
    n_unnamed_fields: int = 0

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __new__(cls, values: Iterable[Any]) -> Self:
        """Raises TypeError when the number of values is not the number of fields."""
        fields = tuple(values)
        if len(fields) != len(cls.FIELDS):
            raise TypeError(
                f"{cls.__name__}() takes a {len(cls.FIELDS)}-sequence"
                f" ({len(fields)}-sequence given)"
            )
        return super().__new__(cls, fields)

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Build from names; what is not named is 0, 0.0, False or "". Raises TypeError."""
        unknown = fields.keys() - set(cls.FIELDS)
        if unknown:
            raise TypeError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}")
        empty = (_EMPTY[kind] for kind in cls.KINDS)
        return cls(
            fields.get(name, nothing) for name, nothing in zip(cls.FIELDS, empty, strict=True)
        )

    def replaced(self, **fields: Any) -> Self:
        """A copy with some fields changed. Raises TypeError on an unknown field."""
        return type(self).of(**{**self._asdict(), **fields})

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self.FIELDS, self, strict=True))

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{name}={value!r}" for name, value in zip(self.FIELDS, self, strict=True)
        )
        return f"{type(self).__name__}({fields})"


def _struct(name: str, *groups: tuple[str, str], doc: str) -> Any:
    """A struct type from (kinds, names) groups; one kind letter stands for its whole group."""
    fields: list[str] = []
    kinds = ""
    for kind, names in groups:
        split = names.split()
        fields += split
        kinds += kind if len(kind) == len(split) else kind * len(split)
    assert len(kinds) == len(fields) == len(set(fields)), name
    body: dict[str, Any] = {field: property(itemgetter(at)) for at, field in enumerate(fields)}
    body |= {
        "__slots__": (), "__module__": "builtins", "__doc__": doc, "FIELDS": tuple(fields),
        "KINDS": kinds, "n_fields": len(fields), "n_sequence_fields": len(fields),
        "__match_args__": tuple(fields),
    }  # fmt: skip
    return type(name, (StructSequence,), body)


if TYPE_CHECKING:

    class AccountInfo(StructSequence): ...

    class TerminalInfo(StructSequence): ...

    class SymbolInfo(StructSequence): ...

    class Tick(StructSequence): ...

    class BookInfo(StructSequence): ...

    class TradePosition(StructSequence): ...

    class TradeOrder(StructSequence): ...

    class TradeDeal(StructSequence): ...

    class TradeRequest(StructSequence): ...

    class OrderSendResult(StructSequence): ...

    class OrderCheckResult(StructSequence): ...

else:
    AccountInfo = _struct(
        "AccountInfo",
        ("iiiiibbiib", "login trade_mode leverage limit_orders margin_so_mode trade_allowed"
         " trade_expert margin_mode currency_digits fifo_close"),
        ("f", "balance credit profit equity margin margin_free margin_level margin_so_call"
         " margin_so_so margin_initial margin_maintenance assets liabilities commission_blocked"),
        ("s", "name server currency company"),
        doc="Account of the terminal; money in `currency`, `margin_level` in percent.",
    )  # fmt: skip
    TerminalInfo = _struct(
        "TerminalInfo",
        ("b", "community_account community_connection connected dlls_allowed trade_allowed"
         " tradeapi_disabled email_enabled ftp_enabled notifications_enabled mqid"),
        ("i", "build maxbars codepage ping_last"),
        ("f", "community_balance retransmission"),
        ("s", "company name language path data_path commondata_path"),
        doc="State of the terminal; `ping_last` in microseconds.",
    )  # fmt: skip
    SymbolInfo = _struct(
        "SymbolInfo",
        ("bibb", "custom chart_mode select visible"),
        ("i", "session_deals session_buy_orders session_sell_orders volume volumehigh volumelow"
         " time digits spread"),
        ("b", "spread_float"),
        ("i", "ticks_bookdepth trade_calc_mode trade_mode start_time expiration_time"
         " trade_stops_level trade_freeze_level trade_exemode swap_mode swap_rollover3days"),
        ("b", "margin_hedged_use_leg"),
        ("i", "expiration_mode filling_mode order_mode order_gtc_mode option_mode option_right"),
        ("f", "bid bidhigh bidlow ask askhigh asklow last lasthigh lastlow volume_real"
         " volumehigh_real volumelow_real option_strike point trade_tick_value"
         " trade_tick_value_profit trade_tick_value_loss trade_tick_size trade_contract_size"
         " trade_accrued_interest trade_face_value trade_liquidity_rate volume_min volume_max"
         " volume_step volume_limit swap_long swap_short margin_initial margin_maintenance"
         " session_volume session_turnover session_interest session_buy_orders_volume"
         " session_sell_orders_volume session_open session_close session_aw"
         " session_price_settlement session_price_limit_min session_price_limit_max"
         " margin_hedged price_change price_volatility price_theoretical price_greeks_delta"
         " price_greeks_theta price_greeks_gamma price_greeks_vega price_greeks_rho"
         " price_greeks_omega price_sensitivity"),
        ("s", "basis category currency_base currency_profit currency_margin bank description"
         " exchange formula isin name page path"),
        doc="Everything about a symbol; `time` is the broker's wall clock in seconds.",
    )  # fmt: skip
    Tick = _struct(
        "Tick",
        ("ifffiiif", "time bid ask last volume time_msc flags volume_real"),
        doc="Newest prices of a symbol; times are the broker's wall clock.",
    )
    BookInfo = _struct(
        "BookInfo",
        ("ifif", "type price volume volume_dbl"),
        doc="One row of the market book.",
    )
    TradePosition = _struct(
        "TradePosition",
        ("i", "ticket time time_msc time_update time_update_msc type magic identifier reason"),
        ("f", "volume price_open sl tp price_current swap profit"),
        ("s", "symbol comment external_id"),
        doc="An open position; `profit` is the price's alone, `swap` stands beside it.",
    )
    TradeOrder = _struct(
        "TradeOrder",
        ("i", "ticket time_setup time_setup_msc time_done time_done_msc time_expiration type"
         " type_time type_filling state magic position_id position_by_id reason"),
        ("f", "volume_initial volume_current price_open sl tp price_current price_stoplimit"),
        ("s", "symbol comment external_id"),
        doc="An order, active or final.",
    )  # fmt: skip
    TradeDeal = _struct(
        "TradeDeal",
        ("i", "ticket order time time_msc type entry magic position_id reason"),
        ("f", "volume price commission swap profit fee"),
        ("s", "symbol comment external_id"),
        doc="An execution, or an operation on the balance (type 2 and above).",
    )
    TradeRequest = _struct(
        "TradeRequest",
        ("iiis", "action magic order symbol"),
        ("f", "volume price stoplimit sl tp"),
        ("iiiiisii", "deviation type type_filling type_time expiration comment position"
         " position_by"),
        doc="The request an answer belongs to.",
    )  # fmt: skip
    OrderSendResult = _struct(
        "OrderSendResult",
        ("iiiffffsiii", "retcode deal order volume price bid ask comment request_id"
         " retcode_external request"),
        doc="Answer of order_send; `request` is a TradeRequest.",
    )  # fmt: skip
    OrderCheckResult = _struct(
        "OrderCheckResult",
        ("iffffffsi", "retcode balance equity profit margin margin_free margin_level comment"
         " request"),
        doc="Answer of order_check; `retcode` 0 means done.",
    )  # fmt: skip

STRUCTS: dict[str, type[StructSequence]] = {
    kind.__name__: kind
    for kind in (
        AccountInfo, TerminalInfo, SymbolInfo, Tick, BookInfo, TradePosition, TradeOrder,
        TradeDeal, TradeRequest, OrderSendResult, OrderCheckResult,
    )
}  # fmt: skip
"""Every struct type by name."""
