"""Results that a model keeps until its parameters change."""

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
    """A module that keeps what was derived from its structure and from its parameters.

    Attributes:
        detached: Whether answers are plain numbers although parameters may be learned. So they are
            after a fit, until :meth:`requires_grad_` asks for gradients by the parameters; those
            by evidence and inputs that require them flow all the same.
    """

    detached: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[Hashable, Any] = {}

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """See :meth:`torch.nn.Module.requires_grad_`; answers may be differentiated again."""
        self.detached = False
        return super().requires_grad_(requires_grad)

    def look_parameters_up(self) -> None:
        """List the parameters anew if a module has got others, and make ordinary ones of them."""
        if self._cache.get("registrations") != _registrations[0]:
            self._look_parameters_up()

    def cached(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return a result that depends on structure alone, made once."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def cached_numbers(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return a result that depends on the parameters, made anew when one has changed.

        Nothing is kept where gradients are wanted: their graph can be walked only once. Changes
        in place are noticed, and so are parameters that were replaced; not writes through
        ``parameter.data``, of which torch itself keeps no record: use ``torch.no_grad()``.
        """
        cache = self._cache
        if cache.get("registrations") != _registrations[0]:
            self._look_parameters_up()
        parameters, arguments = cache["parameters"], self.argument_tensors()
        # these run through all parameters at each question: loops in C take half the time
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
        """Whether somebody asked for gradients by the parameters."""
        if self.detached or not torch.is_grad_enabled():
            return False
        self.look_parameters_up()
        return any(map(_wants_gradient, self._cache["parameters"]))

    def argument_tensors(self) -> Sequence[Tensor]:
        """Return tensors besides parameters and buffers that numbers depend on, always the same."""
        return ()

    def _look_parameters_up(self) -> None:
        """List the parameters anew; numbers of others, even at the same address, are dropped."""
        registrations = _registrations[0]
        before = self._cache.get("parameters", [])
        parameters = [*self.parameters(), *self.buffers()]
        if any(x.is_inference() for x in parameters):
            make_ordinary(self)
            parameters = [*self.parameters(), *self.buffers()]
        if len(parameters) != len(before) or any(map(is_not, parameters, before)):
            self._cache.pop("numbers", None)
        self._cache["parameters"] = parameters
        self._cache["registrations"] = registrations

    def train(self, mode: bool = True) -> Self:
        """See :meth:`torch.nn.Module.train`; parts such as dropout compute something else now."""
        self._cache.clear()
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


# Walking over all modules at each query would cost more than the answer. So any module's getting
# a parameter, buffer or submodule is counted, and only then models look their own parameters up.
register_module_parameter_registration_hook(_count_registration)
register_module_buffer_registration_hook(_count_registration)
register_module_module_registration_hook(_count_registration)
