"""The weight of quantized modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lowbit.spec import FormatSpec
from lowbit.tensor import QuantTensor, canonical_bytes

_PARTS = ("codes", "scale", "zero", "scale2", "table")


class QuantWeight(nn.Module):
    """A QuantTensor as buffers of a module, in the layout that kernels read.

    A linear and an embedding that are tied hold the same QuantWeight, so they stay tied under ``to``, ``deepcopy`` and
    pickle. ``state_dict`` is canonical. ``to(dtype)`` leaves codes and scales as they are: their types belong to the
    format.
    """

    def __init__(self, tensor: QuantTensor) -> None:
        super().__init__()
        self._hold(tensor)

    def _hold(self, tensor: QuantTensor) -> None:
        tensor = tensor.prepack()
        self.spec: FormatSpec = tensor.spec
        self.rows, self.cols = tensor.shape
        self.format = tensor.spec.text_with_layout
        for name in _PARTS:
            self.register_buffer(name, getattr(tensor, name))

    @property
    def shape(self) -> torch.Size:
        return torch.Size((self.rows, self.cols))

    @property
    def nbytes(self) -> int:
        """Bytes in a checkpoint."""
        rest = (t for name, t in self._buffers.items() if name != "codes" and t is not None)
        return canonical_bytes(self.spec, self.rows, self.cols) + sum(t.numel() * t.element_size() for t in rest)

    def tensor(self) -> QuantTensor:
        """The weight as a plain object, canonical."""
        return self._view().canonical()

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The values, [rows, cols]."""
        return self._view().dequantize(dtype)

    def extra_repr(self) -> str:
        return f"{self.rows}, {self.cols}, format={self.format}"

    def _view(self) -> QuantTensor:
        parts: dict[str, Any] = {name: self._buffers[name] for name in _PARTS}
        return QuantTensor(**parts, spec=self.spec, shape=(self.rows, self.cols))

    def _apply(self, fn: Any, recurse: bool = True) -> QuantWeight:
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = self._buffers[name]
            if old is None or new is None:
                continue
            if new.dtype != old.dtype:
                new = old.to(new.device)
            # kernels of other devices read rows
            self._buffers[name] = new if new.device == old.device else new.contiguous()
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, part in self._view().state_dict().items():
            destination[prefix + name] = part

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        present = {name: state_dict[prefix + name] for name in _PARTS if prefix + name in state_dict}
        missing_keys.extend(prefix + name for name in _PARTS if self._buffers[name] is not None and name not in present)
        if missing_keys or not present:
            return
        try:
            self._hold(QuantTensor.from_state_dict(present, self.spec.text, (self.rows, self.cols)))
        except ValueError as error:
            error_msgs.append(f"{prefix[:-1]}: {error}")
