"""imds-proxy: an EC2 instance metadata service for machines that are not on EC2."""

__version__ = "0.1.0"
