-- Changes nothing, and takes the database for writing, so that what is read next is still so when it is
-- written, also in a transaction that wasn't begun with `BEGIN IMMEDIATE`.
UPDATE referral_payments SET used_at = used_at WHERE false
