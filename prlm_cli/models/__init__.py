"""Models: where they come from, how they are loaded, what turns text into their tokens."""
