"""Requests lowered to what a transport performs: collectives as messages, their costs, and memory of a device."""
