"""One graph a file: which workers mix, and with what weights."""
