"""Setting the bridge up: find terminals, look into one, write settings, start at logon."""
