"""The old program's own tools, which nothing here has."""

raise ImportError(
    "aws_federation_proxy.util is gone; docs/migrating-from-afp.md says what became of it", name=__name__
)
