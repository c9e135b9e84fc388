"""Forms of the events. They check form and plausibility; what is allowed is decided by the services."""
