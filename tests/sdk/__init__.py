"""Unmodified AWS clients, each a process of its own, against a running daemon and the stand-ins."""
