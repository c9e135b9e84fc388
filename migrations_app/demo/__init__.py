"""Sample data, a writer that goes on changing it, and the stage of ``make demo``.

``dataset``, ``writer``, ``audit`` and ``encodings`` need redis-py only (no Django), so that tests and people
can run them by themselves against any server.
"""
