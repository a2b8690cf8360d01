"""Where the evidence lies: one small function for each method, one registry."""

from cxr_core.attribution import regions as regions  # where XRAI registers itself
from cxr_core.attribution.activation import class_activation, class_activations
from cxr_core.attribution.baselines import load_mean_film
from cxr_core.attribution.checks import DISAGREE, UNSTABLE, MapCheck, examine
from cxr_core.attribution.gradients import COMPLETE, Integral, gauss_legendre, integrate
from cxr_core.attribution.perturbation import occluded
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
    "DISAGREE",
    "UNSTABLE",
    "Attribution",
    "Baseline",
    "Integral",
    "MapCheck",
    "Method",
    "Progress",
    "Question",
    "class_activation",
    "class_activations",
    "examine",
    "explain",
    "gauss_legendre",
    "get_method",
    "integrate",
    "list_methods",
    "load_mean_film",
    "occluded",
    "register_method",
]
