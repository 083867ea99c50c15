"""Caching of results until parameters change."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from operator import is_not
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from pgnn.factors.inference_mode import make_ordinary
from pgnn.factors.piece import Listed


class CachingModule(Listed):
    """A module that caches results derived from its structure and from its parameters.

    Attributes:
        detached: Whether answers are detached from learnable parameters, as after a fit, until
            :meth:`requires_grad_` or :meth:`train` is called. Gradients with respect to evidence
            and inputs are not affected.
    """

    detached: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[Hashable, Any] = {}

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """See :meth:`torch.nn.Module.requires_grad_`; answers become differentiable again."""
        self.detached = False
        return super().requires_grad_(requires_grad)

    def refresh_parameters(self) -> None:
        """Refresh the list of parameters if modules have changed."""
        if self._cache.get("registrations") != _registrations[0]:
            self._list_parameters()

    def cached(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return a cached result that depends only on the structure."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def cached_numbers(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return a result that depends on the parameters, computed again when one has changed.

        Results that require gradients are not cached, since their graph can be used only once.
        Changes in place and replaced parameters are detected; writes to ``parameter.data`` are
        not, since torch does not record them: use ``torch.no_grad()``.
        """
        cache = self._cache
        if cache.get("registrations") != _registrations[0]:
            self._list_parameters()
        parameters, arguments = cache["parameters"], self.argument_tensors()
        # these visit all parameters in each query: loops in C take half the time
        if torch.is_grad_enabled() and (
            (not self.detached and any(map(_wants_gradient, parameters)))
            or any(map(_wants_gradient, arguments))
        ):
            return make()
        if arguments:
            parameters = [*parameters, *arguments]
        now = [*map(_version, parameters), *map(Tensor.data_ptr, parameters)]
        before, numbers = cache.get("numbers", (None, {}))
        if before != now:
            cache["numbers"] = now, (numbers := {})
        if key not in numbers:
            with torch.no_grad():
                numbers[key] = make()
        return numbers[key]

    def _wants_gradients(self) -> bool:
        """Whether answers are differentiable with respect to the parameters."""
        if self.detached or not torch.is_grad_enabled():
            return False
        self.refresh_parameters()
        return any(map(_wants_gradient, self._cache["parameters"]))

    def argument_tensors(self) -> Sequence[Tensor]:
        """Return additional tensors on which results depend, always the same ones."""
        return ()

    def _list_parameters(self) -> None:
        """Refresh the list of parameters; results of replaced ones are dropped."""
        registrations = _registrations[0]
        before = self._cache.get("parameters", [])
        parameters = [*self.parameters(), *self.buffers()]
        if any(x.is_inference() for x in parameters):
            make_ordinary(self)
            parameters = [*self.parameters(), *self.buffers()]
        # torch gives sparse tensors no address: they are taken for constants
        parameters = [x for x in parameters if x.layout is torch.strided]
        if len(parameters) != len(before) or any(map(is_not, parameters, before)):
            self._cache.pop("numbers", None)
        self._cache["parameters"] = parameters
        self._cache["registrations"] = registrations

    def train(self, mode: bool = True) -> Self:
        """See :meth:`torch.nn.Module.train`; clears the cache: modules such as dropout change.

        In training mode answers are differentiable again.
        """
        self._cache.clear()
        if mode:
            self.detached = False
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._cache.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """See :meth:`torch.nn.Module.load_state_dict`."""
        self._cache.clear()
        return super().load_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}


_wants_gradient = vars(torch._C.TensorBase)["requires_grad"].__get__
_version = vars(torch._C.TensorBase)["_version"].__get__
_registrations = [0]


def _count_registration(*_: Any) -> None:
    _registrations[0] += 1


# Visiting all modules at each query would cost more than the answer. So registrations of
# parameters, buffers and submodules are counted, and parameters are listed only after new ones.
register_module_parameter_registration_hook(_count_registration)
register_module_buffer_registration_hook(_count_registration)
register_module_module_registration_hook(_count_registration)
