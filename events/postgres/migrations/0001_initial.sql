-- What the bridge stores, as it came: schema `raw` holds narrow tables of integers and doubles,
-- schema `public` holds views with names for people and dashboards.
--
-- Every row names the log entry it came from (stream_id, entry_ms, entry_seq, idx), so that a
-- batch can be rebuilt to the byte. 64-bit unsigned numbers of MT5 keep their bits in bigint
-- columns of the bulk tables (negative means >= 2^63; the views show them right).
-- No unique constraint stands on the bulk tables: a row is stored once because rows and offset
-- commit in one transaction. Later hypertables need their time column in every unique key.

CREATE SCHEMA raw;

CREATE TABLE raw.terminals (
    id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE
);

CREATE TABLE raw.symbols (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    terminal_id integer NOT NULL REFERENCES raw.terminals,
    name        text NOT NULL,
    UNIQUE (terminal_id, name)
);

-- One row per lane of the log.
CREATE TABLE raw.streams (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    terminal_id integer NOT NULL REFERENCES raw.terminals
);

-- One row per symbol in a lane: ticks name this one number instead of two.
CREATE TABLE raw.feeds (
    id        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream_id integer NOT NULL REFERENCES raw.streams,
    symbol_id integer NOT NULL REFERENCES raw.symbols,
    UNIQUE (stream_id, symbol_id)
);

CREATE TABLE raw.timeframes (
    name    text PRIMARY KEY,
    seconds integer NOT NULL UNIQUE
);
INSERT INTO raw.timeframes (name, seconds) VALUES
    ('M1', 60), ('M2', 120), ('M3', 180), ('M4', 240), ('M5', 300), ('M6', 360), ('M10', 600),
    ('M12', 720), ('M15', 900), ('M20', 1200), ('M30', 1800), ('H1', 3600), ('H2', 7200),
    ('H3', 10800), ('H4', 14400), ('H6', 21600), ('H8', 28800), ('H12', 43200), ('D1', 86400),
    ('W1', 604800), ('MN1', 2592000);

-- How far each group has stored each stream. Updated last in the transaction that stores rows,
-- by compare-and-set of token and place.
CREATE TABLE raw.offsets (
    sink_group    text NOT NULL,
    stream        text NOT NULL,
    slot          text NOT NULL,
    last_ms       bigint NOT NULL DEFAULT 0,
    last_seq      bigint NOT NULL DEFAULT 0,
    entries       bigint NOT NULL DEFAULT 0,
    ticks         bigint NOT NULL DEFAULT 0,
    checksum      bigint NOT NULL DEFAULT 0,
    committed_at  timestamptz,
    token         uuid,
    holder        text NOT NULL DEFAULT '',
    backend_pid   integer,
    backend_start timestamptz,
    beats         bigint NOT NULL DEFAULT 0,
    halted        text NOT NULL DEFAULT '',
    PRIMARY KEY (sink_group, stream)
) WITH (fillfactor = 50);
COMMENT ON COLUMN raw.offsets.checksum IS
    'of the last stored entry: another entry at that place means the log was cut and regrown';
COMMENT ON COLUMN raw.offsets.backend_pid IS
    'session of the holder, so that a successor can end one that hangs';

-- Few columns, because a bulk COPY costs by the column. What follows from others is not stored:
-- the clock offset is time_msc less "time", the batch's event time that of its newest tick.
CREATE TABLE raw.ticks (
    "time"      timestamptz NOT NULL,
    time_msc    bigint NOT NULL,
    bid         double precision NOT NULL,
    ask         double precision NOT NULL,
    last        double precision NOT NULL,
    volume      bigint NOT NULL,
    volume_real double precision NOT NULL,
    entry_ms    bigint NOT NULL,
    entry_seq   bigint NOT NULL,
    recv_ms     bigint NOT NULL,
    idx         integer NOT NULL,
    feed_id     integer NOT NULL,
    flags       integer NOT NULL,
    batch_bits  smallint NOT NULL
);
CREATE INDEX ticks_brin ON raw.ticks USING brin ("time", entry_ms)
    WITH (pages_per_range = 32, autosummarize = on);
