"""What a backtest's broker takes for granted, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from consumers.backtest.broker.options import BrokerOptions
from consumers.backtest.broker.spec.account import AccountSpec
from events.market import Instrument

_MODES = {0: "netting", 1: "exchange (netting)", 2: "hedging"}
_SWAP_DISABLED = 0


def assumptions(
    account: AccountSpec, instruments: Mapping[str, Instrument], options: BrokerOptions
) -> list[str]:
    """A line each."""
    return [*_of_account(account), *_of_fills(options), *_of_costs(instruments, options)]


def _of_account(account: AccountSpec) -> Iterator[str]:
    mode = _MODES.get(account.margin_mode, str(account.margin_mode))
    fifo = ", first in first out" if account.fifo_close else ""
    unit = account.currency if account.margin_so_mode else "%"
    yield (
        f"account: {mode}{fifo}, {account.balance:.{account.currency_digits}f} {account.currency}, "
        f"leverage 1:{account.leverage}, stop-out at {account.margin_so_so:g} {unit} "
        "(the biggest loss is closed first)"
    )


def _of_fills(options: BrokerOptions) -> Iterator[str]:
    latency, slippage = options.latency_ms, options.slippage_points
    yield (
        f"latency: {latency.told('ms')} from the decision to the broker"
        if latency
        else "latency: none, an order is filled at the bid or ask of the tick it was decided at"
    )
    yield (
        f"slippage: {slippage.told('points')} against every order at market, stop order and "
        "stop-loss (market and exchange execution)"
        if slippage
        else "slippage: none beyond gaps"
    )
    yield (
        "fills: buys at the ask, sells at the bid; stops, targets and pending orders at the first "
        "price that reached them, also behind a gap; "
        + (
            "every volume is there"
            if options.liquidity_lots is None
            else f"at most {options.liquidity_lots:g} lots at once, the rest is cancelled"
        )
    )
    closed = "wait for it to open" if options.closed_market == "park" else "are refused (10018)"
    hours = ", ".join(
        f"{symbol} {'; '.join(one.lines)}" for symbol, one in sorted(options.hours.items())
    )
    yield (
        f"market hours: {hours or 'a symbol is open while it has ticks'}; without a tick for "
        f"{options.quote_age_max_s:g} s a market is closed, and orders {closed}"
    )
    if options.rates:
        fixed = ", ".join(f"{pair} {rate:g}" for pair, rate in sorted(options.rates.items()))
        yield f"fixed conversion rates where a pair has no ticks: {fixed}"
    yield (
        "not modelled: other traders' orders, market depth, rejections by a dealer, changes of "
        "margin, swap rates or instrument facts during the run, dividends and interest"
    )


def _of_costs(instruments: Mapping[str, Instrument], options: BrokerOptions) -> Iterator[str]:
    for symbol in sorted(instruments):
        one, costs = instruments[symbol], options.costs.get(symbol)
        if costs:
            charged = {"both": "on both sides", "in": "at the entry", "out": "at the exit"}
            told = f"commission {costs.commission_per_lot:g} a lot {charged[costs.commission_on]}"
            if costs.fee_per_deal:
                told += f", {costs.fee_per_deal:g} a deal"
        else:
            told = "no commission"
        swap = (
            "no swap"
            if one.swap_mode == _SWAP_DISABLED or not (one.swap_long or one.swap_short)
            else f"swap {one.swap_long:g} long, {one.swap_short:g} short (mode {one.swap_mode}) at "
            f"midnight of the broker's clock, triple on weekday {one.swap_rollover_weekday}"
        )
        yield f"{symbol}: {told}, {swap}"
