"""The follow-up tracker: the same nodule through time, and what the screening guidelines say."""
