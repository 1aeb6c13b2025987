"""What is picked and why: one function for each decision, which returns a :class:`Choice` with its reason."""
