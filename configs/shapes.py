"""Shapes of models whose weights are not at hand: of launch/bench.py with random weights, of launch/plan.py with none.

Fields of `BackboneConfig`. PaLM's weights are not public, its architecture is (Chowdhery et al. 2022).
"""

SHAPES = {
    "small": {
        "width": 288,
        "layers": 6,
        "heads": 6,
        "key_value_heads": 6,
        "head_width": 48,
        "mlp_width": 768,
        "vocabulary": 32_000,
        "tied_embeddings": False,
    },
    "llama_110m": {
        "width": 768,
        "layers": 12,
        "heads": 12,
        "key_value_heads": 12,
        "head_width": 64,
        "mlp_width": 2048,
        "vocabulary": 32_000,
        "tied_embeddings": True,
    },
    "llama2_7b": {
        "width": 4096,
        "layers": 32,
        "heads": 32,
        "key_value_heads": 32,
        "head_width": 128,
        "mlp_width": 11_008,
        "vocabulary": 32_000,
        "tied_embeddings": False,
    },
    "palm_8b": {
        "family": "palm",
        "width": 4096,
        "layers": 32,
        "heads": 16,
        "key_value_heads": 1,
        "head_width": 256,
        "mlp_width": 16_384,
        "vocabulary": 256_000,
        "tied_embeddings": True,
        "norm": "layer",
        "parallel": True,
        "shared_norm": True,
    },
}
