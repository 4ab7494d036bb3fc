"""The loops that NumPy is slow at: ``reference`` is the oracle, ``jit`` the fast path.

Both have the same functions with the same arguments.
"""
