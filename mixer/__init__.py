"""The core of Switchpoint: which sample stands in each slot of each step, decided by a pure function.

Standard library and NumPy only; reading shards is in `mixer.reader`, the torch dataset in `mixer.dataset` (not imported here).
"""
