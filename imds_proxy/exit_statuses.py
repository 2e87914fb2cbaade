"""What the commands end with; 0 is success."""

EXIT_FAILED = 1
EXIT_REFUSED = 1
EXIT_FAULTY = 2
"""A faulty configuration, or wrong usage: click ends with it, too."""
EXIT_TROUBLE = 3
