"""Gust's Python task runner: runs one callable of a DAG per process.

The Go worker starts this package, hands over the task on an inherited socket
and answers its questions (XCom, variables, connections). Standard library
only, CPython 3.10 to 3.14. It never talks to a network and holds no secret.
"""
