"""The library as programs use it, with a real AWS stand-in and a sign-in endpoint."""
