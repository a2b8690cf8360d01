"""How the gate's own network is made: what it is shown, trained, limited, measured, shipped.

`films` deals the films and pictures, `pictures` makes faults and what is no film, `fit`
trains, `trainings` names every training, `limits` chooses on validation films, `record` and
`protocol` measure on what nobody trained on, `claims` puts in words what that shows. Run by
`python -m cxr_core train gate`.
"""

from cxr_core.gate_training.protocol import train_gate

__all__ = ["train_gate"]
