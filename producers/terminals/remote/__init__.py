"""Terminals on other machines: our own server and its client, and classic RPyC servers."""
