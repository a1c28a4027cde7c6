-- What is stored of payments: a record for each payment and for each account, as JSON in a text.
CREATE TABLE referral_payments (
    id text PRIMARY KEY,
    -- The link of the customer whose account it is; NULL for a payment.
    customer text,
    record text NOT NULL,
    -- When it was last written or needed, in milliseconds of Unix time.
    used_at bigint NOT NULL
);
CREATE INDEX referral_payments_used ON referral_payments (used_at);

-- By what a record is found: the IDs that a payment or an account has, and, after `owner:`, the
-- customers who are in it.
CREATE TABLE referral_payment_links (
    link text NOT NULL,
    id text NOT NULL,
    PRIMARY KEY (link, id)
);
CREATE INDEX referral_payment_links_id ON referral_payment_links (id);

-- Locks the links until the transaction ends, the links of the customers whose accounts are found, too,
-- and then reads the records that have one of them. A statement sees what was committed before it
-- began; each of those in here begins when the locks before it are held.
CREATE FUNCTION referral_payments_find(wanted text[])
RETURNS TABLE (locked text, found text) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    more text[];
    held text[];
    linked text[];
BEGIN
    IF current_setting('transaction_isolation') = 'repeatable read' THEN
        RAISE EXCEPTION 'payments can''t be booked in a transaction of REPEATABLE READ, which '
            'doesn''t see what others commit meanwhile: use READ COMMITTED or SERIALIZABLE';
    END IF;
    PERFORM pg_advisory_xact_lock(keys.key) FROM (
        SELECT DISTINCT hashtextextended(w.link, 1) AS key FROM unnest(wanted) AS w (link)
        ORDER BY key
    ) AS keys;
    SELECT array_agg(DISTINCT p.customer) INTO more
    FROM referral_payment_links AS l JOIN referral_payments AS p ON p.id = l.id
    WHERE l.link = ANY (wanted) AND p.customer <> ALL (wanted);
    IF more IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(keys.key) FROM (
            SELECT DISTINCT hashtextextended(m.link, 1) AS key FROM unnest(more) AS m (link)
            ORDER BY key
        ) AS keys;
    END IF;
    RETURN QUERY SELECT m.link, NULL::text FROM unnest(more) AS m (link);
    -- Whoever shares a record without a link in common waits for it, an erasure too. It may be gone
    -- after that, joined with another one: all are held once what the links lead to is what is held.
    LOOP
        SELECT array_agg(h.id ORDER BY h.id) INTO held FROM (
            SELECT p.id FROM referral_payments AS p
            WHERE p.id IN (
                SELECT l.id FROM referral_payment_links AS l WHERE l.link = ANY (wanted || more)
            )
            ORDER BY p.id FOR UPDATE
        ) AS h;
        SELECT array_agg(DISTINCT p.id ORDER BY p.id) INTO linked
        FROM referral_payment_links AS l JOIN referral_payments AS p ON p.id = l.id
        WHERE l.link = ANY (wanted || more);
        EXIT WHEN linked IS NOT DISTINCT FROM held;
    END LOOP;
    RETURN QUERY SELECT NULL::text, p.record FROM referral_payments AS p
        WHERE p.id = ANY (held) ORDER BY p.id;
END $$;
