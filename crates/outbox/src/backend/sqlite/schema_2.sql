-- What is stored of payments: a record for each payment and for each account, as JSON.
CREATE TABLE referral_payments (
    id TEXT PRIMARY KEY NOT NULL,
    -- The link of the customer whose account it is; NULL for a payment.
    customer TEXT,
    record TEXT NOT NULL,
    -- When it was last written or needed, in milliseconds of Unix time.
    used_at INTEGER NOT NULL
);
CREATE INDEX referral_payments_used ON referral_payments (used_at);

-- By what a record is found: the IDs that a payment or an account has, and, after `owner:`, the
-- customers who are in it.
CREATE TABLE referral_payment_links (
    link TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (link, id)
) WITHOUT ROWID;
CREATE INDEX referral_payment_links_id ON referral_payment_links (id);

CREATE TRIGGER referral_payments_unlink AFTER DELETE ON referral_payments BEGIN
    DELETE FROM referral_payment_links WHERE id = OLD.id;
END;