COMMENT ON COLUMN raw.ticks."time" IS 'UTC';
COMMENT ON COLUMN raw.ticks.time_msc IS 'the broker''s wall clock in ms, as the terminal gave it';
COMMENT ON COLUMN raw.ticks.batch_bits IS
    '1 late, 2 back-fill, 4 imported; 256 times the source of the clock offset (0 to 3)';

CREATE TABLE raw.candles (
    "time"        timestamptz NOT NULL,
    time_s        bigint NOT NULL,
    open          double precision NOT NULL,
    high          double precision NOT NULL,
    low           double precision NOT NULL,
    close         double precision NOT NULL,
    tick_volume   bigint NOT NULL,
    real_volume   bigint NOT NULL,
    entry_ms      bigint NOT NULL,
    entry_seq     bigint NOT NULL,
    event_ms      bigint NOT NULL,
    recv_ms       bigint NOT NULL,
    idx           integer NOT NULL,
    symbol_id     integer NOT NULL,
    stream_id     integer NOT NULL,
    timeframe_s   integer NOT NULL,
    spread        integer NOT NULL,
    offset_s      integer NOT NULL,
    offset_source smallint NOT NULL
);
CREATE INDEX candles_series ON raw.candles (symbol_id, timeframe_s, "time", entry_ms, entry_seq);

CREATE TABLE raw.marks (
    "time"        timestamptz NOT NULL,
    login         bigint NOT NULL,
    ticket        bigint NOT NULL,
    price_current double precision NOT NULL,
    profit        double precision NOT NULL,
    swap          double precision NOT NULL,
    entry_ms      bigint NOT NULL,
    entry_seq     bigint NOT NULL,
    event_ms      bigint NOT NULL,
    recv_ms       bigint NOT NULL,
    idx           integer NOT NULL,
    stream_id     integer NOT NULL,
    offset_s      integer NOT NULL,
    offset_source smallint NOT NULL
);
CREATE INDEX marks_brin ON raw.marks USING brin ("time", entry_ms)
    WITH (pages_per_range = 32, autosummarize = on);

-- Every JSON event as it stood in the log. `original` holds its bytes where they are not the
-- text of `body` (NaN is no JSON; text may hold characters that a database refuses).
CREATE TABLE raw.events (
    "time"    timestamptz NOT NULL,
    entry_ms  bigint NOT NULL,
    entry_seq bigint NOT NULL,
    stream_id integer NOT NULL,
    type      text NOT NULL,
    key       text NOT NULL,
    cause     text NOT NULL,
    body      json NOT NULL,
    original  bytea
);
CREATE INDEX events_type_time ON raw.events (type, "time");
CREATE INDEX events_brin ON raw.events USING brin ("time", entry_ms)
    WITH (pages_per_range = 32, autosummarize = on);

CREATE TABLE raw.accounts (
    "time"        timestamptz NOT NULL,
    entry_ms      bigint NOT NULL,
    entry_seq     bigint NOT NULL,
    stream_id     integer NOT NULL,
    login         bigint NOT NULL,
    server        text NOT NULL,
    currency      text NOT NULL,
    leverage      integer NOT NULL,
    trade_mode    smallint NOT NULL,
    margin_mode   smallint NOT NULL,
    trade_allowed boolean NOT NULL,
    trade_expert  boolean NOT NULL,
    balance       double precision NOT NULL,
    credit        double precision NOT NULL,
    profit        double precision NOT NULL,
    equity        double precision NOT NULL,
    margin        double precision NOT NULL,
    margin_free   double precision NOT NULL,
    margin_level  double precision NOT NULL
);
CREATE INDEX accounts_login_time ON raw.accounts (login, "time");

