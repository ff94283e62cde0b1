"""The run as a timeline: what every process did, when, on one clock."""
