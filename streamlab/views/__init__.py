"""What people look at.

Views read snapshots of a run's tables, never the engine's live objects, and do not know each other.

``dashboard``  HTTP on this machine
"""
