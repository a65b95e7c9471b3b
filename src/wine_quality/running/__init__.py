"""What stands around the nodes of every run: its checks, its lock, its tracking, its summary."""
