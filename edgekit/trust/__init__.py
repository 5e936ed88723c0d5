"""Who may say what: signing keys for bundles, a certificate authority, accounts at the broker, enrolment."""
