"""The runs of PerFIT's tables and figures, by the names that configs/perfit/{small,paper}.py take.

    python launch/perfit_experiment.py --experiment=table2 --config=configs/perfit/small.py --model=MODEL \
        --data=dolly:FILE --out=runs/table2
"""

_BOTH = ("pathological", "dirichlet")
_EQUAL = ("fit", "perfit,r12", "perfit,r16")
_UNEQUAL = ("fit,unequal", "perfit,unequal")

EXPERIMENTS = {
    # Perplexity on domain-specific data, equal and unequal resources.
    "table1": [f"{data},equal,{m}" for data in ("medalpaca", "codealpaca", "mathinstruct") for m in _EQUAL],
    "figure2": [f"{data},equal,{m}" for data in ("codealpaca", "mathinstruct") for m in _EQUAL],
    "figure3": [f"{data},equal,{m}" for data in ("codealpaca", "mathinstruct") for m in _UNEQUAL],
    # Dolly: equal resources, higher sparsity, unequal resources.
    "table2": [f"dolly,{split},{m}" for split in _BOTH for m in _EQUAL],
    "figure4": [f"dolly,{split},{m}" for split in _BOTH for m in (*_EQUAL, "perfit,r24")],
    "table3": [f"dolly,{split},{m}" for split in _BOTH for m in _UNEQUAL],
    "figure5": [f"dolly,{split},{m}" for split in _BOTH for m in _UNEQUAL],
    "figure6": [f"dolly,dirichlet,{m},{k}" for k in ("k5", "k20") for m in _EQUAL],
    "figure7": [f"dolly,{split},perfit,r16" for split in _BOTH],
    "figure8": [f"dolly,pathological,perfit,r16,{metric}" for metric in ("first", "second", "mixed")],
    # Not in the paper: dispatch from the global module (Section 4.1) instead of to the selected clients (Algorithm 2).
    "dispatch": [
        f"dolly,{split},{m},global" for split in _BOTH for m in ("perfit,r12", "perfit,r16", "perfit,unequal")
    ],
    # Section 5.2, "Impact of Initialization".
    "initialization": [f"dolly,pathological,{m},{i}" for m in ("fit", "perfit,r12") for i in ("uniform", "gaussian")],
}
