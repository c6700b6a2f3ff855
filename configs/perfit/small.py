"""PerFIT and its baselines on a small pretrained model and a few thousand instructions: minutes on two CPU cores.

    python -m launch.perfit_train --config=configs/perfit/small.py:fit --config.model=MODEL --config.data=dolly:FILE \
        --workdir=runs/fit
    python -m launch.perfit_train --config=configs/perfit/small.py:perfit,r16 --config.model=MODEL \
        --config.data=dolly:FILE --workdir=runs/perfit-r16
    python -m launch.plot --workdir=runs/fit,runs/perfit-r16 --out=figures

The argument is a list of names, each of which sets a field; configs/experiments lists the runs of each table and
figure.

    dolly medalpaca codealpaca mathinstruct     data
    pathological dirichlet equal                split
    fit perfit local                            method
    r12 r16 r24                                 sparsity 1/3, 1/2, 2/3: PerFIT prunes from that rank to 8
    unequal                                     sparsity 0, 1/4, 1/2 for a third of the clients each
    first second mixed                          importance metric
    vanilla gaussian uniform                    initialization of the LoRA
    selected global                             dispatch
    k5 k20                                      5 or 20 % of the clients in a round

Cost with a Llama of 260,032 parameters: one to two minutes a run on two CPU cores. Expected after round 10
(pathological): perplexity 35 for FIT, 49 for perfit,r12, 54 for perfit,r16; docs/results.md says why PerFIT is worse.
"""

from ml_collections import ConfigDict

from configs import names

SETTINGS = {
    **{name: {"data": name} for name in ("dolly", "medalpaca", "codealpaca", "mathinstruct")},
    **{name: {"split": name} for name in ("pathological", "dirichlet", "equal")},
    **{name: {"method": name} for name in ("fit", "perfit", "local")},
    "r12": {"sparsity": (1 / 3,)},
    "r16": {"sparsity": (1 / 2,)},
    "r24": {"sparsity": (2 / 3,)},
    "unequal": {"sparsity": (0.0, 0.25, 0.5)},
    "k5": {"clients_per_round": 2},
    "k20": {"clients_per_round": 8},
    **{name: {"metric": name} for name in ("first", "second", "mixed")},
    **{name: {"init": name} for name in ("vanilla", "gaussian", "uniform")},
    **{name: {"dispatch": name} for name in ("selected", "global")},
}


def get_config(setting: str = "") -> ConfigDict:
    """Every field reaches the code; what they mean stands in `perfit_jax.search`, `perfit` and `experiment.train`."""
    config = ConfigDict(
        {
            "model": "",  # a Hugging Face folder
            "data": "dolly",  # a known name, a file, or name:file (profit_jax/data/instructions.py)
            "category": "",  # the column of classes, where it is not the usual one
            "rows": 0,  # rows drawn from the data first, 0 = all
            "split": "pathological",  # pathological, dirichlet, equal
            "clients": 40,
            "size": 40,  # examples of a client, of Dirichlet's on average; 0 = as many as there are
            "classes_per_client": 2,  # of the pathological split
            "beta": 0.5,  # of the Dirichlet split
            "test_fraction": 0.2,
            "method": "perfit",  # perfit, fit, local
            "start": "",  # of method local: a FIT run's workdir, or a PEFT folder, to start from, or nothing
            "rank": 8,  # r, whose parameters a client trains (of unequal resources, the smallest group's)
            "sparsity": (0.5,),  # one number, or one for each group of clients
            "targets": ("q", "k", "v"),
            "init": "auto",  # vanilla, gaussian, uniform; auto: gaussian for perfit, else vanilla
            "init_deviation": 0.0,  # the standard deviation of that, 0 = 1 / sqrt(width)
            "metric": "first",  # first, second, mixed
            "scope": "client",  # client, module: what is ranked together
            "pruning_epochs": 3,
            "mini_batch": 8,  # of the search
            "dispatch": "selected",  # selected, global
            "rounds": 10,
            "seed": 0,
            "clients_per_round": 20,
            "local_epochs": 1,
            "batch_size": 8,
            "weighting": "examples",  # uniform, examples
            "reduction": "token",  # token, example
            "client_optimizer": {
                "name": "adam",
                "learning_rate": 2e-2,
                "adam": {"b1": 0.9, "b2": 0.99, "eps": 1e-8},
            },
            "last_learning_rate": 4e-4,  # where the cosine over rounds ends
            "evaluate_every": 1,
            "checkpoint_every": 10,
            "max_query": 80,
            "max_target": 32,
            "dtype": "float32",  # float32, bfloat16: of the backbone's weights and of computation
            "quantize": "",  # int8: the backbone's matrices in 8 bits
            "remat": False,
            "row_width": 16,  # positions of a row, of which a text takes whole ones
            "positions_per_flight": 1792,  # 0: what a trial finds
            "slack": 0.5,
            "clients_at_once": 20,
        }
    )
    return names.apply(config, setting, SETTINGS)
