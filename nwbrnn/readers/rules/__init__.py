"""Rules that choose what to read: each decision has a function that returns a :class:`Choice`."""
