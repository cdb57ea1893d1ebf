"""The plan of an exported module, independent of the API: calls, submodules, names and sizes.

Graph -> grouping.plan_export -> ExportPlan of Steps -> submodules.find_submodules
"""

__all__ = ["grouping", "names", "sizes", "steps", "submodules"]
