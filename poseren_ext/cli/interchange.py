# SPDX-License-Identifier: MIT
"""`poseren import-caffe` and `poseren export`: the authors' weights in, other runtimes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_caffe_command(
    file: Annotated[Path, typer.Argument(help="The refining network: <dataset>_pose_ren*.caffemodel.")],
    dataset: Annotated[str, typer.Option("--dataset", help="nyu, icvl, msra or hands17: what the weights are of.")],
    init: Annotated[
        Path | None,
        typer.Option("--init", help="The Init-CNN. Default: beside FILE, 'baseline' in its name for 'pose_ren'."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The model. Default: FILE, ending in .safetensors.")
    ] = None,
) -> None:
    """Convert the authors' released Caffe weights to a model of ours, every layer's name and shape checked.

    Nothing in the files is executed. The authors give their weights for non-commercial research only.

    [bold]Examples[/bold]

    poseren import-caffe nyu_pose_ren.caffemodel --dataset nyu --out nyu.safetensors

    poseren import-caffe msra_pose_ren_3.caffemodel --init msra_baseline_3.caffemodel --dataset msra
    """
    from poseren_ext.cli._console import console
    from poseren_ext.models import save
    from poseren_ext.models.caffe import import_caffe

    out = file.with_suffix(".safetensors") if out is None else out
    model = import_caffe(file, dataset, init=init)
    save(model, out)
    weights = sum(parameter.numel() for parameter in model.parameters())
    console().print(f"{out}: {model.skeleton.name}, {model.config.hand} hand, {weights / 1e6:.1f} million weights")


def export_command(
    out: Annotated[Path, typer.Argument(help="FILE.onnx, or FILE.pt2: a package for C++, compiled for this machine.")],
    model: Annotated[str, typer.Option("--model", help="A safetensors file, or demo: the bundled model.")] = "demo",
    stages: Annotated[int, typer.Option("--stages", min=0, help="How often to refine.")] = 3,
    depth_unit: Annotated[
        float, typer.Option("--depth-unit", help="Millimetres per stored unit: 0.125 for SR300 and SR305.")
    ] = 1.0,
    opset: Annotated[int, typer.Option("--opset", help="ONNX: version of the standard operators, 18 or later.")] = 20,
) -> None:
    """Write the estimator, depth to joints, for other runtimes: ONNX in standard operators, or an AOTInductor package.

    Inputs: depth [B, H, W] (ONNX float32, package uint16), center [B, 3] (u, v, mm), camera [B, 4] (fx, fy, cx, cy).
    Outputs: joints [B, J, 3] in mm, uvd [B, J, 3]. examples/cpp runs a package.

    [bold]Examples[/bold]

    poseren export hand.onnx --model nyu.safetensors

    poseren export hand.pt2 --stages 2
    """
    from poseren_ext.cli._console import console
    from poseren_ext.models.files import load_model

    if out.suffix not in (".onnx", ".pt2"):
        raise typer.BadParameter(f"{out}; expected a name that ends in .onnx or .pt2", param_hint="OUT")
    estimator = load_model(model)
    if out.suffix == ".onnx":
        from poseren_ext.export import export_onnx

        export_onnx(estimator, out, stages=stages, depth_unit=depth_unit, opset=opset)
    else:
        from poseren_ext.export import export_package

        export_package(estimator, out, stages=stages, depth_unit=depth_unit)
    console().print(f"{out}: {estimator.skeleton.name}, {stages} stages, {out.stat().st_size / 1e6:.1f} MB")
