"""What any program needs of the system around it: object stores, retries, processes, folders.

Like `database` it knows nothing of wines.
"""
