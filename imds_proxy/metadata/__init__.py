"""What the metadata tree says of a caller besides its keys: templates, levels of settings, user-data."""
