"""Fetches the real servers that the tests run against, without root: `python -m scripts.servers`.

`table.py` says what is wanted and where it comes from, `debian.py` and `wheels.py` get it there, `install.py` unpacks it
and proves that it runs.
"""
