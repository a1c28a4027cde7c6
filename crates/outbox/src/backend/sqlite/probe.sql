UPDATE referral_workers SET probe = 1
