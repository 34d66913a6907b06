# SPDX-License-Identifier: MIT
"""`poseren import-caffe` and `poseren export`: convert the authors' weights, and write models for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from poseren_ext.cli import options


def import_caffe_command(
    file: Annotated[
        Path,
        typer.Argument(
            help="The refinement network <dataset>_pose_ren*.caffemodel, or a REN: model_<dataset>_ren_*.caffemodel."
        ),
    ],
    dataset: Annotated[
        options.Dataset,
        typer.Option("--dataset", case_sensitive=False, help="Dataset that the weights were trained on."),
    ],
    init: Annotated[
        Path | None,
        typer.Option("--init", help="The Init-CNN. Default: FILE with 'baseline' for 'pose_ren' in its name."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The model to write. Default: FILE with the ending .safetensors.")
    ] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Convert the authors' released Caffe weights to a safetensors model; every layer's name and shape is checked.

    Nothing in the files is executed. The authors license their weights for non-commercial research only.

    [bold]Examples[/bold]

    poseren import-caffe nyu_pose_ren.caffemodel --dataset nyu --out nyu.safetensors

    poseren import-caffe msra_pose_ren_3.caffemodel --init msra_baseline_3.caffemodel --dataset msra

    poseren import-caffe model_icvl_ren_9x6x6.caffemodel --dataset icvl
    """
    from poseren_ext.cli._console import say
    from poseren_ext.models import save
    from poseren_ext.models.caffe import import_caffe

    out = file.with_suffix(".safetensors") if out is None else out
    options.check_outputs(out, overwrite=overwrite)
    model = import_caffe(file, dataset, init=init)
    save(model, out)
    weights = sum(parameter.numel() for parameter in model.parameters())
    say(f"{out}: {model.skeleton.name}, {model.config.hand} hand, {weights / 1e6:.1f} million weights")


def export_command(
    out: Annotated[Path, typer.Argument(help="FILE.onnx, or FILE.pt2 for a C++ package compiled for this machine.")],
    model: options.Model = "demo",
    stages: options.Stages = 3,
    hand: options.HandOption = None,
    depth_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--range",
            metavar="NEAR FAR",
            help="Depths in mm between which the hand is the only thing. The centre is then computed in the graph, as "
            "the mean of the pixels in this range, and is no input. Default: the caller detects the hand.",
        ),
    ] = None,
    detect: Annotated[
        tuple[int, int] | None,
        typer.Option(
            "--detect",
            help="Height and width of the frames: detect the hand in the graph, with the bundled network.",
        ),
    ] = None,
    depth_unit: Annotated[
        float, typer.Option("--depth-unit", help="Millimetres per stored unit, such as 0.125 for SR300 and SR305.")
    ] = 1.0,
    opset: Annotated[int, typer.Option("--opset", help="ONNX: version of the standard operators, 18 or later.")] = 20,
    overwrite: options.Overwrite = False,
) -> None:
    """Export the estimator, depth to joints, to other runtimes: ONNX in standard operators, or an AOTInductor package.

    Inputs: depth [B, H, W] (ONNX float32, package uint16), center [B, 3] (u, v, mm), camera [B, 4] (fx, fy, cx, cy).
    Outputs: joints [B, J, 3] in mm, uvd [B, J, 3]. With --detect or --range, center is an output instead: whole frames
    in, joints out. examples/cpp runs such a package.

    [bold]Examples[/bold]

    poseren export hand.onnx --model nyu.safetensors

    poseren export hand.onnx --detect 480 640 --stages 2
    """
    from poseren_ext.cli._console import say
    from poseren_ext.models.files import load_model

    if out.suffix not in (".onnx", ".pt2"):
        raise typer.BadParameter(f"{out}; expected a name that ends in .onnx or .pt2", param_hint="OUT")
    options.check_outputs(out, overwrite=overwrite)
    if detect and depth_range:
        raise typer.BadParameter("not together with --range: each finds the hand in another way", param_hint="--detect")
    estimator = load_model(model)
    settings: dict[str, Any] = {
        "stages": stages,
        "hand": hand,
        "depth_range": depth_range,
        "detect": detect,
        "depth_unit": depth_unit,
    }
    if out.suffix == ".onnx":
        from poseren_ext.export import export_onnx

        export_onnx(estimator, out, opset=opset, **settings)
    else:
        from poseren_ext.export import export_package

        export_package(estimator, out, **settings)
    say(f"{out}: {estimator.skeleton.name}, {stages} stages, {out.stat().st_size / 1e6:.1f} MB")
