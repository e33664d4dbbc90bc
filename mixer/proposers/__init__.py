"""The algorithms for dynamic mixing that come with Switchpoint. Standard library and NumPy only.

`Softmax` follows the losses; `Ado` the speed at which they fall. What they are held to is in `mixer.rails`, what
becomes of their proposals in `mixer.proposing`. Another algorithm is any class with the four members of
`mixer.proposing.Proposer`.
"""

from mixer.proposers.ado import Ado
from mixer.proposers.scaling_law import ScalingLaw, fit_scaling_law
from mixer.proposers.softmax import Softmax

__all__ = ["Ado", "ScalingLaw", "Softmax", "fit_scaling_law"]
