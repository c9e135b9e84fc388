"""What the jobs run: links, and what has to be found out about the two sides of a task. All that imports the engine, beside commands."""
