-- $1 `owner:` and the customer
SELECT record FROM referral_payments
WHERE id IN (SELECT id FROM referral_payment_links WHERE link = $1)
ORDER BY id
