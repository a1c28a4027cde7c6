-- $1 links
SELECT customer, record FROM referral_payments
WHERE id IN (
    SELECT l.id FROM json_each($1) AS w JOIN referral_payment_links AS l ON l.link = w.value
)
ORDER BY id
