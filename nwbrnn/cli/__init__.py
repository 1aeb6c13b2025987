"""The command line: arguments in, text out; the work is done elsewhere."""
