"""Measurements side by side, in one run: `python -m benchmarks.run` from the repository's root.

`run.py` is the command, `rows/` has one file a subject, `stage.py` starts what they need,
`figures.py` interleaves and compares, `report.py` writes Markdown and JSON. `load.py` and `torture.py` are
the clients, `far_end.py` is the server behind every tunnel.
"""
