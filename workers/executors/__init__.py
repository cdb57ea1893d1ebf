"""Where trials run: in this process (`inline`) or in Ray actors (`ray_pool`), with restarts and time limits."""

__all__ = [
    "factory",
    "inline",
    "package_wheel",
    "process_reaper",
    "ray_actor",
    "ray_pool",
    "watchdog",
    "worker_process",
    "worker_slot",
]
