"""Checks that what is said in two places still agrees: `make drift`."""
