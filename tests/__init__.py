"""The tests, and under `standins` what stands in for the world around the daemon."""
