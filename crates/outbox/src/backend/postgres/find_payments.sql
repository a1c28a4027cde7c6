-- $1 links
SELECT locked, found FROM referral_payments_find($1)
