"""Every figure of one account at one moment, by the names of `events.rules.FIGURES`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from consumers.risk.figures.closing import ClosingCost, cost_of_closing
from consumers.risk.figures.exposure import (
    Exposure,
    concentration_percent,
    exposure,
    largest_net,
    leverage,
)
from consumers.risk.figures.holdings import Holding, Market
from consumers.risk.figures.margin import margin_free, margin_level_percent, stop_out_distance
from consumers.risk.figures.staleness import spreads_points, tick_ages_s
from consumers.risk.figures.stops import StopRisk, risk_to_stop
from consumers.risk.figures.value_at_risk import Returns, value_at_risk
from events.rules import FIGURES, Limit, References, Rules, figure_key, goal_value
from events.rules.judging import reference_of
from events.trading import Account

Named = dict[str, float | None]

_LOSSES = {
    name: Limit(name=name, figure=name, limit=1.0)
    for name, figure in FIGURES.items()
    if figure.loss
}
_GOALS = ("profit", "profit_equity", "day_profit", "best_day_share_percent", "trading_days")


@dataclass(frozen=True)
class View:
    """All that figures are computed from. `positions_known` is False before the first book."""

    now_ms: int
    account: Account
    market: Market
    holdings: Sequence[Holding]
    positions_known: bool = True
    orders_open: int | None = None
    returns: Returns | None = None
    daily_deviations: Mapping[str, float] = field(default_factory=dict)
    """Symbol -> standard deviation of a day's return."""
    commission_per_lot: Callable[[str], float] = field(default=lambda _: 0.0)
    slippage_points: float = 0.0


@dataclass(slots=True)
class Figures:
    """`named` for limits; the others for people."""

    named: Named
    cost: ClosingCost
    exposure: Exposure
    stops: StopRisk
    by_symbol: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """Symbols of which something cannot be known: no facts, price or conversion."""
        return tuple(sorted({*self.exposure.missing, *self.stops.missing}))


def figures_of(view: View) -> Figures:
    """Everything that follows from the account, the book and the market alone."""
    holdings, market, account = view.holdings, view.market, view.account
    cost = cost_of_closing(
        holdings, market, commission_per_lot=view.commission_per_lot,
        slippage_points=view.slippage_points,
    )  # fmt: skip
    found = exposure(holdings, market)
    stops = risk_to_stop(holdings, market, view.daily_deviations)
    named = _of_account(account)
    named["cost_of_closing"] = cost.total
    if view.orders_open is not None:
        named["orders_open"] = float(view.orders_open)
    result = Figures(named, cost, found, stops)
    if not view.positions_known:
        return result
    named |= _of_positions(holdings)
    named |= _of_exposure(found, account)
    known = not stops.missing
    named["risk_to_stop"] = stops.total if known else None
    share = stops.total / account.equity * 100 if account.equity > 0 else None
    named["risk_to_stop_percent"] = share if known else None
    named["positions_without_stop"] = float(stops.without_stop)
    at_risk = value_at_risk(view.returns, found.net_by_symbol)
    named |= at_risk if found.known else dict.fromkeys(at_risk)
    _of_symbols(result, view)
    return result


def losses_of(named: Mapping[str, float | None], references: References, rules: Rules) -> Named:
    """Losses and goals: what is measured from references. Losses after closing everything."""
    equity = named.get("equity")
    if equity is None or not references.since_ms:
        return dict.fromkeys((*_LOSSES, *_GOALS))
    after = equity - (named.get("cost_of_closing") or 0.0)
    losses: Named = {
        name: reference_of(limit, references, rules) - after for name, limit in _LOSSES.items()
    }
    return losses | {name: goal_value(name, references, named) for name in _GOALS}


def _of_account(account: Account) -> Named:
    return {
        "equity": account.equity,
        "balance": account.balance,
        "credit": account.credit,
        "floating": account.profit,
        "floating_loss": max(0.0, -account.profit),
        "margin": account.margin,
        "margin_free": margin_free(account.equity, account.margin),
        "margin_level_percent": margin_level_percent(account.equity, account.margin),
        "stop_out_distance": stop_out_distance(
            account.equity, account.margin, mode=account.margin_so_mode, level=account.margin_so_so
        ),
    }


def _of_positions(holdings: Sequence[Holding]) -> Named:
    named: dict[str, float] = {
        "positions_open": float(len(holdings)),
        "lots_open": sum((one.volume_lots for one in holdings), 0.0),
        "position_lots_max": max((one.volume_lots for one in holdings), default=0.0),
        "position_loss_max": max((max(0.0, -one.floating) for one in holdings), default=0.0),
    }
    lots: defaultdict[str, float] = defaultdict(float)
    net: defaultdict[str, float] = defaultdict(float)
    result: defaultdict[str, float] = defaultdict(float)
    for one in holdings:
        lots[figure_key("symbol_lots", one.symbol)] += one.volume_lots
        lots[figure_key("magic_lots", str(one.magic))] += one.volume_lots
        net[one.symbol] += one.sign * one.volume_lots
        result[figure_key("symbol_loss", one.symbol)] += one.floating
        result[figure_key("magic_loss", str(one.magic))] += one.floating
    named |= lots
    named |= {figure_key("symbol_lots_net", symbol): abs(lots) for symbol, lots in net.items()}
    named |= {key: max(0.0, -money) for key, money in result.items()}
    return dict(named)


def _of_exposure(found: Exposure, account: Account) -> Named:
    if not found.known:
        names = ("exposure_gross", "exposure_net", "leverage_used", "concentration_percent")
        return dict.fromkeys(names)
    named: Named = {
        "exposure_gross": found.gross,
        "exposure_net": largest_net(found, account.currency),
        "leverage_used": leverage(found.gross, account.equity),
        "concentration_percent": concentration_percent(found.gross_by_symbol.values()),
    }
    for currency, net in found.net_by_currency.items():
        named[figure_key("exposure_currency_net", currency)] = abs(net)
        gross = found.gross_by_currency[currency]
        named[figure_key("exposure_currency_gross", currency)] = gross
    return named


def _of_symbols(result: Figures, view: View) -> None:
    """Figures of each symbol held: for limits by name, for people as a table."""
    held = sorted({one.symbol for one in view.holdings})
    ages = tick_ages_s(held, view.market, view.now_ms)
    spreads = spreads_points(held, view.market)
    named = result.named
    named["tick_age_s"] = max(ages.values(), default=0.0) if len(ages) == len(held) else None
    for symbol in held:
        parts: dict[str, float | None] = {
            "lots": named[figure_key("symbol_lots", symbol)],
            "lots_net": sum(o.sign * o.volume_lots for o in view.holdings if o.symbol == symbol),
            "floating": sum(one.floating for one in view.holdings if one.symbol == symbol),
            "exposure": result.exposure.gross_by_symbol.get(symbol),
            "exposure_net": result.exposure.net_by_symbol.get(symbol),
            "risk_to_stop": result.stops.by_symbol.get(symbol),
            "spread_points": spreads.get(symbol),
            "tick_age_s": ages.get(symbol),
            "cost_of_closing": result.cost.by_symbol.get(symbol),
        }
        for name in ("exposure", "risk_to_stop", "spread_points", "tick_age_s"):
            named[figure_key(f"symbol_{name}", symbol)] = parts[name]
        result.by_symbol[symbol] = {name: part for name, part in parts.items() if part is not None}
