"""The set-up of a task, a wizard whose steps can be left and come back to: `shell` (what they share), and a module a step.

A step registers itself with `shell.step`; `urls.py` imports the modules.
"""
