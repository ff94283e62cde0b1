"""Why a plan is as it is: what bounds the step, why each transfer exists, what another cut of a
layer would have cost."""
