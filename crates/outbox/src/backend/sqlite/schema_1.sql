CREATE TABLE referral_outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,

    -- Written by whoever enqueues: the report alone.
    report TEXT NOT NULL CHECK (json_valid(report)),

    -- Computed from it. `Report::id()`, `Report::sequence_key()` and `Report::depends_on()` agree.
    version INTEGER NOT NULL GENERATED ALWAYS AS (
        coalesce(CAST(json_extract(report, '$.version') AS INTEGER), 1)
    ) STORED,
    kind TEXT GENERATED ALWAYS AS (json_extract(report, '$.kind')) STORED,
    id TEXT GENERATED ALWAYS AS (CASE json_extract(report, '$.kind')
        WHEN 'sign_up' THEN 'signup:'
            || coalesce(replace(replace(json_extract(report, '$.customer'), '%', '%25'), ':', '%3A'), ':' || replace(replace(json_extract(report, '$.email'), '%', '%25'), ':', '%3A'))
        WHEN 'cancellation' THEN 'cancellation:' || replace(replace(json_extract(report, '$.customer'), '%', '%25'), ':', '%3A')
            || coalesce(':' || replace(replace(json_extract(report, '$.subscription'), '%', '%25'), ':', '%3A'), '')
        WHEN 'sale' THEN 'sale:' || replace(replace(json_extract(report, '$.order'), '%', '%25'), ':', '%3A')
        WHEN 'refund' THEN 'refund:' || replace(replace(json_extract(report, '$.order'), '%', '%25'), ':', '%3A')
            || coalesce(':' || replace(replace(json_extract(report, '$.refund'), '%', '%25'), ':', '%3A'),
                        '::' || json_extract(report, '$.amount'), '')
        ELSE json_extract(report, '$.kind') || ':' || replace(replace(json_extract(report, '$.order'), '%', '%25'), ':', '%3A')
            || coalesce(':' || replace(replace(json_extract(report, '$.refund'), '%', '%25'), ':', '%3A'),
                        ':' || replace(replace(json_extract(report, '$.update'), '%', '%25'), ':', '%3A'),
                        '::' || json_extract(report, '$.amount'), '')
    END) STORED,
    sequence_key TEXT GENERATED ALWAYS AS (
        CASE WHEN json_extract(report, '$.kind') IN ('sign_up', 'cancellation')
            THEN 'customer:' || coalesce(replace(replace(json_extract(report, '$.customer'), '%', '%25'), ':', '%3A'), ':' || replace(replace(json_extract(report, '$.email'), '%', '%25'), ':', '%3A'))
            ELSE 'order:' || replace(replace(json_extract(report, '$.order'), '%', '%25'), ':', '%3A')
        END) STORED,
    depends_on TEXT GENERATED ALWAYS AS (CASE
        WHEN json_extract(report, '$.kind') = 'sale' THEN
            CASE WHEN coalesce(json_extract(report, '$.guest'), 0) = 0
                THEN 'signup:' || coalesce(replace(replace(json_extract(report, '$.customer'), '%', '%25'), ':', '%3A'), ':' || replace(replace(json_extract(report, '$.email'), '%', '%25'), ':', '%3A')) END
        WHEN json_extract(report, '$.kind') IN ('refund', 'refund_reversal', 'sale_update') THEN
            'sale:' || replace(replace(json_extract(report, '$.order'), '%', '%25'), ':', '%3A')
    END) STORED,
    customer_id TEXT GENERATED ALWAYS AS (
        coalesce(json_extract(report, '$.customer'), json_extract(report, '$.email'))
    ) STORED,
    has_credit INTEGER NOT NULL GENERATED ALWAYS AS (
        coalesce(json_extract(report, '$.credit.key'), json_extract(report, '$.credit.click_id'),
                 json_extract(report, '$.credit.partner_id'),
                 json_extract(report, '$.credit.reference'),
                 json_extract(report, '$.credit.reduced')) IS NOT NULL
    ) STORED,
    -- A landing whose click ID wasn't known yet: see referral_clicks.
    click_reference TEXT GENERATED ALWAYS AS (
        CASE WHEN json_extract(report, '$.credit.click_id') IS NULL
            THEN json_extract(report, '$.credit.reference') END
    ) STORED,

    -- The delivery. Times are in milliseconds of Unix time.
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'held', 'claimed', 'sending',
        'done', 'failed', 'ambiguous', 'unreadable', 'withdrawn')),
    not_before INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
    attempts INTEGER NOT NULL DEFAULT 0,
    claimed_by TEXT,
    -- An earlier attempt may have reached a platform that doesn't deduplicate.
    may_have_arrived INTEGER NOT NULL DEFAULT 0,
    blocked_by TEXT,
    outcome TEXT,
    platform_ids TEXT,
    reason TEXT,
    details TEXT,
    history TEXT NOT NULL DEFAULT '[]',
    -- A version of the report that came, with credit, while one without was in flight.
    next_report TEXT,
    revision INTEGER NOT NULL DEFAULT 1,
    unreadable_for INTEGER,
    created_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
    finished_at INTEGER,
    open INTEGER NOT NULL GENERATED ALWAYS AS (finished_at IS NULL) STORED,
    reduced_at INTEGER,
    erased INTEGER NOT NULL DEFAULT 0
);

CREATE UNIQUE INDEX referral_outbox_id ON referral_outbox (id);
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
    reference TEXT PRIMARY KEY,
    -- None, and none is taken any more, once the customer was erased.
    click_id TEXT,
    partner_id TEXT,
    expires_at INTEGER NOT NULL
);
CREATE INDEX referral_clicks_expiry ON referral_clicks (expires_at);

-- The workers of the last day, and whether the platform has made them pause.
CREATE TABLE referral_workers (
    worker TEXT PRIMARY KEY,
    seen_at INTEGER NOT NULL,
    paused_since INTEGER,
    pause_reason TEXT,
    probe INTEGER NOT NULL DEFAULT 0
);
