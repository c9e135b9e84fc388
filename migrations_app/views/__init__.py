"""The pages: `tasks` (list, page, log), `actions` (what is done to a task), `setup` (the wizard)."""
