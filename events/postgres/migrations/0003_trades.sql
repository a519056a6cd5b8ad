-- Trades, and what trading brought and cost by hour: views on the events of the groups that derive
-- them. A level replaces the one before it under the same key, so the newest of each key counts.
--
-- `trades` of the first schema added up deals by position: it doubled the volume of a netting
-- position that was turned around, and knew nothing of deals from before our history.

DROP VIEW trades;

CREATE INDEX events_trades ON raw.events (stream_id, key, entry_ms DESC, entry_seq DESC)
    WHERE type LIKE 'trade.%';
CREATE INDEX events_analytics ON raw.events (stream_id, key, entry_ms DESC, entry_seq DESC)
    WHERE type LIKE 'analytics.%';
CREATE INDEX events_spreads ON raw.events (stream_id, key, entry_ms DESC, entry_seq DESC)
    WHERE type LIKE 'spread.%';

CREATE VIEW raw.trade_levels AS
WITH newest AS (
    SELECT DISTINCT ON (stream_id, key) stream_id, "time", body, body -> 'trade' AS trade
    FROM raw.events WHERE type LIKE 'trade.%'
    ORDER BY stream_id, key, entry_ms DESC, entry_seq DESC
), read AS (
    SELECT m.name AS terminal, n."time", (n.body ->> 'login')::bigint AS login,
           n.trade ->> 'symbol' AS symbol, (n.trade ->> 'position_id')::numeric(20) AS position_id,
           (n.trade ->> 'leg')::integer AS leg,
           CASE n.trade ->> 'side' WHEN '0' THEN 'buy' ELSE 'sell' END AS side,
           n.body ->> 'state' AS state,
           (n.trade ->> 'volume_lots')::double precision AS volume_lots,
           (n.trade ->> 'volume_open_lots')::double precision AS volume_open_lots,
           (n.trade ->> 'price_entry')::double precision AS price_entry,
           (n.trade ->> 'price_exit')::double precision AS price_exit,
           (n.trade ->> 'open_time_ms')::bigint AS open_ms,
           (n.trade ->> 'close_time_ms')::bigint AS close_ms,
           (n.trade ->> 'profit')::double precision AS profit,
           (n.trade ->> 'commission')::double precision AS commission,
           (n.trade ->> 'swap')::double precision AS swap,
           (n.trade ->> 'fee')::double precision AS fee, n.trade ->> 'closed_by' AS closed_by,
           (n.trade ->> 'magic')::numeric(20) AS magic, n.trade ->> 'comment' AS comment,
           coalesce((n.trade ->> 'entry_known')::boolean, true) AS entry_known,
           (n.trade ->> 'deals_count')::integer AS deals_count, n.body ->> 'doubt' AS doubt
    FROM newest n JOIN raw.streams r ON r.id = n.stream_id
        JOIN raw.terminals m ON m.id = r.terminal_id
)
SELECT terminal, login, symbol, position_id, leg, side, state, volume_lots, volume_open_lots,
       price_entry, price_exit, CASE WHEN open_ms <> 0 THEN raw.utc_time(open_ms) END AS open_time,
       CASE WHEN close_ms <> 0 THEN raw.utc_time(close_ms) END AS close_time, profit, commission, swap, fee,
       profit + commission + swap + fee AS net_profit, closed_by, magic, comment, entry_known,
       deals_count, doubt, "time"
FROM read;

CREATE VIEW trades AS
SELECT terminal, login, symbol, position_id, leg, side, volume_lots, price_entry, price_exit,
       open_time, close_time, profit, commission, swap, fee, net_profit, closed_by, magic, comment,
       entry_known, deals_count, doubt
FROM raw.trade_levels WHERE state = 'closed';

CREATE VIEW trades_open AS
SELECT terminal, login, symbol, position_id, leg, side, state, volume_lots, volume_open_lots,
       price_entry, price_exit, open_time, profit, commission, swap, fee, net_profit, magic,
       comment, entry_known, deals_count, doubt
FROM raw.trade_levels WHERE state IN ('open', 'partly_closed');

CREATE VIEW analytics AS
WITH newest AS (
    SELECT DISTINCT ON (stream_id, key) stream_id, body
    FROM raw.events WHERE type LIKE 'analytics.%'
    ORDER BY stream_id, key, entry_ms DESC, entry_seq DESC
)
SELECT m.name AS terminal, (n.body ->> 'login')::bigint AS login, n.body ->> 'symbol' AS symbol,
       n.body ->> 'strategy' AS strategy, raw.utc_time((n.body ->> 'hour_ms')::bigint) AS hour,
       (n.body ->> 'trades')::bigint AS trades, (n.body ->> 'won')::bigint AS won,
       (n.body ->> 'lots')::double precision AS lots,
       (n.body ->> 'profit')::double precision AS profit,
       (n.body ->> 'commission')::double precision AS commission,
       (n.body ->> 'swap')::double precision AS swap, (n.body ->> 'fee')::double precision AS fee,
       (n.body ->> 'net_profit')::double precision AS net_profit,
       (n.body ->> 'slippage')::double precision AS slippage,
       (n.body ->> 'slippage_points')::double precision AS slippage_points,
       (n.body ->> 'slippage_deals')::bigint AS slippage_deals,
       (n.body ->> 'spread_cost')::double precision AS spread_cost,
       (n.body ->> 'spread_deals')::bigint AS spread_deals
FROM newest n JOIN raw.streams r ON r.id = n.stream_id JOIN raw.terminals m ON m.id = r.terminal_id;

CREATE VIEW spreads AS
WITH newest AS (
    SELECT DISTINCT ON (stream_id, key) stream_id, body
    FROM raw.events WHERE type LIKE 'spread.%'
    ORDER BY stream_id, key, entry_ms DESC, entry_seq DESC
)
SELECT m.name AS terminal, n.body ->> 'symbol' AS symbol,
       raw.utc_time((n.body ->> 'hour_ms')::bigint) AS hour,
       (n.body ->> 'ticks')::bigint AS ticks, (n.body ->> 'seconds')::double precision AS seconds,
       (n.body ->> 'mean')::double precision AS mean,
       (n.body ->> 'smallest')::double precision AS smallest,
       (n.body ->> 'largest')::double precision AS largest,
       (n.body ->> 'mean')::double precision / nullif((n.body ->> 'point')::double precision, 0)
           AS mean_points
FROM newest n JOIN raw.streams r ON r.id = n.stream_id JOIN raw.terminals m ON m.id = r.terminal_id;
