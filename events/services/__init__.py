"""Every change of an event. Views, admin, API, jobs and commands call these."""
