"""Nested training state to tensors plus JSON, and back exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

# Containers and tensors become objects with one of these keys; all else is a JSON scalar.
_DICT, _LIST, _TORCH, _NUMPY = "dict", "list", "torch", "numpy"


def flatten(state: object) -> tuple[Any, dict[str, torch.Tensor]]:
    """Splits a tree into JSON and tensors.

    Args:
        state: Dictionaries with str or int keys, lists, tuples, None, bool, int (any size), float,
            str, torch tensors, NumPy arrays and scalars.

    Returns:
        The JSON tree, whose leaves name tensors, and the tensors by name, on the CPU.

    Raises:
        TypeError: Something else is in it; the message says where.
    """
    tensors: dict[str, torch.Tensor] = {}
    return _flatten(state, "state", tensors), tensors


def _flatten(node: object, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, np.generic):
        node = node.item()
    if node is None or isinstance(node, (bool, str)):
        return node
    if isinstance(node, (int, float)):
        return float(node) if isinstance(node, float) else int(node)
    if isinstance(node, Mapping):
        for key in node:
            if isinstance(key, bool) or not isinstance(key, (int, str)):
                raise TypeError(f"{path}: got a key {key!r}, expected str or int")
        # Pairs, since JSON would turn the optimiser's integer keys to strings.
        return {_DICT: [[k, _flatten(v, f"{path}.{k}", tensors)] for k, v in node.items()]}
    if isinstance(node, (list, tuple)):
        return {_LIST: [_flatten(v, f"{path}[{i}]", tensors) for i, v in enumerate(node)]}
    if isinstance(node, torch.Tensor):
        # A copy: entries may share memory (tied weights), which the file format refuses.
        tensors[path] = node.detach().to("cpu", copy=True).contiguous()
        return {_TORCH: path}
    if isinstance(node, np.ndarray) and node.dtype.kind in "biufc":
        data = np.frombuffer(node.tobytes(), np.uint8).copy()
        tensors[path] = torch.from_numpy(data)
        return {_NUMPY: path, "dtype": node.dtype.str, "shape": list(node.shape)}
    raise TypeError(f"{path}: got {type(node).__name__}, expected a tensor, an array or JSON")


def restore(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The inverse of `flatten`; tuples come back as lists, NumPy scalars as Python's.

    Args:
        tree: The first of what `flatten` returned, perhaps from JSON.
        tensors: The second, by name.

    Raises:
        KeyError: A tensor is missing.
    """
    if not isinstance(tree, dict):
        return tree
    if _DICT in tree:
        return {key: restore(value, tensors) for key, value in tree[_DICT]}
    if _LIST in tree:
        return [restore(value, tensors) for value in tree[_LIST]]
    if _TORCH in tree:
        return tensors[tree[_TORCH]]
    array = np.frombuffer(tensors[tree[_NUMPY]].numpy().tobytes(), np.dtype(tree["dtype"]))
    return array.reshape(tree["shape"]).copy()
