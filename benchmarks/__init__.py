"""How fast streamlab is: ratios against other ways to do the same work, measured in one run (``make bench``).

Nothing here is a test that passes or fails by the clock; only an output that differs is an error.
``python -m benchmarks`` prints the tables, ``python -m benchmarks.memory`` watches memory over millions of lines.
"""
