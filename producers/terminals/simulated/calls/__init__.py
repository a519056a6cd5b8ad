"""The functions of the module, by subject: link, symbols, copying, trading."""
