"""Traffic for the service: where wines come from, how they drift, and how they are sent."""