-- One row per open position and book; an empty book is seen in raw.events alone.
CREATE TABLE raw.positions (
    "time"              timestamptz NOT NULL,
    entry_ms            bigint NOT NULL,
    entry_seq           bigint NOT NULL,
    stream_id           integer NOT NULL,
    idx                 integer NOT NULL,
    login               bigint NOT NULL,
    symbol_id           integer NOT NULL,
    ticket              numeric(20) NOT NULL,
    identifier          numeric(20) NOT NULL,
    side                smallint NOT NULL,
    volume_lots         double precision NOT NULL,
    price_open          double precision NOT NULL,
    stop_loss           double precision NOT NULL,
    take_profit         double precision NOT NULL,
    magic               numeric(20) NOT NULL,
    reason              smallint NOT NULL,
    comment             text NOT NULL,
    open_time           timestamptz NOT NULL,
    open_time_server_ms bigint NOT NULL
);
CREATE INDEX positions_login_time ON raw.positions (login, "time");
CREATE INDEX positions_identifier ON raw.positions (identifier, "time");

-- Active orders as levels (done = false) and orders in their final state (done = true).
CREATE TABLE raw.orders (
    "time"               timestamptz NOT NULL,
    entry_ms             bigint NOT NULL,
    entry_seq            bigint NOT NULL,
    stream_id            integer NOT NULL,
    idx                  integer NOT NULL,
    login                bigint NOT NULL,
    symbol_id            integer NOT NULL,
    done                 boolean NOT NULL,
    ticket               numeric(20) NOT NULL,
    type                 smallint NOT NULL,
    state                smallint NOT NULL,
    type_time            smallint NOT NULL,
    type_filling         smallint NOT NULL,
    magic                numeric(20) NOT NULL,
    position_id          numeric(20) NOT NULL,
    position_by_id       numeric(20) NOT NULL,
    reason               smallint NOT NULL,
    volume_initial_lots  double precision NOT NULL,
    volume_current_lots  double precision NOT NULL,
    price_open           double precision NOT NULL,
    price_stoplimit      double precision NOT NULL,
    stop_loss            double precision NOT NULL,
    take_profit          double precision NOT NULL,
    comment              text NOT NULL,
    setup_time           timestamptz NOT NULL,
    setup_time_server_ms bigint NOT NULL,
    done_time            timestamptz,
    done_time_server_ms  bigint NOT NULL
);
CREATE INDEX orders_ticket ON raw.orders (ticket, "time");
CREATE INDEX orders_login_time ON raw.orders (login, "time");

CREATE TABLE raw.deals (
    "time"         timestamptz NOT NULL,
    entry_ms       bigint NOT NULL,
    entry_seq      bigint NOT NULL,
    stream_id      integer NOT NULL,
    login          bigint NOT NULL,
    symbol_id      integer,
    ticket         numeric(20) NOT NULL,
    order_ticket   numeric(20) NOT NULL,
    position_id    numeric(20) NOT NULL,
    type           smallint NOT NULL,
    entry          smallint NOT NULL,
    reason         smallint NOT NULL,
    magic          numeric(20) NOT NULL,
    volume_lots    double precision NOT NULL,
    price          double precision NOT NULL,
    profit         double precision NOT NULL,
    commission     double precision NOT NULL,
    swap           double precision NOT NULL,
    fee            double precision NOT NULL,
    comment        text NOT NULL,
    external_id    text NOT NULL,
    time_server_ms bigint NOT NULL
);
CREATE INDEX deals_ticket ON raw.deals (login, ticket);
CREATE INDEX deals_position ON raw.deals (login, position_id);
CREATE INDEX deals_login_time ON raw.deals (login, "time");

