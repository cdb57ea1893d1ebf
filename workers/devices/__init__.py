"""Devices: discovery, placement of workers, estimates of memory, and the cache of compiled programs."""

__all__ = ["compilation_cache", "discovery", "memory_estimate", "placement", "ray_environment", "worker_environment"]
