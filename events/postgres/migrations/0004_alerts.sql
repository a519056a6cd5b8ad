-- What a human was to know of: each alert as group `watch` told it. Alerts that others made, such
-- as the guard, are told again by it, so that every one stands here once.

CREATE INDEX events_alerts ON raw.events ("time" DESC) WHERE type LIKE 'alert.%';

CREATE VIEW alerts AS
SELECT m.name AS terminal, e."time", e.body ->> 'severity' AS severity, e.body ->> 'topic' AS topic,
       e.body ->> 'subject' AS subject, e.body ->> 'text' AS text, e.body ->> 'cure' AS cure,
       coalesce((e.body ->> 'resolved')::boolean, false) AS resolved,
       coalesce((e.body ->> 'count')::integer, 1) AS count,
       CASE WHEN coalesce((e.body ->> 'since_ms')::bigint, 0) > 0
           THEN raw.utc_time((e.body ->> 'since_ms')::bigint) END AS since,
       e.body -> 'entries' AS entries,
       r.name || '@' || e.entry_ms || '-' || e.entry_seq AS place
FROM raw.events e JOIN raw.streams r ON r.id = e.stream_id JOIN raw.terminals m ON m.id = r.terminal_id
WHERE e.type LIKE 'alert.%' AND split_part(r.name, ':', 2) = 'watch';
