"""The benchmark: how fast, how many, how much memory. It reports and judges nothing.

`python -m bench [NAME ...] [--quick]` starts the real daemon, a bare aiohttp server and stand-ins for
DNS and STS on loopback, and prints tables. What is measured and how to read it: docs/performance.md.
"""
