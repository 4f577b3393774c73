"""Results as text, HTML and tidy tables."""
