"""Tests of the running daemon in network namespaces, with a real name server."""
