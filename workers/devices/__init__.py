"""Accelerators: which devices exist, which worker gets which, and what fits in their memory."""

__all__ = ["discovery", "memory_estimate", "placement", "ray_environment"]
