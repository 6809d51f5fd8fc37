"""Several members behind HAProxy."""
