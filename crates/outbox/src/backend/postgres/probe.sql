UPDATE referral_workers SET probe = true
