"""The providers that come with imds-proxy, one module each, found by entry points."""
