"""Devices: their discovery, placement of workers on them, estimates of their memory, and compiled programs."""

__all__ = ["compilation_cache", "discovery", "memory_estimate", "placement", "ray_environment", "worker_environment"]
