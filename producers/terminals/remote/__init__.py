"""Terminals on other machines: our own server of one, and classic RPyC servers."""
