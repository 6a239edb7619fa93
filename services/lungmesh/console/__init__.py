"""The read side: every study with its state, its age and the reason."""
