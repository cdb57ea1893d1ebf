"""Accelerators: discovery of devices, placement of workers on them, and estimates of their memory."""

__all__ = ["discovery", "memory_estimate", "placement", "ray_environment"]