CREATE TABLE raw.instruments (
    "time"              timestamptz NOT NULL,
    entry_ms            bigint NOT NULL,
    entry_seq           bigint NOT NULL,
    stream_id           integer NOT NULL,
    symbol_id           integer NOT NULL,
    broker_symbol       text NOT NULL,
    description         text NOT NULL,
    path                text NOT NULL,
    currency_base       text NOT NULL,
    currency_profit     text NOT NULL,
    currency_margin     text NOT NULL,
    digits              smallint NOT NULL,
    point               double precision NOT NULL,
    tick_size           double precision NOT NULL,
    tick_value          double precision NOT NULL,
    contract_size       double precision NOT NULL,
    volume_min_lots     double precision NOT NULL,
    volume_max_lots     double precision NOT NULL,
    volume_step_lots    double precision NOT NULL,
    calc_mode           smallint NOT NULL,
    trade_mode          smallint NOT NULL,
    stops_level_points  integer NOT NULL,
    freeze_level_points integer NOT NULL,
    swap_mode           smallint NOT NULL,
    swap_long           double precision NOT NULL,
    swap_short          double precision NOT NULL
);
CREATE INDEX instruments_symbol_time ON raw.instruments (symbol_id, "time");

-- Entries whose rows alone do not say every byte (an unusual header, a cause, no rows at all).
CREATE TABLE raw.exact_entries (
    "time"    timestamptz NOT NULL,
    entry_ms  bigint NOT NULL,
    entry_seq bigint NOT NULL,
    stream_id integer NOT NULL,
    type      text NOT NULL,
    key       text NOT NULL,
    cause     text NOT NULL,
    data      bytea NOT NULL
);
CREATE INDEX exact_entries_place ON raw.exact_entries (stream_id, entry_ms, entry_seq);

-- Entries that could not be read or stored, kept as they came, with the reason.
CREATE TABLE raw.dead_entries (
    "time"    timestamptz NOT NULL DEFAULT now(),
    entry_ms  bigint NOT NULL,
    entry_seq bigint NOT NULL,
    stream_id integer NOT NULL,
    type      bytea NOT NULL,
    key       bytea NOT NULL,
    cause     bytea NOT NULL,
    data      bytea NOT NULL,
    error     text NOT NULL
);
CREATE INDEX dead_entries_place ON raw.dead_entries (stream_id, entry_ms, entry_seq);

