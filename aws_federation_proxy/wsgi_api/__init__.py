"""The old program's web application; `imds-proxy serve` took its place."""

raise ImportError(
    "aws_federation_proxy.wsgi_api is gone, `imds-proxy serve` answers people and machines:"
    " docs/migrating-from-afp.md",
    name=__name__,
)
