"""How the administration writes dates and times: as the console's pages do, on a clock of 24 hours."""
