"""The demo: an embedded AWS, an embedded DNS, and the real daemon between them."""

from imds_proxy.demo.demo import run_demo

__all__ = ["run_demo"]
