"""Transports, one a file, and wrappers that rewrite requests as they pass. A new file is found by the tests."""
