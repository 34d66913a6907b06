# SPDX-License-Identifier: MIT
"""The contract of every op: the test class of an op derives from OpContract and defines how to call it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from poseren_ext import reference
from poseren_ext.ops import _native

Arguments = dict[str, Any]
Implementation = tuple[ModuleType, str]
"""`ops` or `reference`, and the torch device of its tensors."""


class OpContract:
    """Derive, set the class attributes and write ``arguments``; all tests here then run for the op."""

    name: ClassVar[str]
    """The op's name: of the Python function, of its reference and of the native op."""
    main: ClassVar[str]
    """The argument whose type and memory layout the op must not care about: [B, ...]."""
    dtypes: ClassVar[Sequence[torch.dtype]]
    """Types that the main argument may have."""
    refused_dtypes: ClassVar[Sequence[torch.dtype]] = (torch.bool, torch.complex64, torch.int64)
    batched: ClassVar[Sequence[str]]
    """The tensor arguments that lead with a batch axis, the main one among them."""
    output_axes: ClassVar[Sequence[int]] = (0,)
    """The batch axis of each output."""
    tolerance: ClassVar[dict[torch.dtype, float]] = {}
    """Largest difference from the reference by the output's type, relative and absolute; exact where not given."""
    differentiable: ClassVar[Sequence[str]] = ()
    """The arguments that have a gradient."""
    gradcheck_options: ClassVar[Arguments] = {}
    """Tolerances of gradcheck, for ops that do not take float64."""

    def function(self, **arguments: Any) -> Any:
        """The public function under test."""
        from poseren_ext import ops

        return getattr(ops, self.name)(**arguments)

    def reference(self, **arguments: Any) -> Any:
        return getattr(reference, self.name)(**arguments)

    def arguments(self, device: str, dtype: torch.dtype, batch: int = 3) -> Arguments:
        """Typical arguments of the public function, random but seeded."""
        raise NotImplementedError

    def native_arguments(self, arguments: Arguments) -> tuple[Any, ...]:
        """The same as positional arguments of the native op, for opcheck."""
        raise NotImplementedError

    def gradcheck_arguments(self, device: str) -> Arguments:
        """A small case, away from the kinks of the function."""
        raise NotImplementedError

    # --- the contract ----------------------------------------------------------------------------------------------

    @staticmethod
    def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
        if "dtype" in metafunc.fixturenames:
            metafunc.parametrize("dtype", metafunc.cls.dtypes, ids=short)
        if "refused_dtype" in metafunc.fixturenames:
            metafunc.parametrize("refused_dtype", metafunc.cls.refused_dtypes, ids=short)
        if "layout" in metafunc.fixturenames:
            metafunc.parametrize("layout", LAYOUTS)

    def test_equals_the_reference(self, device: str, dtype: torch.dtype, layout: str) -> None:
        arguments = self.arguments(device, dtype)
        expected = self.reference(**arguments)
        arguments[self.main] = LAYOUTS[layout](arguments[self.main])
        self.assert_close(self.function(**arguments), expected)

    def test_every_companion_may_be_strided(self, device: str) -> None:
        arguments = self.arguments(device, self.dtypes[0])
        expected = outputs(self.function(**arguments))
        for name in self.batched:
            arguments[name] = LAYOUTS["strided"](arguments[name])
        assert_same_bits(outputs(self.function(**arguments)), expected)

    def test_takes_and_gives_back_an_empty_batch(self, device: str, dtype: torch.dtype) -> None:
        some = outputs(self.function(**self.arguments(device, dtype)))
        none = outputs(self.function(**self.arguments(device, dtype, batch=0)))
        for axis, whole, empty in zip(self.output_axes, some, none, strict=True):
            assert (empty.dtype, empty.device) == (whole.dtype, whole.device)
            assert list(empty.shape) == [*whole.shape[:axis], 0, *whole.shape[axis + 1 :]]

    def test_the_batch_axis_may_be_left_out(self, device: str, dtype: torch.dtype) -> None:
        arguments = self.arguments(device, dtype)
        expected = outputs(self.function(**arguments))
        for name in self.batched:
            arguments[name] = arguments[name][1]
        single = outputs(self.function(**arguments))
        chosen = [whole.select(axis, 1) for axis, whole in zip(self.output_axes, expected, strict=True)]
        assert_same_bits(single, chosen)

    def test_samples_do_not_touch_each_other(self, device: str) -> None:
        arguments = self.arguments(device, self.dtypes[0], batch=4)
        expected = outputs(self.function(**arguments))
        order = torch.tensor([2, 0, 3, 1], device=device)
        for name in self.batched:
            arguments[name] = arguments[name].to("cpu")[order.cpu()].to(device)
        shuffled = outputs(self.function(**arguments))
        moved = [whole.index_select(axis, order) for axis, whole in zip(self.output_axes, expected, strict=True)]
        assert_same_bits(shuffled, moved)

    def test_gives_the_same_bits_each_time_and_for_any_thread_count(self, device: str, dtype: torch.dtype) -> None:
        arguments = self.arguments(device, dtype, batch=5)
        first = self.forward_and_backward(arguments)
        threads = torch.get_num_threads()
        try:
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                assert_same_bits(self.forward_and_backward(arguments), first)
        finally:
            torch.set_num_threads(threads)

    def test_refuses_other_types(self, device: str, refused_dtype: torch.dtype) -> None:
        arguments = self.arguments(device, self.dtypes[0])
        arguments[self.main] = arguments[self.main].to(refused_dtype)
        with pytest.raises(TypeError, match=rf"{self.main} has dtype .*; expected .* \.to\("):
            self.function(**arguments)

    def test_refuses_what_is_no_tensor(self, device: str) -> None:
        for name in self.batched:
            arguments = self.arguments(device, self.dtypes[0])
            arguments[name] = "no tensor"
            with pytest.raises(TypeError, match=name):
                self.function(**arguments)

    def test_refuses_tensors_of_two_devices(self, device: str) -> None:
        for name in self.batched:
            if name == self.main:
                continue
            arguments = self.arguments(device, self.dtypes[0])
            arguments[name] = arguments[name].to("meta")
            with pytest.raises(ValueError, match=rf"{name}.* move .* one device"):
                self.function(**arguments)

    def test_refuses_other_ranks_and_batches(self, device: str) -> None:
        for name in self.batched:
            arguments = self.arguments(device, self.dtypes[0])
            arguments[name] = arguments[name][None, None]
            with pytest.raises(ValueError, match=rf"{name}.*shape.*expected"):
                self.function(**arguments)
            if name != self.main:
                arguments[name] = arguments[name][0, 0, :2]
                with pytest.raises(ValueError, match=r"expected"):
                    self.function(**arguments)

    def test_passes_opcheck(self, device: str, dtype: torch.dtype) -> None:
        arguments = self.arguments(device, dtype)
        for requires_grad in {False, self.takes_gradients(arguments)}:
            if requires_grad:
                arguments = self.with_gradients(arguments)
            torch.library.opcheck(getattr(_native.ops, self.name).default, self.native_arguments(arguments))

    def test_passes_gradcheck(self, device: str) -> None:
        if not self.differentiable:
            return
        arguments = self.gradcheck_arguments(device)
        tensors = [arguments[name].requires_grad_() for name in self.differentiable]

        def function(*values: Tensor) -> Any:
            return self.function(**{**arguments, **dict(zip(self.differentiable, values, strict=True))})

        assert torch.autograd.gradcheck(function, tensors, **self.gradcheck_options)

    def test_compiles_to_one_graph(self, device: str) -> None:
        arguments = self.arguments(device, self.dtypes[0])
        if self.takes_gradients(arguments):
            arguments = self.with_gradients(arguments)
        expected = self.forward_and_backward(arguments)
        torch._dynamo.reset()
        compiled = torch.compile(self.call(arguments), fullgraph=True, backend="aot_eager")
        assert_same_bits(self.forward_and_backward(arguments, compiled), expected)

    def test_exports(self, device: str) -> None:
        arguments = self.arguments(device, self.dtypes[0])
        call = self.call(arguments)

        class Module(torch.nn.Module):
            def forward(self, *tensors: Tensor) -> Any:
                return call(*tensors)

        tensors = tuple(arguments[name] for name in self.batched)
        batch = torch.export.Dim("batch", min=2, max=64)
        shapes = tuple({0: batch} for _ in tensors)
        program = torch.export.export(Module(), tensors, dynamic_shapes={"tensors": shapes})
        more = self.arguments(device, self.dtypes[0], batch=5)
        expected = outputs(self.function(**more))
        assert_same_bits(outputs(program.module()(*(more[name] for name in self.batched))), expected)

    def test_keeps_its_types_under_autocast(self, device: str, dtype: torch.dtype) -> None:
        arguments = self.arguments(device, dtype)
        expected = outputs(self.function(**arguments))
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            assert_same_bits(outputs(self.function(**arguments)), expected)

    def test_vmap_is_a_loop(self, device: str, dtype: torch.dtype) -> None:
        batches = [self.arguments(device, dtype, batch=2) for _ in range(3)]
        expected = [outputs(self.function(**arguments)) for arguments in batches]
        stacked = [torch.stack([arguments[name] for arguments in batches], 1) for name in self.batched]
        mapped = torch.func.vmap(self.call(batches[0]), in_dims=1)(*stacked)
        assert_same_bits(outputs(mapped), [torch.stack(parts) for parts in zip(*expected, strict=True)])

    # --- helpers ---------------------------------------------------------------------------------------------------

    def call(self, arguments: Arguments) -> Callable[..., Any]:
        """The function of the batched tensors alone, in their order."""
        rest = {name: value for name, value in arguments.items() if name not in self.batched}

        def call(*tensors: Tensor) -> Any:
            return self.function(**dict(zip(self.batched, tensors, strict=True)), **rest)

        return call

    def takes_gradients(self, arguments: Arguments) -> bool:
        return any(arguments[name].is_floating_point() for name in self.differentiable)

    def with_gradients(self, arguments: Arguments) -> Arguments:
        return {
            name: value.detach().clone().requires_grad_()
            if name in self.differentiable and value.is_floating_point()
            else value
            for name, value in arguments.items()
        }

    def forward_and_backward(self, arguments: Arguments, call: Callable[..., Any] | None = None) -> list[Tensor]:
        """All outputs and, where there are, the gradients of a fixed weighted sum of them."""
        arguments = self.with_gradients(arguments)
        results = outputs((call or self.call(arguments))(*(arguments[name] for name in self.batched)))
        leaves = [value for value in arguments.values() if isinstance(value, Tensor) and value.requires_grad]
        if not leaves:
            return results
        total = sum(
            (part.double() * torch.linspace(-1, 1, part.numel(), device=part.device).reshape(part.shape)).nansum()
            for part in results
            if part.requires_grad
        )
        assert isinstance(total, Tensor)
        return [part.detach() for part in results] + list(torch.autograd.grad(total, leaves))

    def assert_close(self, actual: Any, expected: Any) -> None:
        for one, other in zip(outputs(actual), outputs(expected), strict=True):
            bound = self.tolerance.get(one.dtype, 0.0)
            torch.testing.assert_close(one, other, rtol=bound, atol=bound, equal_nan=True)


def outputs(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


def assert_same_bits(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _strided(tensor: Tensor) -> Tensor:
    """The same values in every second element of every axis of a larger tensor."""
    wide = torch.empty([2 * size + 1 for size in tensor.shape], dtype=tensor.dtype, device=tensor.device)
    view = wide[tuple(slice(1, None, 2) for _ in tensor.shape)]
    return view.copy_(tensor)


def _permuted(tensor: Tensor) -> Tensor:
    """The same values with the axes' order in memory reversed."""
    axes = tuple(reversed(range(tensor.dim())))
    return tensor.permute(axes).contiguous().permute(axes)


def _channels_last(tensor: Tensor) -> Tensor:
    """The second axis fastest in memory: channels_last for [B, C, H, W]."""
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": Tensor.contiguous,
    "channels_last": _channels_last,
    "permuted": _permuted,
    "strided": _strided,
}
