"""The pipelines: each a folder of thin nodes that join the domain packages to the catalog."""
