"""The precheck: everything that is looked at before a task may start, one small function an item (R84–R87).

`items.py` has them in order. What is found is stored as rows (models.PrecheckItem) in one transaction at the end; what may be
ignored, and what follows from it, is decided by services/prechecks.py.
"""
