"""Every client in every mode: real, unmodified programs against the daemon, and an S3 that checks them."""
