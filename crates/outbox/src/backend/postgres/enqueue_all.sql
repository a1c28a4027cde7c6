WITH input AS MATERIALIZED (
    SELECT value AS report, ordinality AS place
    FROM jsonb_array_elements($1::text::jsonb) WITH ORDINALITY
), locked AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(key) FROM (
        SELECT DISTINCT hashtextextended(referral_sequence_key(report), 0) AS key
        FROM input ORDER BY key
    ) AS keys
)
INSERT INTO referral_outbox AS r (report)
SELECT report FROM input, (SELECT count(*) FROM locked) AS all_locked ORDER BY place
