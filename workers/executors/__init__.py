"""Executors, which run trials: in this process (`inline`), in Ray actors (`ray_pool`), or simulated (`simulated`)."""

__all__ = [
    "factory",
    "inline",
    "package_wheel",
    "process_reaper",
    "ray_actor",
    "ray_cluster",
    "ray_pool",
    "simulated",
    "trial_limits",
    "watchdog",
    "worker_launcher",
    "worker_process",
    "worker_slot",
]
