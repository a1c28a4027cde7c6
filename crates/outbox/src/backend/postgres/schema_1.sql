-- Reports of one key are sent one after another: those of an order, and those of a customer.
CREATE FUNCTION referral_sequence_key(report jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN report->>'kind' IN ('sign_up', 'cancellation')
        THEN 'customer:' || coalesce(
            replace(replace(report->>'customer', '%', '%25'), ':', '%3A'),
            ':' || replace(replace(report->>'email', '%', '%25'), ':', '%3A'))
        ELSE 'order:' || replace(replace(report->>'order', '%', '%25'), ':', '%3A')
    END
$$;

CREATE TABLE referral_outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,

    -- Written by whoever enqueues: the report alone.
    report jsonb NOT NULL,

    -- Computed from it. `Report::id()`, `Report::sequence_key()` and `Report::depends_on()` agree.
    version int NOT NULL GENERATED ALWAYS AS (
        CASE WHEN report->>'version' ~ '^[0-9]{1,6}$' THEN (report->>'version')::int ELSE 1 END
    ) STORED,
    kind text GENERATED ALWAYS AS (report->>'kind') STORED,
    id text UNIQUE GENERATED ALWAYS AS (CASE report->>'kind'
        WHEN 'sign_up' THEN 'signup:' || coalesce(
            replace(replace(report->>'customer', '%', '%25'), ':', '%3A'),
            ':' || replace(replace(report->>'email', '%', '%25'), ':', '%3A'))
        WHEN 'cancellation' THEN 'cancellation:'
            || replace(replace(report->>'customer', '%', '%25'), ':', '%3A')
            || coalesce(':' || replace(replace(report->>'subscription', '%', '%25'), ':', '%3A'), '')
        WHEN 'sale' THEN 'sale:' || replace(replace(report->>'order', '%', '%25'), ':', '%3A')
        WHEN 'refund' THEN 'refund:' || replace(replace(report->>'order', '%', '%25'), ':', '%3A')
            || coalesce(':' || replace(replace(report->>'refund', '%', '%25'), ':', '%3A'),
                        '::' || (report->>'amount'), '')
        ELSE (report->>'kind') || ':' || replace(replace(report->>'order', '%', '%25'), ':', '%3A')
            || coalesce(':' || replace(replace(coalesce(report->>'refund', report->>'update'),
                                               '%', '%25'), ':', '%3A'),
                        '::' || (report->>'amount'), '')
    END) STORED,
    sequence_key text GENERATED ALWAYS AS (referral_sequence_key(report)) STORED,
    depends_on text GENERATED ALWAYS AS (CASE
        WHEN report->>'kind' = 'sale' THEN
            CASE WHEN coalesce(report->>'guest', 'false') = 'false'
                THEN 'signup:' || coalesce(
                    replace(replace(report->>'customer', '%', '%25'), ':', '%3A'),
                    ':' || replace(replace(report->>'email', '%', '%25'), ':', '%3A')) END
        WHEN report->>'kind' IN ('refund', 'refund_reversal', 'sale_update') THEN
            'sale:' || replace(replace(report->>'order', '%', '%25'), ':', '%3A')
    END) STORED,
    customer_id text GENERATED ALWAYS AS (coalesce(report->>'customer', report->>'email')) STORED,
    has_credit boolean NOT NULL GENERATED ALWAYS AS (
        coalesce(report->'credit'->>'key', report->'credit'->>'click_id',
                 report->'credit'->>'partner_id', report->'credit'->>'reference',
                 report->'credit'->>'reduced') IS NOT NULL
    ) STORED,
    -- A landing whose click ID wasn't known yet: see referral_clicks.
    click_reference text GENERATED ALWAYS AS (
        CASE WHEN report->'credit'->>'click_id' IS NULL THEN report->'credit'->>'reference' END
    ) STORED,

    -- The delivery. Times are in milliseconds of Unix time.
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'held', 'claimed', 'sending',
        'done', 'failed', 'ambiguous', 'unreadable', 'withdrawn')),
    not_before bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
    attempts int NOT NULL DEFAULT 0,
    claimed_by text,
    -- An earlier attempt may have reached a platform that doesn't deduplicate.
    may_have_arrived boolean NOT NULL DEFAULT false,
    blocked_by text,
    outcome text,
    platform_ids jsonb,
    reason text,
    details text,
    history jsonb NOT NULL DEFAULT '[]',
    -- A version of the report that came, with credit, while one without was in flight.
    next_report jsonb,
    revision int NOT NULL DEFAULT 1,
    unreadable_for int,
    created_at bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
    finished_at bigint,
    open boolean NOT NULL GENERATED ALWAYS AS (finished_at IS NULL) STORED,
    reduced_at bigint,
    erased boolean NOT NULL DEFAULT false
) WITH (
    -- Rows change several times within seconds: what they leave behind goes soon.
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX referral_outbox_due ON referral_outbox (not_before, seq) WHERE open;
CREATE INDEX referral_outbox_key ON referral_outbox (sequence_key, open, seq);
CREATE INDEX referral_outbox_customer ON referral_outbox (customer_id);
CREATE INDEX referral_outbox_blocked ON referral_outbox (blocked_by)
    WHERE blocked_by IS NOT NULL;
CREATE INDEX referral_outbox_unattributed ON referral_outbox (depends_on)
    WHERE outcome = 'not_attributed';
CREATE INDEX referral_outbox_problems ON referral_outbox (seq)
    WHERE state IN ('failed', 'ambiguous', 'unreadable');
CREATE INDEX referral_outbox_to_reduce ON referral_outbox (finished_at)
    WHERE state IN ('done', 'withdrawn') AND reduced_at IS NULL;
CREATE INDEX referral_outbox_reduced ON referral_outbox (finished_at)
    WHERE reduced_at IS NOT NULL;

-- Answers of the platform to clicks that came after the page, by the reference of the landing.
CREATE TABLE referral_clicks (
    reference text PRIMARY KEY,
    -- None, and none is taken any more, once the customer was erased.
    click_id text,
    partner_id text,
    expires_at bigint NOT NULL
);
CREATE INDEX referral_clicks_expiry ON referral_clicks (expires_at);

-- The workers of the last day, and whether the platform has made them pause.
CREATE TABLE referral_workers (
    worker text PRIMARY KEY,
    seen_at bigint NOT NULL,
    paused_since bigint,
    pause_reason text,
    probe boolean NOT NULL DEFAULT false
);
