"""`python -m imds_proxy` is the same command as `imds-proxy`."""

from imds_proxy.cli import main

if __name__ == "__main__":
    main()
