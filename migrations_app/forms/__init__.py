"""The forms of the migration tasks. They offer what is known of the fleet; what is allowed is decided by the services."""
