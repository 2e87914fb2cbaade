"""How the clients of each language are built: one module per language, each with its `CLIENTS`."""
