"""Lending this machine's terminal to a bridge elsewhere, with its guard beside it."""
