-- Risk figures, limits that were reached, and what the guard did: views on the events as they
-- stood in the log. `->>` gives NULL where an older event has no such field.

CREATE VIEW risk_metrics AS
SELECT m.name AS terminal, e."time", (e.body ->> 'login')::bigint AS login,
       (e.body ->> 'equity')::double precision AS equity,
       (e.body ->> 'balance')::double precision AS balance,
       (e.body ->> 'credit')::double precision AS credit,
       (e.body ->> 'floating')::double precision AS floating,
       (e.body ->> 'margin')::double precision AS margin,
       (e.body ->> 'margin_free')::double precision AS margin_free,
       (e.body ->> 'margin_level_percent')::double precision AS margin_level_percent,
       (e.body ->> 'drawdown_percent')::double precision AS drawdown_percent,
       (e.body ->> 'daily_loss')::double precision AS daily_loss,
       (e.body ->> 'leverage_used')::double precision AS leverage_used,
       (e.body ->> 'cost_of_closing')::double precision AS cost_of_closing,
       (e.body ->> 'positions_open')::integer AS positions_open,
       (e.body ->> 'lots_open')::double precision AS lots_open,
       e.body -> 'figures' AS figures, e.body -> 'by_symbol' AS by_symbol,
       e.body -> 'headroom' AS headroom, e.body -> 'largest_lot' AS largest_lot,
       e.body -> 'references' AS "references", e.body -> 'unknown' AS unknown,
       e.body -> 'locks' AS locks
FROM raw.events e JOIN raw.streams r ON r.id = e.stream_id JOIN raw.terminals m ON m.id = r.terminal_id
WHERE e.type LIKE 'risk\_metrics.%';

CREATE VIEW exposure_by_currency AS
SELECT m.name AS terminal, e."time", (e.body ->> 'login')::bigint AS login, held.key AS currency,
       held.value::double precision AS net,
       coalesce((e.body -> 'exposure_gross_by_currency' ->> held.key)::double precision,
                abs(held.value::double precision)) AS gross
FROM raw.events e
    CROSS JOIN LATERAL json_each_text(
        coalesce(e.body -> 'exposure_by_currency', '{}'::json)) AS held
    JOIN raw.streams r ON r.id = e.stream_id JOIN raw.terminals m ON m.id = r.terminal_id
WHERE e.type LIKE 'risk\_metrics.%';

CREATE VIEW risk_by_symbol AS
SELECT m.name AS terminal, e."time", (e.body ->> 'login')::bigint AS login, held.key AS symbol,
       (held.value ->> 'lots')::double precision AS lots,
       (held.value ->> 'lots_net')::double precision AS lots_net,
       (held.value ->> 'exposure')::double precision AS exposure,
       (held.value ->> 'floating')::double precision AS floating,
       (held.value ->> 'risk_to_stop')::double precision AS risk_to_stop,
       (held.value ->> 'cost_of_closing')::double precision AS cost_of_closing,
       (held.value ->> 'spread_points')::double precision AS spread_points,
       (held.value ->> 'tick_age_s')::double precision AS tick_age_s
FROM raw.events e
    CROSS JOIN LATERAL json_each(coalesce(e.body -> 'by_symbol', '{}'::json)) AS held
    JOIN raw.streams r ON r.id = e.stream_id JOIN raw.terminals m ON m.id = r.terminal_id
WHERE e.type LIKE 'risk\_metrics.%';

CREATE VIEW limit_breaches AS
SELECT m.name AS terminal, e."time", (e.body ->> 'login')::bigint AS login,
       e.body ->> 'limit' AS "limit", e.body ->> 'level' AS level, e.body ->> 'action' AS action,
       (e.body ->> 'value')::double precision AS value,
       (e.body ->> 'threshold')::double precision AS threshold, e.body ->> 'lock' AS lock,
       CASE WHEN e.body ->> 'locked_until_ms' IS NOT NULL
           THEN raw.utc_time((e.body ->> 'locked_until_ms')::bigint) END AS locked_until,
       (e.body ->> 'delay_ms')::bigint AS delay_ms, e.body -> 'figures' AS figures,
       e.body -> 'entries' AS entries, e.body ->> 'detail' AS detail,
       r.name || '@' || e.entry_ms || '-' || e.entry_seq AS place
FROM raw.events e JOIN raw.streams r ON r.id = e.stream_id JOIN raw.terminals m ON m.id = r.terminal_id
WHERE e.type LIKE 'limit\_breach.%';

-- How the guard was, its latch, and each step of a flatten, in one list.
CREATE VIEW guard_events AS
SELECT m.name AS terminal, e."time", (e.body ->> 'login')::bigint AS login,
       split_part(e.type, '.', 1) AS event, e.body ->> 'state' AS state,
       (e.body ->> 'latched')::boolean AS latched, e.body ->> 'reason' AS reason,
       e.body ->> 'by' AS by, e.body ->> 'flatten_id' AS flatten_id,
       (e.body ->> 'number')::integer AS number, e.body ->> 'step' AS step,
       e.body ->> 'symbol' AS symbol, (e.body ->> 'ticket')::numeric(20) AS ticket,
       (e.body ->> 'volume_lots')::double precision AS volume_lots,
       (e.body ->> 'retcode')::integer AS retcode, e.body ->> 'outcome' AS outcome,
       (e.body ->> 'took_ms')::double precision AS took_ms,
       (e.body ->> 'breach_to_flat_ms')::double precision AS breach_to_flat_ms,
       e.body ->> 'detail' AS detail,
       r.name || '@' || e.entry_ms || '-' || e.entry_seq AS place
FROM raw.events e JOIN raw.streams r ON r.id = e.stream_id JOIN raw.terminals m ON m.id = r.terminal_id
WHERE e.type LIKE 'guard\_state.%' OR e.type LIKE 'latch.%' OR e.type LIKE 'flatten\_step.%'
   OR e.type LIKE 'flatten\_ended.%';
