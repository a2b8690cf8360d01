"""Where the evidence lies: one small function for each method, one registry."""

from cxr_core.attribution.activation import class_activation
from cxr_core.attribution.gradients import COMPLETE, gauss_legendre, integrate
from cxr_core.attribution.registry import (
    Attribution,
    Baseline,
    Method,
    Progress,
    Question,
    explain,
    get_method,
    list_methods,
    register_method,
)

__all__ = [
    "COMPLETE",
    "Attribution",
    "Baseline",
    "Method",
    "Progress",
    "Question",
    "class_activation",
    "explain",
    "gauss_legendre",
    "get_method",
    "integrate",
    "list_methods",
    "register_method",
]