-- Helpers of the views.
CREATE FUNCTION raw.unsigned(bigint) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    'SELECT CASE WHEN $1 < 0 THEN $1 + 18446744073709551616 ELSE $1::numeric END';
CREATE FUNCTION raw.server_time(bigint) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    'SELECT timestamp ''epoch''
        + greatest(least($1, 253402300799999), -62135596800000) * interval ''1 millisecond''';
CREATE FUNCTION raw.utc_time(bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    'SELECT to_timestamp(greatest(least($1, 253402300799999), -62135596800000) / 1000.0::float8)';
CREATE FUNCTION raw.offset_source(smallint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    'SELECT (ARRAY[''unknown'', ''assumed'', ''history'', ''live''])[$1 + 1]';

-- Views for people.
CREATE VIEW ticks AS
SELECT m.name AS terminal, s.name AS symbol, t."time", t.bid, t.ask, t.last,
       raw.unsigned(t.volume) AS volume, t.volume_real,
       CASE WHEN t.flags < 0 THEN t.flags + 4294967296 ELSE t.flags::bigint END AS flags,
       raw.server_time(t.time_msc) AS server_time,
       ((t.time_msc - extract(epoch FROM t."time") * 1000) / 1000)::integer AS offset_s,
       raw.offset_source((t.batch_bits >> 8)::smallint) AS offset_source,
       t.batch_bits & 1 <> 0 AS late, t.batch_bits & 2 <> 0 AS backfill,
       t.batch_bits & 4 <> 0 AS imported, raw.utc_time(t.recv_ms) AS received
FROM raw.ticks t JOIN raw.feeds f ON f.id = t.feed_id JOIN raw.symbols s ON s.id = f.symbol_id
    JOIN raw.terminals m ON m.id = s.terminal_id;

CREATE VIEW candles AS
SELECT DISTINCT ON (c.symbol_id, c.timeframe_s, c."time")
       m.name AS terminal, s.name AS symbol, f.name AS timeframe, c."time", c.open, c.high, c.low,
       c.close, raw.unsigned(c.tick_volume) AS tick_volume,
       raw.unsigned(c.real_volume) AS real_volume, c.spread,
       raw.server_time(c.time_s * 1000) AS server_time, c.offset_s,
       raw.offset_source(c.offset_source) AS offset_source
FROM raw.candles c JOIN raw.symbols s ON s.id = c.symbol_id
    JOIN raw.terminals m ON m.id = s.terminal_id JOIN raw.timeframes f ON f.seconds = c.timeframe_s
ORDER BY c.symbol_id, c.timeframe_s, c."time", c.entry_ms DESC, c.entry_seq DESC;

CREATE VIEW marks AS
SELECT m.name AS terminal, k.login, raw.unsigned(k.ticket) AS ticket, k."time", k.price_current,
       k.profit, k.swap, raw.offset_source(k.offset_source) AS offset_source
FROM raw.marks k JOIN raw.streams r ON r.id = k.stream_id JOIN raw.terminals m ON m.id = r.terminal_id;

CREATE VIEW events AS
SELECT m.name AS terminal, e."time", e.type, e.key, e.cause, e.body, r.name AS stream,
       e.entry_ms || '-' || e.entry_seq AS entry
FROM raw.events e JOIN raw.streams r ON r.id = e.stream_id JOIN raw.terminals m ON m.id = r.terminal_id;

CREATE VIEW accounts AS
SELECT m.name AS terminal, a."time", a.login, a.server, a.currency, a.leverage, a.trade_mode,
       a.margin_mode, a.trade_allowed, a.trade_expert, a.balance, a.credit, a.profit, a.equity,
       a.margin, a.margin_free, a.margin_level
FROM raw.accounts a JOIN raw.streams r ON r.id = a.stream_id JOIN raw.terminals m ON m.id = r.terminal_id;

CREATE VIEW positions AS
SELECT m.name AS terminal, p."time", p.login, s.name AS symbol, p.ticket, p.identifier,
       CASE p.side WHEN 0 THEN 'buy' ELSE 'sell' END AS side, p.volume_lots, p.price_open,
       p.stop_loss, p.take_profit, p.magic, p.reason, p.comment, p.open_time,
       raw.server_time(p.open_time_server_ms) AS open_time_server
FROM raw.positions p JOIN raw.symbols s ON s.id = p.symbol_id JOIN raw.terminals m ON m.id = s.terminal_id;

-- The newest book of each account.
CREATE VIEW positions_open AS
WITH book AS (
    SELECT DISTINCT ON (stream_id, key) stream_id, key, entry_ms, entry_seq
    FROM raw.events WHERE type LIKE 'book.%'
    ORDER BY stream_id, key, entry_ms DESC, entry_seq DESC
)
SELECT m.name AS terminal, p."time", p.login, s.name AS symbol, p.ticket, p.identifier,
       CASE p.side WHEN 0 THEN 'buy' ELSE 'sell' END AS side, p.volume_lots, p.price_open,
       p.stop_loss, p.take_profit, p.magic, p.comment, p.open_time
FROM book b
    JOIN raw.positions p USING (stream_id, entry_ms, entry_seq)
    JOIN raw.symbols s ON s.id = p.symbol_id JOIN raw.terminals m ON m.id = s.terminal_id;

CREATE VIEW orders AS
SELECT m.name AS terminal, o."time", o.login, s.name AS symbol, o.ticket, o.done, o.type, o.state,
       o.type_time, o.type_filling, o.magic, o.position_id, o.position_by_id, o.reason,
       o.volume_initial_lots, o.volume_current_lots, o.price_open, o.price_stoplimit, o.stop_loss,
       o.take_profit, o.comment, o.setup_time, o.done_time
FROM raw.orders o JOIN raw.symbols s ON s.id = o.symbol_id JOIN raw.terminals m ON m.id = s.terminal_id;

CREATE VIEW deals AS
SELECT m.name AS terminal, d."time", d.login, s.name AS symbol, d.ticket, d.order_ticket,
       d.position_id, d.type, d.entry, d.reason, d.magic, d.volume_lots, d.price, d.profit,
       d.commission, d.swap, d.fee, d.comment, d.external_id,
       raw.server_time(d.time_server_ms) AS server_time
FROM raw.deals d JOIN raw.streams r ON r.id = d.stream_id JOIN raw.terminals m ON m.id = r.terminal_id
    LEFT JOIN raw.symbols s ON s.id = d.symbol_id;

CREATE VIEW instruments AS
SELECT DISTINCT ON (i.symbol_id) m.name AS terminal, s.name AS symbol, i."time", i.broker_symbol,
       i.description, i.path, i.currency_base, i.currency_profit, i.currency_margin, i.digits,
       i.point, i.tick_size, i.tick_value, i.contract_size, i.volume_min_lots, i.volume_max_lots,
       i.volume_step_lots, i.calc_mode, i.trade_mode, i.stops_level_points, i.freeze_level_points,
       i.swap_mode, i.swap_long, i.swap_short
FROM raw.instruments i JOIN raw.symbols s ON s.id = i.symbol_id
    JOIN raw.terminals m ON m.id = s.terminal_id
ORDER BY i.symbol_id, i."time" DESC, i.entry_ms DESC, i.entry_seq DESC;

CREATE VIEW dead_entries AS
SELECT m.name AS terminal, d."time", r.name AS stream, d.entry_ms || '-' || d.entry_seq AS entry,
       d.error, octet_length(d.data) AS bytes
FROM raw.dead_entries d JOIN raw.streams r ON r.id = d.stream_id
    JOIN raw.terminals m ON m.id = r.terminal_id;

-- Positions from their first deal to their last (hedging, and netting without reversal).
CREATE VIEW trades AS
SELECT terminal, login, symbol, position_id,
       CASE (array_agg(type ORDER BY "time", ticket) FILTER (WHERE entry = 0))[1]
           WHEN 0 THEN 'buy' ELSE 'sell' END AS side,
       sum(volume_lots) FILTER (WHERE entry = 0) AS volume_lots,
       sum(price * volume_lots) FILTER (WHERE entry = 0)
           / nullif(sum(volume_lots) FILTER (WHERE entry = 0), 0) AS price_entry,
       sum(price * volume_lots) FILTER (WHERE entry <> 0)
           / nullif(sum(volume_lots) FILTER (WHERE entry <> 0), 0) AS price_exit,
       min("time") AS open_time, max("time") AS close_time, sum(profit) AS profit,
       sum(commission) AS commission, sum(swap) AS swap, sum(fee) AS fee,
       sum(profit + commission + swap + fee) AS net_profit
FROM deals
WHERE position_id <> 0 AND type IN (0, 1)
GROUP BY terminal, login, symbol, position_id
HAVING abs(sum(CASE WHEN entry = 0 THEN volume_lots ELSE -volume_lots END)) < 1e-9;

-- Names of the older design.
CREATE VIEW price_data AS
SELECT terminal, symbol, "time" AS "timestamp", bid, ask, (bid + ask) / 2 AS mid,
       ask - bid AS spread, last, volume
FROM ticks;

CREATE VIEW account_metrics AS
SELECT terminal, "time" AS "timestamp", login AS account, balance, equity, margin, margin_free AS free_margin,
       margin_level, profit, credit, leverage, currency
FROM accounts;
